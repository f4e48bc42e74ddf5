# SPDX-License-Identifier: Apache-2.0
"""Logs as a process writes them: JSON lines, or readable ones on a terminal; and no canary gets through."""

import json
import os
import pty
import re
import subprocess
import sys

from beffroi.core.key import new_key
from beffroi.telemetry.logs import REDACTED, redact

KEY = new_key().text
CANARY = "c4n4ry5ecret"
HEAD = "import logging; from beffroi.telemetry.logs import Logger, configure; configure('w07'); log = Logger('here');"


def lines(code: str) -> list[dict[str, object]]:
    """What a process logs that runs `code` after configuring its logs."""
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_json_object_with_time_level_process_and_fields() -> None:
    """Ours and those of libraries alike; debug stays away."""
    ours, theirs = lines("log.info('hello', n=1); log.debug('no'); logging.getLogger('x').warning('a %s', 'b')")
    assert (ours["event"], ours["n"], ours["level"], ours["process"]) == ("hello", 1, "info", "w07")
    assert (theirs["event"], theirs["level"], theirs["logger"], theirs["process"]) == ("a b", "warning", "x", "w07")
    assert str(ours["at"]).endswith("Z")


def test_a_field_cannot_pass_for_what_the_line_says_of_itself() -> None:
    """Level, process and event are the log's own words."""
    (line,) = lines("log.warning('hello', level='info', process='other', n=1)")
    assert (line["level"], line["process"], line["n"]) == ("warning", "w07", 1)


def test_an_exception_is_a_field_with_its_traceback() -> None:
    """One line, whatever went wrong."""
    (line,) = lines("\ntry: 1 / 0\nexcept ZeroDivisionError as e: log.error('no', exc_info=e)")
    assert line["event"] == "no"
    assert str(line["exception"]).startswith("Traceback") and "ZeroDivisionError" in str(line["exception"])


def on_a_terminal(code: str, **env: str) -> str:
    """What a person sees whose terminal is the process's standard error."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "wb"):
            subprocess.run([sys.executable, "-c", HEAD + code], stderr=theirs, check=True, env=os.environ | env)
        return screen.read(65536).decode().replace("\r\n", "\n")


def test_on_a_terminal_a_line_is_for_a_person() -> None:
    """Time of day, process, event, fields; a warning says that it is one, in colour; no field is lost."""
    shown = on_a_terminal("log.info('applied', revision=3, file='a b.yaml'); log.warning('ended', child='w00')")
    first, second = shown.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d w07: applied  revision=3  file=\"a b.yaml\"", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d w07: \x1b\[33mwarning: \x1b\[0mended  child=w00", second)
    assert "\x1b" not in on_a_terminal("log.error('no')", NO_COLOR="1")


def test_what_a_value_holds_cannot_command_the_terminal() -> None:
    """Neither escape sequences nor line ends of a value arrive as such; nor does a secret."""
    shown = on_a_terminal(
        f"log.info('a\\x1b[2Jb\\nc', path='/\\x1b]0;x\\x07', more='\\x9b1m\\u202e', key='{KEY}')", NO_COLOR="1"
    )
    assert len(shown.splitlines()) == 1
    assert all(c.isprintable() for c in shown.removesuffix("\n"))
    assert REDACTED in shown and KEY[20:36] not in shown


def test_on_a_terminal_a_traceback_follows_its_line() -> None:
    """Indented, so that the next event is found."""
    shown = on_a_terminal("\ntry: 1 / 0\nexcept ZeroDivisionError as e: log.error('no', exc_info=e, n=1)", NO_COLOR="1")
    first, *trace = shown.splitlines()
    assert first.endswith("w07: error: no  n=1")
    assert (
        trace[0] == "    Traceback (most recent call last):" and trace[-1] == "    ZeroDivisionError: division by zero"
    )


SECRETS = [
    f"log.info('got {KEY}')",
    f"log.info('x', value='{KEY}')",
    f"log.info('x', value=['a', {{'b': ('{KEY}',)}}])",
    f"log.info('x', value=b'{KEY}')",
    f"log.info('x', **{{'{KEY}': 1}})",
    f"log.info('x', value='{KEY[:30]}')",
    f"log.info('x', headers={{'Authorization': 'Basic {CANARY}'}})",
    f"log.info('x', head='GET / HTTP/1.1\\r\\nAuthorization: Digest {CANARY}\\r\\nHost: a')",
    f"log.info('x', value='Bearer {CANARY}')",
    f"log.info('x', value='bearer   {CANARY}')",
    f"log.info('x', api_key='{CANARY}', cookie='{CANARY}', password='{CANARY}')",
    f"log.info('x', value='X-Api-Key: {CANARY}')",
    f"log.info('x', value='sk-proj-{CANARY}')",
    f"log.error('x', exc_info=ValueError('{KEY}'))",
    f"logging.getLogger('y').error('%s', '{KEY}')",
    f"logging.getLogger('y').error('x', extra={{'authorization': '{CANARY}'}})",
    f"log.info('x', value=type('T', (), {{'__repr__': lambda self: '{KEY}'}})())",
]


def test_no_secret_gets_through() -> None:
    """Whatever way it came in: each of these logs one line, and each line has lost its secret."""
    logged = lines("\n" + "\n".join(SECRETS))
    assert len(logged) == len(SECRETS)
    for line in logged:
        text = json.dumps(line)
        assert REDACTED in text
        assert CANARY not in text and KEY[20:36] not in text, text


def test_what_is_no_secret_stays() -> None:
    """A net that catches everything would be taken down."""
    for text in ("bf-", "the bearer of this", "key_0199", "authorization failed", "tokens=12", "task-list"):
        assert redact(text) == text
    assert redact({"tokens": 3, "key": "key_1", "rate": 0.5, "gone": None}) == {
        "tokens": 3,
        "key": "key_1",
        "rate": 0.5,
        "gone": None,
    }


def test_what_has_no_end_is_cut() -> None:
    """A structure that contains itself is no reason to fall over while logging."""
    loop: list[object] = []
    loop.append(loop)
    assert REDACTED in json.dumps(redact(loop))
