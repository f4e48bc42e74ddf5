# SPDX-License-Identifier: Apache-2.0
"""Logs: one JSON object a line on standard error, the same in every process; what looks like a secret is taken out.

In: `structlog` calls, and the standard library's records. Out: lines with `at`, `level`, `logger`, `event`, fields.
Redaction is the last net, not the rule: nobody hands a key, a header or a text of a client to a log.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

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


def _redactor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {str(redact(name)): REDACTED if _is_secret(name) else redact(value, 1) for name, value in event.items()}


def configure(process: str, level: str = "info") -> None:
    """Set up this process's logs.

    Args:
        process: stands in each line, such as `control` or `w00`.
        level: debug, info, warning or error.
    """

    def named(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        named,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared[:-1],
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redactor,
                structlog.processors.JSONRenderer(sort_keys=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
