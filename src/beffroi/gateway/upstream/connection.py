# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: one connection to an engine, carrying one exchange at a time; llhttp finds where things end.

In: bytes of an engine, bounded and parsed as hostile. Out: calls on the `Answer` that waits for them.
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol, cast

from httptools import HttpParserError, HttpResponseParser

from beffroi.core.errors import EngineBroken, EngineError
from beffroi.core.kernel import KERNEL

if TYPE_CHECKING:
    from beffroi.gateway.upstream.endpoint import Endpoint

read_answer = KERNEL.read_answer if KERNEL else None
MAX_HEAD = 64 << 10
RECEIVE_BUFFER = (
    64 << 10
)  # the kernel doubles it: one read brings at most 128 KiB, so what is held for a slow client stays small
COPY_LIMIT = 64 << 10


class Answer(Protocol):
    """What waits for an engine's answer."""

    connection: "EngineConnection | None"

    def head(self, status: int, kind: bytes) -> None:
        """Status and media type."""
        ...

    def data(self, data: bytes, *, complete: bool) -> None:
        """Body bytes, framing removed; `complete` with the last ones (which may be none)."""
        ...

    def lost(self, error: EngineError) -> None:
        """The connection broke before the answer was complete."""
        ...


class EngineConnection(asyncio.Protocol):
    """One keep-alive connection.

    `saw_bytes` tells whether anything was heard since the last request: a kept connection may have been closed by the
    engine just as we wrote, and only then is a silent second try on a new one right.
    """

    __slots__ = (
        "answer", "closing", "complete", "endpoint", "head_bytes", "headed", "idle_since", "keep", "kind", "on_body", "parser", "parts", "paused",
        "saw_bytes",
        "size", "transport", "until_close",
    )  # fmt: skip

    def __init__(self, endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.parts: list[bytes] = []  # one list for good: llhttp appends to it without a Python call between
        self.on_body = self.parts.append
        self.parser = HttpResponseParser(self)
        self.transport: asyncio.Transport
        self.answer: Answer | None = None
        self.size = 0  # parts that belong to the answer
        self.headed = self.keep = self.complete = self.paused = self.closing = self.saw_bytes = self.until_close = False
        self.kind = b""
        self.head_bytes = 0
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def send(self, answer: Answer, head: bytes, body: bytes) -> None:
        """Write a request; `answer` hears what comes of it."""
        self.answer, answer.connection = answer, self
        self.endpoint.busy += 1
        self.saw_bytes = False
        if len(body) < COPY_LIMIT:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    # llhttp's callbacks ------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 12 and name.lower() == b"content-type":
            self.kind = value
        elif (len(name) == 14 and name.lower() == b"content-length") or (
            len(name) == 17 and name.lower() == b"transfer-encoding"
        ):
            self.until_close = False

    def on_message_begin(self) -> None:
        self.until_close = True

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return
        if self.complete:  # a second answer behind the first, which nobody asked for
            self.keep = False
            return
        # Asked here: llhttp forgets the flags of a message at its end, and a burst ends within the same feed_data.
        self.headed, self.keep = True, self.parser.should_keep_alive()
        if self.answer is not None:
            self.answer.head(status, self.kind)

    def on_message_complete(self) -> None:
        if self.headed and not self.complete:
            self.complete = True
            self.size = len(self.parts)

    # asyncio's callbacks -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:  # bytes that nobody asked for
            self.abort()
            return
        self.saw_bytes = True
        # The common case of a short answer, without llhttp, which stands at the beginning of one: it came whole.
        if (
            read_answer is not None
            and not (self.headed or self.head_bytes)
            and (found := read_answer(data)) is not None
        ):
            kind, data = found
            answer.head(200, kind)
            self.keep = True
            self.release()
            answer.data(data, complete=True)
            return
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            if not self.complete:
                self.broken("An engine answered with bytes that are not HTTP.")
                return
            self.keep = False  # the answer is whole; what follows it is no concern of the client's
        if not self.headed:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD:
                self.broken("An engine answered with an endless head.")
            return
        parts, complete = self.parts, self.complete
        if parts or complete:
            if complete:
                del parts[self.size :]
                self.release()
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            answer.data(data, complete=complete)

    def release(self) -> None:
        """The answer is whole: back to the idle ones, or closed where it cannot carry another."""
        self.answer = None
        self.endpoint.busy -= 1
        if self.keep and not self.closing:
            self.headed = self.complete = False
            self.kind, self.head_bytes = b"", 0
            if self.paused:
                self.resume_reading()
            self.endpoint.give(self, self.endpoint.loop.time())
        else:
            self.abort()

    def abandon(self) -> None:
        """Nobody wants the rest of this answer: close at once, so that the engine stops generating."""
        if self.answer is not None:
            self.answer = None
            self.endpoint.busy -= 1
        self.abort()

    def broken(self, why: str) -> None:
        """Unsound bytes: close, and tell the answer."""
        answer = self.answer
        self.abandon()
        if answer is not None:
            answer.lost(EngineBroken(why, retry_after=1))

    def abort(self) -> None:
        self.closing = True
        self.transport.abort()

    def pause_reading(self) -> None:
        if not self.paused and not self.closing:
            self.paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.paused and not self.closing:
            self.paused = False
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        del self.parser  # it holds this object as this one holds it
        answer = self.answer
        if answer is None:
            self.endpoint.forget(self)
            return
        self.answer = None
        self.endpoint.busy -= 1
        if self.headed and self.until_close and exc is None and not self.complete:
            # neither length nor chunks: the end of the connection is the end of the answer (RFC 9112 §6.3)
            answer.data(b"", complete=True)
        else:
            answer.lost(EngineBroken("An engine closed the connection before its answer was complete.", retry_after=1))
