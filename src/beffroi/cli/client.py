# SPDX-License-Identifier: Apache-2.0
"""The command line's way to a control process: HTTP, over `control.sock` or from far away.

In: a method, a path, a body. Out: the answer's JSON, or a `Failure` with a sentence and an exit status.
While control restarts there is nobody at the socket for a moment: commands wait for it, then say so.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from beffroi.supervisor.connection import connect, prefix

PATIENCE = 5.0  # seconds a command waits for a control process that is not there
ANSWER = 30.0  # seconds an answer may take
LONGEST = 1 << 30  # bytes of one answer; an export of all keys is the longest
_PAUSE = 0.05  # seconds between two tries
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


@dataclass(frozen=True)
class Where:
    """A control process that is asked.

    Attributes:
        name: what it is called in a sentence; absent: the sentence for nobody being there, from what went wrong.
        passing: statuses with which a proxy before it says that it will be back.
    """

    url: str
    name: str
    absent: Callable[[Exception], str]
    passing: frozenset[int] = frozenset()


def call(
    where: Where | Path,
    method: str,
    path: str,
    body: Any = None,
    *,
    repeatable: bool = True,
    patience: float = PATIENCE,
    answer: float = ANSWER,
    headers: Mapping[str, str] = NONE,
) -> Any:
    """One request to a control process.

    Args:
        where: or the data directory of the one that is meant.
        repeatable: doing it twice is as good as once, so that it may be sent again when control died under it.
        patience: seconds to wait for a control process.
        answer: seconds its answer may take.
        headers: sent beside those of the body.

    Raises:
        Failure: control is not there, ended in between, or refused.
    """
    where = _here(where) if isinstance(where, Path) else where
    deadline = time.monotonic() + patience
    content = None if body is None else json.dumps(body).encode()
    kind = {} if content is None else {"content-type": "application/json"}
    while True:
        connection = connect(where.url, answer)
        sent = False
        try:
            connection.connect()
            sent = True
            connection.request(method, prefix(where.url) + path, content, {**headers, **kind})
            response = connection.getresponse()
            found = response.read(LONGEST)
            if response.status not in where.passing or not repeatable or time.monotonic() >= deadline:
                return _read(response.status, found)
        except TimeoutError:
            raise Unknown(f"{where.name} has not answered for {answer:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            if sent and not repeatable:
                raise Unknown(f"{where.name} ended while it worked on this; look whether it was done") from None
            if time.monotonic() >= deadline:
                raise Absent(where.absent(error)) from None
        finally:
            connection.close()
        time.sleep(_PAUSE)


def _here(data: Path) -> Where:
    absent = f"no control process answers for {data}; start one with `beffroi serve`, or choose with --data"
    return Where(f"unix:{data / 'control.sock'}", f"the control process of {data}", lambda _: absent)


def _read(status: int, body: bytes) -> Any:
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
