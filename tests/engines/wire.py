# SPDX-License-Identifier: Apache-2.0
"""The scripted engine's side of HTTP/1.1: one asyncio protocol for each connection, strict and small.

In: bytes of a gateway. Out: `Received` requests, kept as they came, handed one at a time to a coroutine that answers
through the connection; `gone` is set the moment the other side has closed.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

PAUSE_ABOVE = 256 << 10


@dataclass
class Received:
    """A request as it arrived. Header names keep their case, `head` and `body` are the raw bytes (body without framing)."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    head: bytes
    body: bytes
    connection: int

    def get(self, name: str) -> str | None:
        """The first header of that name, any case."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Malformed(ValueError):
    """Bytes that are not a request."""


def _chunked(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The body of chunks from `at` and the place after it; None while it is not complete."""
    out: list[bytes] = []
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        try:
            size = int(data[at:line].split(b";")[0], 16)
        except ValueError:
            raise Malformed("a chunk size") from None
        at = line + 2
        if size == 0:
            end = data.find(b"\r\n", at)
            while end >= 0 and end != at:  # trailers
                at, end = end + 2, data.find(b"\r\n", end + 2)
            return None if end < 0 else (b"".join(out), end + 2)
        if len(data) < at + size + 2:
            return None
        out.append(data[at : at + size])
        at += size + 2


class Connection(asyncio.Protocol):
    """One connection. `answer` is awaited for each request in turn; what it leaves unfinished the close ends."""

    def __init__(
        self,
        number: int,
        answer: Callable[["Connection", Received], Awaitable[None]],
        closed: Callable[["Connection"], None],
    ) -> None:
        self.number = number
        self._answer, self._closed = answer, closed
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.gone = asyncio.Event()
        self.received = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=PAUSE_ABOVE)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self.received.set()

    def eof_received(self) -> bool:
        self.gone.set()  # a gateway that half-closes has left
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.received.set()
        self._room.set()
        self._closed(self)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send(self, data: bytes) -> None:
        """Write, and wait while the other side does not read."""
        if not self.gone.is_set():
            self.transport.write(data)
        if not self._room.is_set():
            await self._room.wait()

    async def pause(self, seconds: float) -> bool:
        """Wait, unless the other side leaves; true while it is there."""
        if seconds > 0 and not self.gone.is_set():
            try:
                await asyncio.wait_for(self.gone.wait(), seconds)
            except TimeoutError:
                return True
        return not self.gone.is_set()

    async def close(self, *, reset: bool = False) -> None:
        """Close after what was written is out, or reset once it had time to arrive."""
        if reset and not self.gone.is_set():
            await asyncio.sleep(0.02)
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        self.transport.close()

    async def _run(self) -> None:
        try:
            while not self.transport.is_closing():
                request = self._take()
                if request is None:
                    self.received.clear()
                    if self.gone.is_set():
                        break
                    await self.received.wait()
                    continue
                await self._answer(self, request)
        except Malformed:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        finally:
            self.transport.close()

    def _take(self) -> Received | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[: end + 4])
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        try:
            method, target, _ = first.split(" ")
            headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        except ValueError:
            raise Malformed("a request line") from None
        named = {k.lower(): v for k, v in headers}
        if "chunked" in named.get("transfer-encoding", "").lower():
            if (found := _chunked(bytes(self._buffer), end + 4)) is None:
                self._continue(named)
                return None
            body, used = found
        else:
            used = end + 4 + int(named.get("content-length", 0))
            if len(self._buffer) < used:
                self._continue(named)
                return None
            body = bytes(self._buffer[end + 4 : used])
        del self._buffer[:used]
        return Received(method, target, headers, head, body, self.number)

    def _continue(self, named: dict[str, str]) -> None:
        if named.get("expect", "").lower() == "100-continue" and self._buffer.endswith(b"\r\n\r\n"):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
