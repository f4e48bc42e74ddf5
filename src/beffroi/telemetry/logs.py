# SPDX-License-Identifier: Apache-2.0
"""Logs on standard error, the same in every process: readable lines on a terminal, else one JSON object a line.

In: a `Logger`'s events with their fields, and the standard library's records. Out: lines with `at`, `level`, `logger`,
`process`, `event`, fields; what looks like a secret is taken out. Redaction is the last net, not the rule: nobody hands
a key, a header or a text of a client to a log.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping

REDACTED = "[redacted]"
_SECRET = re.compile(
    r"bf-[0-9A-Za-z]{12}-[0-9A-Za-z]{8,}"  # a key of ours, whole or cut
    r"|(?i:(?<![a-z])(?:bearer|basic)\s+[^\s\"',;]{6,})"
    r"|(?i:(?:proxy-)?authorization\"?'?\s*[:=]\s*[^\r\n]+)"
    r"|(?i:(?<![a-z])(?:x-)?api[-_]key\"?'?\s*[:=]\s*[^\s,;}]+)"
    r"|(?<![0-9A-Za-z])sk-[0-9A-Za-z_-]{8,}"
)
_NAMES = frozenset(
    {"authorization", "proxy_authorization", "api_key", "apikey", "x_api_key", "secret", "password", "passwd"}
    | {"pepper", "peppers", "cookie", "set_cookie", "token"}
)
_DEPTH = 8
_FIELDS = "fields"  # where a record of ours carries them
_ITS_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNQUOTED = re.compile(r"[!-~]+")


def redact(value: object, depth: int = 0) -> object:
    """`value` with every text in it cleared of what looks like a secret."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return _SECRET.sub(REDACTED, value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            redact(name, depth + 1): REDACTED if _is_secret(name) else redact(item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    return _SECRET.sub(REDACTED, str(value))


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and name.lower().replace("-", "_") in _NAMES


class Logger:
    """Logs events of one name, each with its fields; `exc_info` takes an exception, whose traceback becomes a field.

    The standard library underneath, and not a logging library: each process of the tree, and each command, would pay a
    tenth of a second for that at its start.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """What only somebody who looks for a fault wants to know."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What has happened, as it should."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What should be looked at in time."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """What has failed."""
        self._log(logging.ERROR, event, fields, exc_info)

    def _log(self, level: int, event: str, fields: dict[str, object], error: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=error, extra={_FIELDS: fields})


class Lines(logging.Formatter):
    """One record as one JSON object in one line.

    Args:
        process: stands in each line, such as `control` or `w00`.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, cleared of what looks like a secret."""
        event, fields = self.read(record)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {
            "at": f"{at}.{int(record.created % 1 * 1e6):06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "event": event,
        }
        return json.dumps(fields | head if fields.keys() & head.keys() else head | fields, default=str)

    def read(self, record: logging.LogRecord) -> tuple[str, dict[str, object]]:
        """Its event and its fields, both cleared."""
        fields = getattr(record, _FIELDS, None)
        if fields is None:  # not ours: whatever was added to the record
            fields = {name: value for name, value in vars(record).items() if name not in _ITS_OWN}
        if record.exc_info and record.exc_info[0] is not None:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        cleared = {
            str(redact(name)): REDACTED if _is_secret(name) else redact(value, 1) for name, value in fields.items()
        }
        return str(redact(record.getMessage())), cleared


class ReadableLines(Lines):
    """One record as a line for a person: time of day, process, event, fields; a traceback follows on lines of its own."""

    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__(process)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line; no control character of a value reaches the terminal."""
        event, fields = self.read(record)
        trace = fields.pop("exception", None)
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        if self._colour and level:
            level = f"\x1b[{31 if record.levelno >= logging.ERROR else 33}m{level}\x1b[0m"
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        told = "".join(f"  {_plain(name)}={_plain(value)}" for name, value in fields.items())
        lines = "".join(f"\n    {_escaped(line)}" for line in str(trace).splitlines()) if trace else ""
        return f"{at} {self._process}: {level}{_escaped(event)}{told}{lines}"


def _plain(value: object) -> str:
    """A value as a person writes it, in quotes where its end would not be clear."""
    if isinstance(value, str) and _UNQUOTED.fullmatch(value):
        return value
    return _escaped(json.dumps(value, ensure_ascii=False, default=str))


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def configure(process: str, level: str = "info") -> None:
    """Set up this process's logs: for a person where standard error is a terminal, else for a program.

    Args:
        process: stands in each line, such as `control` or `w00`.
        level: debug, info, warning or error.
    """
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(ReadableLines(process, colour="NO_COLOR" not in os.environ))
    else:
        handler.setFormatter(Lines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
