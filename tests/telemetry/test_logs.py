# SPDX-License-Identifier: Apache-2.0
"""Logs as a process writes them: JSON lines, and no canary gets through."""

import json
import subprocess
import sys

from beffroi.core.key import new_key
from beffroi.telemetry.logs import REDACTED, redact

KEY = new_key().text
CANARY = "c4n4ry5ecret"


def lines(code: str) -> list[dict[str, object]]:
    """What a process logs that runs `code` after configuring its logs."""
    head = "import structlog, logging; from beffroi.telemetry.logs import configure; configure('w07');"
    done = subprocess.run(
        [sys.executable, "-c", head + "log = structlog.stdlib.get_logger('here');" + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_json_object_with_time_level_process_and_fields() -> None:
    """From structlog and from the standard library alike; debug stays away."""
    ours, theirs = lines("log.info('hello', n=1); log.debug('no'); logging.getLogger('x').warning('a %s', 'b')")
    assert (ours["event"], ours["n"], ours["level"], ours["process"]) == ("hello", 1, "info", "w07")
    assert (theirs["event"], theirs["level"], theirs["logger"], theirs["process"]) == ("a b", "warning", "x", "w07")
    assert str(ours["at"]).endswith("Z")


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
