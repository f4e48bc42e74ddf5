# SPDX-License-Identifier: Apache-2.0
"""The API port: one client connection, its requests one at a time, its answers in order.

In: bytes of a client, read by llhttp and by rules of our own that are stricter (a request that two readers could read
differently gets 400 and a close, and no byte of it reaches an engine). Out: exchanges that walk through `flow.py`.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from beffroi.core.errors import BeffroiError, Draining, JournalUnavailable, ProtocolError
from beffroi.core.exchange import BODY, Exchange
from beffroi.gateway.address import proxy_header
from beffroi.gateway.pages import is_metered, show
from beffroi.gateway.reader import Reader
from beffroi.gateway.tally import refuse_stranger
from beffroi.wire import http
from beffroi.wire.envelope import header_lines, openai_body

if TYPE_CHECKING:
    from beffroi.gateway.worker import Worker

PROBE_SECONDS = 0.02
LINGER_BYTES = 256 << 10
FIRST_LINE = 256  # a version further back than this may be that of a second request in the same read
SLOW_FEED = 64  # bytes fed at a time where several requests stand in one read
MAX_HELD = 64 << 10

FRESH, HEAD, BODYING, BUSY, IDLE, LINGERING = range(6)


def _nowhere(_: bytes) -> None:
    """Where bytes go for a client who has left."""


class ClientConnection(asyncio.Protocol):
    """One connection. `phase` and `since` (coarse seconds) are what the sweep judges by."""

    __slots__ = (
        "broken", "closed", "ended", "exchange", "held", "house", "lingered", "paused", "phase", "prelude", "reader", "since", "stalled_at", "stalled_relay",
        "taken", "tls", "transport", "worker", "write",
    )  # fmt: skip

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.house = worker.house
        self.reader = Reader(self.house, self, worker.is_proxy)
        self.transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self.exchange: Exchange | None = None  # being answered
        self.held = b""  # what follows the requests that were read
        self.broken: BeffroiError | None = None  # said in turn, then the connection closes
        self.phase, self.since = FRESH, 0.0
        self.closed = self.ended = self.paused = self.tls = False  # ended: no more bytes will come
        self.stalled_relay: object = FRESH  # see the sweep: none yet, so that its first look begins the count
        self.stalled_at, self.taken = 0.0, 0
        self.lingered = 0
        self.prelude: bytes | None = None

    # asyncio's callbacks -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        house = self.house
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write  # on the instance: called for every answer
        self.transport.set_write_buffer_limits(high=house.view.settings.max_held)
        self.since = house.tick
        self.tls = transport.get_extra_info("ssl_object") is not None
        name = transport.get_extra_info("peername")
        self.reader.peer = name[0] if isinstance(name, tuple) else "local"
        if house.view.settings.proxy_protocol and self.worker.is_proxy(self.reader.peer):
            self.prelude = b""
        self.worker.connections.add(self)
        house.metrics.connections += 1

    def data_received(self, data: bytes) -> None:
        if self.phase == LINGERING:
            self.lingered += len(data)
            if self.lingered > LINGER_BYTES:
                self.transport.abort()
            return
        if self.prelude is not None:
            data = self._after_proxy_header(data)
            if not data:
                return
        if self.held or self.reader.queue or self.broken is not None:
            self.held += data  # the next request waits as bytes until those before it are answered
            if len(self.held) > MAX_HELD:
                self.transport.pause_reading()
            return
        if data.rfind(b" HTTP/1.") > FIRST_LINE and not self.reader.swallows(data):
            self._feed_slowly(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """The client will send no more. If it waits for an answer it may have closed only its half: a few bytes tell."""
        x = self.exchange
        if self.tls or self.closed or (not x.complete if x is not None else not self.held):
            return False
        self.ended = True
        if x is not None:
            self.probe(x)
            self.house.loop.call_later(PROBE_SECONDS, self.probe, x)
        return True

    def pause_writing(self) -> None:
        self.paused = True
        if self.exchange is not None and self.exchange.relay is not None:
            self.exchange.relay.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None and self.exchange.relay is not None:
            self.exchange.relay.unpause()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        self.house.metrics.connections -= 1
        self.worker.connections.discard(self)
        self.reader.close()
        self.write = _nowhere
        if self.exchange is not None:
            self.exchange.leave()

    # reading -----------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        reader = self.reader
        reader.feed(data)
        if reader.violation is not None:
            self._violated()
        current = self.exchange
        if current is None:
            x = reader.reading
            if x is not None:
                phase = BODYING if x.path else HEAD
                if phase != self.phase:
                    self.phase, self.since = phase, self.house.tick
            self._next()
        elif current.complete and current.awaiting is BODY:
            self.phase = BUSY
            current.resume(BODY)

    def _feed_slowly(self, data: bytes) -> None:
        """Many requests in one read: feed little by little, so that at most a few wait parsed and the rest as bytes."""
        limit = self.house.view.settings.max_pipelined
        view = memoryview(data)
        at, asked = 0, None
        while at < len(data) and not self.closed and self.broken is None and self.phase != LINGERING:
            if len(self.reader.queue) >= limit:
                self.held += bytes(view[at:])
                self.transport.pause_reading()
                return
            x = self.reader.reading
            if x is not None and x.path and x is not asked:  # its head is read: perhaps all the rest is its body
                asked = x
                if self.reader.swallows(rest := bytes(view[at:])):
                    self._feed(rest)
                    return
            self._feed(bytes(view[at : at + SLOW_FEED]))
            at += SLOW_FEED

    def _violated(self) -> None:
        """Bytes that no request can be made of: refuse in turn, then close. Nothing that follows is read."""
        reader = self.reader
        error, reader.violation = reader.violation, None
        self.broken = error
        x, reader.reading = reader.reading, None
        if x is not None and x is self.exchange and x.awaiting is BODY:
            x.keep = False
            x.resume(BODY, error)
        elif x is not None and x in reader.queue:
            reader.queue.remove(x)

    def _next(self) -> None:
        """Start the exchange that stands first, or say what is wrong with the bytes that stand there instead."""
        house, queue = self.house, self.reader.queue
        while self.exchange is None and not self.closed and self.phase != LINGERING:
            if not queue:
                if self.broken is not None:
                    self._refuse(self.broken)
                return
            x = self.exchange = queue.popleft()
            self.phase, self.since = (BUSY if x.complete else BODYING), house.tick
            if self.reader.upgrade or house.draining:
                x.keep = False
            house.active.add(x)
            x.start(self.worker.flow()(x, house) if is_metered(x) else show(x, house))

    def _refuse(self, error: BeffroiError) -> None:
        """An answer to bytes that never became an exchange."""
        house = self.house
        if self.phase == LINGERING:
            return
        refuse_stranger(house, error.code or "malformed", self.reader.peer)
        metrics = house.metrics.refusals
        code = error.code or "malformed"
        metrics[code] = metrics.get(code, 0) + 1
        body = openai_body(error)
        request_id = house.ids.next(house.clock.wall_ns())
        extra = house.date + header_lines(error) + b"connection: close\r\n"
        self.write(http.answer(error.status, http.JSON, request_id, extra, body))
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
            last = http.answer(error.status, http.JSON, x.id, extra, body)
        if last:
            self.write(last)
        self.exchange = None
        if self.house.draining or (x.http10 and x.begun):
            x.keep = False
        if not x.keep:
            self._linger() if not x.complete else self._close()
            return
        coming = self.reader.reading
        self.phase, self.since = (IDLE if coming is None else BODYING if coming.path else HEAD), self.house.tick
        if self.reader.queue or self.broken is not None:
            self._next()
        if self.held:
            self.house.loop.call_soon(self._go_on)
        elif self.ended:
            self._close_if_over()

    def _go_on(self) -> None:
        """Read what was held, unless it waits for its turn again. New bytes were put behind it, never before it."""
        x, data = self.exchange, self.held
        if not data or self.closed or self.phase == LINGERING or self.reader.queue or (x is not None and x.complete):
            return
        self.held = b""
        self.transport.resume_reading()
        self.data_received(data)
        if self.ended:
            self._close_if_over()

    def _close_if_over(self) -> None:
        """No more bytes will come: what is complete has its answer, what is not will never be."""
        x = self.exchange
        if (x is None or not x.complete) and self.phase != LINGERING:
            self._close()

    def _close(self) -> None:
        self.phase, self.since = LINGERING, self.house.tick
        self.transport.close()

    def _linger(self) -> None:
        """Close our half and read on for a moment.

        Closing with unread bytes would make the kernel reset the connection and take the answer away from the client
        (RFC 9112 §9.6).
        """
        self.phase, self.since = LINGERING, self.house.tick
        if self.tls or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def probe(self, x: Exchange) -> None:
        """Write a little to a client that has closed its half: if it has left altogether, the kernel says so at once."""
        if self.closed or self.exchange is not x:
            return
        if x.begun:
            if x.relay is not None:
                x.relay.comment(self.house.tick)
        elif not x.http10:
            self.write(http.PROCESSING)

    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.transport.get_write_buffer_size()

    # what the sweep calls ----------------------------------------------------------------------------------------

    def time_out(self, error: BeffroiError) -> None:
        """The client took too long: say so where an answer can still be read, and close."""
        x = self.exchange
        if self.phase == BODYING and x is not None and x.awaiting is BODY:
            x.keep = False
            self.broken, self.reader.reading = error, None
            x.resume(BODY, error)
        elif self.phase in (HEAD, BODYING):
            self._refuse(error)
        else:
            self.transport.close()

    def drain(self) -> None:
        """This process is stopping: idle connections close now, busy ones after their answer."""
        if self.exchange is None and not self.reader.queue and self.phase in (FRESH, IDLE):
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
        self.reader.peer = address or self.reader.peer
        return rest
