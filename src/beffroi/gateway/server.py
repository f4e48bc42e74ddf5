# SPDX-License-Identifier: Apache-2.0
"""The API port: one client connection, its requests one at a time, its answers in order.

In: bytes of a client, read by llhttp and by rules of our own that are stricter (a request that two readers could read
differently gets 400 and a close, and no byte of it reaches an engine). Out: exchanges that walk through `flow.py`.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from beffroi.core.errors import (
    BadRequest,
    BeffroiError,
    BodyTooLarge,
    Draining,
    HeadTooLarge,
    JournalUnavailable,
    ProtocolError,
    TargetTooLong,
)
from beffroi.core.exchange import BODY, Exchange
from beffroi.gateway.address import forwarded, proxy_header
from beffroi.gateway.flow import handle
from beffroi.gateway.pages import is_metered, show, target_path
from beffroi.gateway.tally import refuse_stranger
from beffroi.wire import http
from beffroi.wire.envelope import header_lines, openai_body

if TYPE_CHECKING:
    from beffroi.gateway.worker import Worker

FRAMING_SLACK = 32 << 10  # chunk sizes, extensions and trailers may weigh this much more than eight times the body
PROBE_SECONDS = 0.02
LINGER_BYTES = 256 << 10
FIRST_LINE = 256  # a version further back than this may be that of a second request in the same read
SLOW_FEED = 64  # bytes fed at a time where several requests stand in one read
COPY_LIMIT = 64 << 10

FRESH, HEAD, BODYING, BUSY, IDLE, LINGERING = range(6)
HOST, AUTHORIZATION, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING, FORWARDED_FOR, EXPECT = range(8)
# The headers that are read, in the spellings of common clients; any other spelling is lowered first.
_HEADERS = {
    spelling: kind
    for kind, name in enumerate(
        (b"host", b"authorization", b"content-type", b"content-length", b"transfer-encoding", b"content-encoding", b"x-forwarded-for", b"expect")
    )
    for spelling in (name, name.title())
}


class ClientConnection(asyncio.Protocol):
    """One connection. `phase` and `since` (coarse seconds) are what the sweep judges by."""

    __slots__ = (
        "body_bytes", "broken", "closed", "encodings", "exchange", "fed", "forwarded_for", "header_count", "held", "hosts", "house",
        "lengths", "noted", "parser", "paused", "peer", "phase", "piece", "prelude", "queue", "reading", "since", "stalled_at",
        "stalled_size", "target", "tls", "transport", "upgrade", "violation", "worker", "write",
    )  # fmt: skip

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.house = worker.house
        self.parser = HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.exchange: Exchange | None = None  # being answered
        self.reading: Exchange | None = None  # being read
        self.queue: deque[Exchange] = deque()  # read, not yet begun
        self.held = b""
        self.violation: BeffroiError | None = None
        self.broken: BeffroiError | None = None
        self.phase, self.since = FRESH, 0.0
        self.fed = self.body_bytes = self.header_count = self.noted = 0
        self.hosts = self.lengths = self.encodings = 0
        self.piece = self.target = self.forwarded_for = b""
        self.closed = self.paused = self.tls = self.upgrade = False
        self.stalled_at = self.stalled_size = 0.0
        self.peer = ""
        self.prelude: bytes | None = None

    # asyncio's callbacks -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        house = self.house
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        self.transport.set_write_buffer_limits(high=house.view.settings.max_held)
        self.since = house.tick
        self.tls = transport.get_extra_info("ssl_object") is not None
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "local"
        if house.view.settings.proxy_protocol and self.worker.is_proxy(self.peer):
            self.prelude = b""
        self.worker.connections.add(self)
        house.metrics.connections += 1

    def data_received(self, data: bytes) -> None:
        if self.phase == LINGERING:
            self.fed += len(data)
            if self.fed > LINGER_BYTES:
                self.transport.abort()
            return
        if self.prelude is not None:
            data = self._after_proxy_header(data)
            if not data:
                return
        if self.held or (self.queue and self.reading is None) or self.broken is not None:
            self.held += data  # the next request waits as bytes until those before it are answered
            if len(self.held) > COPY_LIMIT:
                self.transport.pause_reading()
            return
        if data.rfind(b" HTTP/1.") > FIRST_LINE:
            self._feed_slowly(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """The client will send no more. If it waits for an answer it may have closed only its half: a few bytes tell."""
        x = self.exchange
        if self.tls or x is None or not x.complete or self.closed:
            return False
        self._probe(x)
        self.house.loop.call_later(PROBE_SECONDS, self._probe, x)
        return True

    def pause_writing(self) -> None:
        self.paused = True
        self.stalled_at, self.stalled_size = self.house.tick, self.transport.get_write_buffer_size()
        if self.exchange is not None and self.exchange.relay is not None:
            self.exchange.relay.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None and self.exchange.relay is not None:
            self.exchange.relay.unpause()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.house.metrics.connections -= 1
        self.worker.connections.discard(self)
        self.queue.clear()
        if self.exchange is not None:
            self.exchange.leave()

    # llhttp's callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        house = self.house
        clock = house.clock
        wall = clock.wall_ns()
        self.reading = Exchange(self, house.ids.next(wall), wall, clock.mono_ns())
        self.target = self.forwarded_for = b""
        self.header_count = self.hosts = self.lengths = self.encodings = self.body_bytes = self.noted = 0
        self.phase, self.since = HEAD, house.tick

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_count += 1
        kind = _HEADERS.get(name)
        if kind is None:
            kind = _HEADERS.get(name.lower())
            if kind is None:
                return
        x = self.reading
        if x is None or x.path:  # trailers say nothing here
            return
        if kind == HOST:
            self.hosts += 1
        elif kind == AUTHORIZATION:
            if x.authorization is not None:
                self.violation = BadRequest("Send one Authorization header, not two.")
            x.authorization = value
        elif kind == CONTENT_TYPE:
            x.content_type = value
        elif kind == CONTENT_LENGTH:
            self.lengths += 1
            if not value.isdigit() or len(value) > 18:
                self.violation = ProtocolError("The header Content-Length must be a number of bytes.")
            else:
                x.content_length = int(value)
        elif kind == TRANSFER_ENCODING:
            self.encodings += 1
            if value.strip(b" \t").lower() != b"chunked":
                self.violation = ProtocolError("The header Transfer-Encoding may only be 'chunked'.")
        elif kind == CONTENT_ENCODING:
            x.content_encoding = value
        elif kind == FORWARDED_FOR:
            self.forwarded_for += b"," + value
        else:
            x.expect = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        x, parser = self.reading, self.parser
        if x is None:
            return
        settings = self.house.view.settings
        x.method = parser.get_method().decode("latin-1")
        version = parser.get_http_version()
        x.http10 = version == "1.0"
        x.keep = parser.should_keep_alive()
        x.head_only = x.method == "HEAD"
        x.path = target_path(self.target)
        x.address = self.peer
        if self.forwarded_for and self.worker.is_proxy(self.peer):
            x.address = forwarded(self.forwarded_for, self.peer, self.worker.is_proxy)
        x.view = self.house.view
        if self.violation is not None:
            return
        if version not in ("1.1", "1.0"):
            self.violation = ProtocolError("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        elif self.hosts > 1 or (self.hosts == 0 and not x.http10):
            self.violation = ProtocolError("Send exactly one Host header.")
        elif self.encodings > 1 or self.lengths > 1 or (self.encodings and (self.lengths or x.http10)):
            self.violation = ProtocolError("Send either one Content-Length or one Transfer-Encoding: chunked.")
        elif len(self.target) > settings.max_target:
            self.violation = TargetTooLong(f"The request target may have at most {settings.max_target:,} bytes.")
        elif self.header_count > settings.max_headers or self.fed > settings.max_head and self._head_size() > settings.max_head:
            self.violation = HeadTooLarge(f"A request may have {settings.max_headers} headers and {settings.max_head:,} bytes of head.")
        elif x.content_length is not None and x.content_length > settings.max_body and not is_metered(x):
            self.violation = BodyTooLarge(f"The body may have at most {settings.max_body:,} bytes.")
        else:
            self.queue.append(x)
            self.phase, self.since = BODYING, self.house.tick

    def _head_size(self) -> int:
        """Bytes of the head that ends in the piece being fed."""
        return self.fed - len(self.piece) + max(0, self.piece.find(b"\r\n\r\n")) + 4

    def on_body(self, body: bytes) -> None:
        x = self.reading
        if x is None or self.violation is not None:
            return
        self.body_bytes += len(body)
        x.size = self.body_bytes
        if self.body_bytes > x.view.settings.max_body:
            self.violation = BodyTooLarge(f"The body may have at most {x.view.settings.max_body:,} bytes.")
            x.parts.clear()
        elif not x.ended:
            x.parts.append(body)

    def on_message_complete(self) -> None:
        x = self.reading
        if x is None or self.violation is not None:
            return
        x.complete = True
        self.reading = None
        self.fed = 0

    # reading -----------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        self.fed += len(data)
        self.piece = data
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            self.upgrade = True  # no other protocol is spoken here: answer, then close
        except HttpParserError:
            if self.violation is None:
                self.violation = ProtocolError("These bytes are not one clear HTTP/1.1 request.")
        x = self.reading
        if self.violation is None and x is not None:
            settings = self.house.view.settings
            if not x.path:
                if len(self.target) > settings.max_target:
                    self.violation = TargetTooLong(f"The request target may have at most {settings.max_target:,} bytes.")
                elif self.fed > settings.max_head:
                    self.violation = HeadTooLarge(f"The head of a request may have at most {settings.max_head:,} bytes.")
                elif self.header_count > settings.max_headers:
                    self.violation = HeadTooLarge(f"A request may have at most {settings.max_headers} headers.")
            elif self.fed > settings.max_head + FRAMING_SLACK + 8 * self.body_bytes:
                self.violation = ProtocolError("The framing of the body weighs more than the body.")
        if self.violation is not None:
            self._violated()
        current = self.exchange
        if current is None:
            self._next()
        elif current.complete and current.awaiting is BODY:
            self.phase = BUSY
            current.resume(BODY)

    def _feed_slowly(self, data: bytes) -> None:
        """Many requests in one read: feed little by little, so that at most a few wait parsed and the rest as bytes."""
        limit = self.house.view.settings.max_pipelined
        view = memoryview(data)
        at = 0
        while at < len(data) and not self.closed and self.broken is None:
            if len(self.queue) >= limit:
                self.held += bytes(view[at:])
                self.transport.pause_reading()
                return
            self._feed(bytes(view[at : at + SLOW_FEED]))
            at += SLOW_FEED

    def _violated(self) -> None:
        """Bytes that no request can be made of: refuse in turn, then close. Nothing that follows is read."""
        error, self.violation = self.violation, None
        self.broken = error
        x, self.reading = self.reading, None
        if x is not None and x is self.exchange and x.awaiting is BODY:
            x.keep = False
            x.resume(BODY, error)
        elif x is not None and x in self.queue:
            self.queue.remove(x)

    def _next(self) -> None:
        """Start the exchange that stands first, or say what is wrong with the bytes that stand there instead."""
        house = self.house
        while self.exchange is None and not self.closed:
            if not self.queue:
                if self.broken is not None:
                    self._refuse(self.broken)
                return
            x = self.exchange = self.queue.popleft()
            if x.complete:
                self.phase = BUSY
            if self.upgrade:
                x.keep = False
            house.active.add(x)
            if house.draining:
                x.keep = False
            x.start(handle(x, house) if is_metered(x) else show(x, house))

    def _refuse(self, error: BeffroiError) -> None:
        """An answer to bytes that never became an exchange."""
        house = self.house
        if self.phase == LINGERING:
            return
        refuse_stranger(house, error.code or "malformed", self.peer)
        metrics = house.metrics.refusals
        code = error.code or "malformed"
        metrics[code] = metrics.get(code, 0) + 1
        body = openai_body(error)
        request_id = house.ids.next(house.clock.wall_ns())
        extra = house.date + header_lines(error) + b"connection: close\r\n"
        self.write(http.plain_head(error.status, http.JSON, len(body), request_id, extra) + body)
        self._linger()

    # answering ---------------------------------------------------------------------------------------------------

    def finish(self, x: Exchange, error: BeffroiError | None) -> None:
        """See `exchange.ClientSide`: what has not been recorded is not served whole."""
        if self.closed or self.exchange is not x:
            return
        last, x.last = x.last, b""
        if error is not None:
            if x.begun or not isinstance(error, JournalUnavailable):
                self.transport.abort()
                return
            body = openai_body(error)
            extra = self.house.date + header_lines(error) + b"connection: close\r\n"
            x.keep = False
            last = http.plain_head(error.status, http.JSON, len(body), x.id, extra) + body
        if last:
            self.write(last)
        self.exchange = None
        if self.house.draining or x.http10 and x.begun:
            x.keep = False
        if not x.keep:
            self._linger() if not x.complete else self._close()
            return
        self.phase, self.since = (IDLE, self.house.tick) if self.reading is None else (self.phase, self.since)
        if self.queue or self.broken is not None:
            self._next()
        elif self.held:
            data, self.held = self.held, b""
            self.house.loop.call_soon(self._go_on, data)

    def _go_on(self, data: bytes) -> None:
        if not self.closed and self.phase != LINGERING:
            self.transport.resume_reading()
            self.data_received(data)

    def _close(self) -> None:
        self.phase, self.since = LINGERING, self.house.tick
        self.fed = 0
        self.transport.close()

    def _linger(self) -> None:
        """Close our half and read on for a moment: closing with unread bytes would make the kernel reset the connection
        and take the answer away from the client (RFC 9112 §9.6)."""
        self.phase, self.since = LINGERING, self.house.tick
        self.fed = 0
        if self.tls or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def _probe(self, x: Exchange) -> None:
        """Write a little to a client that has closed its half: if it has left altogether, the kernel says so at once."""
        if self.closed or self.exchange is not x or x.http10:
            return
        if x.begun:
            if x.relay is not None:
                x.relay.comment(self.house.tick)
        else:
            self.write(http.PROCESSING)

    # what the sweep calls ----------------------------------------------------------------------------------------

    def time_out(self, error: BeffroiError) -> None:
        """The client took too long: say so where an answer can still be read, and close."""
        x = self.exchange
        if self.phase == BODYING and x is not None and x.awaiting is BODY:
            x.keep = False
            self.broken, self.reading = error, None
            x.resume(BODY, error)
        elif self.phase in (HEAD, BODYING) or (self.phase == FRESH and self.fed):
            self._refuse(error)
        else:
            self.transport.close()

    def drain(self) -> None:
        """This process is stopping: idle connections close now, busy ones after their answer."""
        if self.exchange is None and not self.queue and self.phase in (FRESH, IDLE):
            self.transport.close()
        elif self.exchange is not None and not self.exchange.begun:
            self.exchange.keep = False

    def cut(self, error: Draining | BeffroiError) -> None:
        """End an exchange under way from our side, settled and recorded."""
        x = self.exchange
        if x is None or x.ended:
            return
        x.keep = False
        relay = x.relay
        if relay is not None and x.begun:
            relay.stop()
            relay.fail(error)
        elif x.awaiting is not None:
            if relay is not None:
                relay.stop()
            x.resume(x.awaiting, error)

    def _after_proxy_header(self, data: bytes) -> bytes:
        """PROXY protocol, from configured proxies only (decision D12)."""
        self.prelude = (self.prelude or b"") + data
        try:
            found = proxy_header(self.prelude)
        except ValueError as why:
            self.prelude = None
            self.broken = ProtocolError(str(why))
            self._next()
            return b""
        if found is None:
            return b""
        self.prelude = None
        address, rest = found
        self.peer = address or self.peer
        return rest
