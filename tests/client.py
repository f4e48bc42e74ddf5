# SPDX-License-Identifier: Apache-2.0
"""HTTP clients of the tests: they send the bytes they are told to and read answers strictly.

In: raw bytes or a request as a dict. Out: an `Answer` with its events. `Conn` blocks, for scripts of one connection;
`exchange` is a coroutine, for a thousand at once.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


class Broken(Exception):
    """The answer ended where it must not end, or is not HTTP; `got` is what came before."""

    def __init__(self, why: str, got: bytes = b"") -> None:
        super().__init__(f"{why}; got {got[-200:]!r}")
        self.got = got


@dataclass
class Answer:
    """One answer; header names are lower case. `closed` is true where only the end of the connection ended it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    closed: bool = False
    pieces: list[bytes] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The first header of that name."""
        return next((v for k, v in self.headers if k == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[bytes]:
        """The data of the SSE events, without comments."""
        return [b.partition(b"data:")[2].strip() for b in self.body.split(b"\n\n") if b.startswith(b"data:")]

    @property
    def chunks(self) -> list[Any]:
        """The events but for [DONE], parsed."""
        return [json.loads(e) for e in self.events if e != b"[DONE]"]

    @property
    def text(self) -> str:
        """The content of the first choice, of a stream or of a plain answer."""
        if not self.body.startswith((b"data:", b":")):
            return str(self.json["choices"][0]["message"]["content"])
        said = (c["choices"][0] for c in self.chunks if c.get("choices"))
        return "".join((s.get("delta") or {}).get("content") or "" for s in said)


class Framing:
    """Reads one answer from bytes fed to it: `feed` returns true once it is complete."""

    def __init__(self, method: str = "POST") -> None:
        self.answer: Answer | None = None
        self.interim: list[int] = []
        self.buffer = bytearray()
        self._method = method
        self._left: int | None = None
        self._chunked = False
        self.done = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; what follows the answer stays in `buffer`."""
        self.buffer += data
        while not self.done and self._step():
            pass
        return self.done

    def finish(self) -> Answer:
        """The connection has closed: the answer, if that is how it ends.

        Raises:
            Broken: it is not whole.
        """
        if self.answer and not self.done and not self._chunked and self._left is None:
            self.answer.closed = self.done = True
        if not self.done or self.answer is None:
            raise Broken("closed before the end", self.answer.body if self.answer else bytes(self.buffer))
        return self.answer

    def _step(self) -> bool:
        if self.answer is None:
            return self._head()
        if self._chunked:
            return self._chunk()
        take = len(self.buffer) if self._left is None else min(self._left, len(self.buffer))
        self._take(take)
        if self._left is not None:
            self._left -= take
            self.done = self._left == 0
        return False

    def _take(self, count: int) -> None:
        assert self.answer
        piece = bytes(self.buffer[:count])
        del self.buffer[:count]
        if piece:
            self.answer.body += piece
            self.answer.pieces.append(piece)

    def _head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise Broken("no status line", first.encode())
        headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        status = int(rest[:3])
        if 100 <= status < 200:
            self.interim.append(status)
            return True
        answer = self.answer = Answer(status, headers)
        self._chunked = (answer.get("transfer-encoding") or "").lower() == "chunked"
        length = answer.get("content-length")
        if self._chunked and length is not None:
            raise Broken("both length headers", first.encode())
        if self._method == "HEAD" or status in (204, 304):
            self.done = True
        elif not self._chunked and length is not None:
            self._left = int(length)
            self.done = self._left == 0
        return True

    def _chunk(self) -> bool:
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        size = int(bytes(self.buffer[:end]), 16)
        if len(self.buffer) < end + 2 + size + 2:
            return False
        if self.buffer[end + 2 + size : end + 4 + size] != b"\r\n":
            raise Broken("a chunk is longer than it says", bytes(self.buffer[:80]))
        del self.buffer[: end + 2]
        self._take(size)
        del self.buffer[:2]
        self.done = size == 0
        return True


def request(
    key: str | None,
    body: Any = None,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: tuple[str, ...] = (),
) -> bytes:
    """The bytes of one request; `body` is JSON-encoded unless it is bytes."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: beffroi.test", *headers]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode() + content


def chat(
    content: str = "hello there", *, model: str = "words", stream: bool = False, usage: bool = True, **more: Any
) -> dict[str, Any]:
    """A chat request's body."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}], **more}
    if stream:
        body["stream"] = True
        if usage:
            body["stream_options"] = {"include_usage": True}
    return body


class Conn:
    """One blocking connection to `(host, port)` or to a Unix socket's path."""

    def __init__(
        self, address: tuple[str, int] | str, *, timeout: float = 15, tls: ssl.SSLContext | None = None
    ) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout=timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self.sock = tls.wrap_socket(self.sock, server_hostname=address[0])
        self.rest = b""
        self.interim: list[int] = []

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def answer(self, method: str = "POST", *, until: Callable[[Answer], bool] | None = None) -> Answer:
        """Read one answer; `until` may end the reading sooner, once the head is there.

        Raises:
            Broken: it ends too soon or is malformed.
        """
        framing = Framing(method)
        complete = framing.feed(self.rest)
        while not complete:
            if until and framing.answer and until(framing.answer):
                return framing.answer
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                raise Broken("reset", framing.answer.body if framing.answer else b"") from None
            if not data:
                return framing.finish()
            complete = framing.feed(data)
        self.rest, self.interim = bytes(framing.buffer), framing.interim
        assert framing.answer
        return framing.answer

    def closed(self, within: float = 5) -> bool:
        """Whether the server closes within that many seconds, with no more bytes."""
        self.sock.settimeout(within)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()


def call(address: tuple[str, int] | str, data: bytes, *, timeout: float = 15, method: str = "POST") -> Answer:
    """One request on a connection of its own."""
    with Conn(address, timeout=timeout) as conn:
        conn.send(data)
        return conn.answer(method)


async def exchange(
    address: tuple[str, int],
    data: bytes,
    *,
    until: Callable[[Answer], bool] | None = None,
    reset: bool = False,
    timeout: float = 60,
) -> Answer:
    """One request on a connection of its own.

    Args:
        until: leave once it says so (called after each read, when the head is there).
        reset: leave with a reset instead of a close.

    Raises:
        Broken, OSError, TimeoutError: the answer did not come whole.
    """
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
        framing = Framing()
        try:
            writer.write(data)
            while True:
                got = await reader.read(65536)
                if not got:
                    return framing.finish()
                if framing.feed(got):
                    assert framing.answer
                    return framing.answer
                if until and framing.answer and until(framing.answer):
                    return framing.answer
        finally:
            if reset and (sock := writer.get_extra_info("socket")):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            writer.close()
