# SPDX-License-Identifier: Apache-2.0
"""The command line's way to the control process: HTTP over `control.sock`.

In: a method, a path, a body. Out: the answer's JSON, or a `Failure` with a sentence and an exit status.
While control restarts there is nobody at the socket for a moment: commands wait for it, then say so.
"""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

PATIENCE = 5.0  # seconds a command waits for a control process that is not there
ANSWER = 30.0  # seconds an answer may take
NONE: Mapping[str, str] = MappingProxyType({})
EXIT_STATUSES = {
    0: "Done.",
    1: "Refused or failed; the message says why. `journal verify`, `doctor`: something does not hold. `bench`: a request failed.",
    2: "The command line or the configuration is wrong. `plan`: there is something to apply.",
    3: "`import`: the configuration was written, but something of the old file is not in it; the report names it.",
    69: "No control process within 5 seconds: start one with `beffroi serve`, or name its data directory.",
    70: "The control process ended while it worked on the command; whether it was done is not known.",
    130: "Stopped by Ctrl-C (`requests tail --follow`).",
}


class Failure(click.ClickException):
    """A command that did not do what it was asked; click prints the sentence and exits with the status.

    `answered`: the HTTP status of a refusal.
    """

    exit_code = 1

    def __init__(self, message: str, *, answered: int = 0) -> None:
        super().__init__(message)
        self.answered = answered


class Absent(Failure):
    """Nobody is there to do it."""

    exit_code = 69


class Unknown(Failure):
    """Whoever was doing it is gone; nobody knows whether it was done."""

    exit_code = 70


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, answer: float) -> None:
        super().__init__("localhost", timeout=answer)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(
    data: Path,
    method: str,
    path: str,
    body: Any = None,
    *,
    repeatable: bool = True,
    patience: float = PATIENCE,
    answer: float = ANSWER,
    headers: Mapping[str, str] = NONE,
) -> Any:
    """One request to control.

    Args:
        repeatable: doing it twice is as good as once, so that it may be sent again when control died under it.
        patience: seconds to wait for a control process.
        answer: seconds its answer may take.
        headers: sent beside those of the body.

    Raises:
        Failure: control is not there, ended in between, or refused.
    """
    deadline = time.monotonic() + patience
    while True:
        connection = _Connection(data / "control.sock", answer)
        sent = False
        try:
            connection.connect()
            sent = True
            content = None if body is None else json.dumps(body).encode()
            kind = {"content-type": "application/json"} if content else {}
            connection.request(method, path, content, {**headers, **kind})
            response = connection.getresponse()
            return read(response.status, response.read())
        except TimeoutError:
            raise Unknown(f"the control process of {data} has not answered for {answer:.0f} s") from None
        except (OSError, http.client.HTTPException):
            if sent and not repeatable:
                raise Unknown(
                    "the control process ended while it worked on this; look whether it was done (`beffroi keys list`)"
                ) from None
            if time.monotonic() >= deadline:
                raise Absent(
                    f"no control process answers for {data}; start one with `beffroi serve`, or choose with --data"
                ) from None
            time.sleep(0.05)
        finally:
            connection.close()


def read(status: int, body: bytes) -> Any:
    """The content of an answer.

    Raises:
        Failure: it is a refusal; the sentence is the one that it has.
    """
    if not body and status < 400:
        return None
    try:
        content = json.loads(body)
    except ValueError:
        raise Failure(f"the control process answered {status} with something that is not JSON") from None
    if status < 400 or (status == 503 and "detail" not in content):
        return content
    raise Failure(content.get("detail", f"the control process answered {status}"), answered=status)
