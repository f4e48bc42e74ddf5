# SPDX-License-Identifier: Apache-2.0
"""A whole `beffroi serve` for one module of tests, and the engine behind it that must not hear of what is refused.

In: settings. Out: a `Door` with connections, raw exchanges, and the number of requests that reached the engine.
"""

import contextlib
import json
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.client import Answer, Conn, call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[a-z0-9-]+: [^\r\n]*\r\n)+\r\n")


class Door:
    """One worker in front of one scripted engine."""

    def __init__(self, served: Served, engine: ScriptedEngine) -> None:
        self.served, self.engine = served, engine
        self.address, self.key = served.address, served.key

    @property
    def reached(self) -> int:
        """How many requests the engine has heard, of any kind."""
        return len(self.engine.requests)

    def connect(self, timeout: float = 10) -> Conn:
        return Conn(self.address, timeout=timeout)

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", headers: tuple[str, ...] = ()
    ) -> Answer:
        """One request on a connection of its own; `key` None sends none."""
        sent = request(self.key if key == "" else key, body, path=path, method=method, headers=headers)
        return call(self.address, sent, method=method)

    def chat(self, content: str = "count to 3", *, headers: tuple[str, ...] = (), **more: Any) -> bytes:
        """The bytes of a good chat request."""
        return request(self.key, chat(content, **more), headers=headers)

    def head(
        self, *lines: str, path: str = "/v1/chat/completions", method: str = "POST", version: str = "1.1"
    ) -> bytes:
        """A head with a good key and type, then `lines`; not more."""
        usual = [
            f"{method} {path} HTTP/{version}",
            "Host: beffroi.test",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
        ]
        return "\r\n".join([*usual, *lines, "", ""]).encode()

    def raw(self, *pieces: bytes, within: float = 5) -> tuple[list[int], bool, bytes]:
        """Send pieces, read until the server closes or says nothing for a while; → final statuses, closed, all bytes."""
        with self.connect(timeout=within) as conn:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    conn.send(piece)
            got, closed = drain(conn.sock, within)
        return [s for s in statuses(got) if s >= 200], closed, got

    def serves(self) -> None:
        """A good request is answered as ever."""
        answer = call(self.address, self.chat())
        assert (answer.status, answer.text) == (200, "1 2 3")


def drain(sock: socket.socket, within: float) -> tuple[bytes, bool]:
    """All bytes until the close, and whether it came in time."""
    got, deadline = b"", time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data = sock.recv(65536)
        except ConnectionError:
            return got, True
        except TimeoutError:
            break
        if not data:
            return got, True
        got += data
    return got, False


def statuses(got: bytes) -> list[int]:
    """Every status line in the bytes, interim ones too."""
    return [int(found[1]) for found in _STATUS.finditer(got)]


def envelope(body: bytes) -> dict[str, Any]:
    """The `error` of a body, after a look at its shape."""
    whole = json.loads(body)
    assert set(whole) == {"error", "detail"}
    error: dict[str, Any] = whole["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert whole["detail"] == error["message"]
    return error


@contextmanager
def opened(settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Door]:
    """A door for as long as the block runs; stopped, and nothing left of it."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    try:
        with (
            ScriptedEngine() as engine,
            Served(folder / "data", {"e0": engine.url}, settings=settings, **options) as served,
        ):
            yield Door(served, engine)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
