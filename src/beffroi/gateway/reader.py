# SPDX-License-Identifier: Apache-2.0
"""Bytes of a client to requests: llhttp, and rules of our own that are stricter.

In: pieces of bytes. Out: exchanges whose heads are read, in `queue`, their bodies as they come; or `violation`: a
request that two readers could read differently is none (RFC 9112), and nothing that follows it is read.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from beffroi.core.errors import BadRequest, BeffroiError, BodyTooLarge, HeadTooLarge, ProtocolError, TargetTooLong
from beffroi.core.exchange import ClientSide, Exchange
from beffroi.core.kernel import KERNEL
from beffroi.gateway.address import forwarded
from beffroi.gateway.house import House
from beffroi.gateway.pages import is_metered, target_path

read_request = KERNEL.read_request if KERNEL else None
SMALL_PARTS = 1024
FRAMING_SLACK = 32 << 10  # chunk sizes, extensions and trailers may weigh this much more than eight times the body
HOST, AUTHORIZATION, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING, FORWARDED_FOR, EXPECT = range(8)
# The headers that are read, in the spellings of common clients; any other spelling is lowered first.
_HEADERS = {
    spelling: kind
    for kind, name in enumerate(
        (
            b"host",
            b"authorization",
            b"content-type",
            b"content-length",
            b"transfer-encoding",
            b"content-encoding",
            b"x-forwarded-for",
            b"expect",
        )
    )
    for spelling in (name, name.title())
}


class Reader:
    """The requests of one connection.

    Attributes:
        reading: the exchange whose head or body is not complete; None between requests.
        queue: exchanges with a complete head that have not begun their walk.
        violation: what is wrong with the bytes; the owner takes it.
        body_bytes: of the body being read; noted: how many the sweep has seen; merged: parts that are not small.
    """

    __slots__ = (
        "body_bytes", "client", "encodings", "fed", "forwarded_for", "header_count", "hosts", "house", "is_proxy", "lengths", "merged", "noted",
        "parser", "peer", "piece", "queue", "reading", "target", "untouched", "upgrade", "violation",
    )  # fmt: skip

    def __init__(self, house: House, client: ClientSide, is_proxy: Callable[[str], bool]) -> None:
        self.house = house
        self.client = client
        self.is_proxy = is_proxy
        self.parser = HttpRequestParser(self)
        self.peer = ""
        self.reading: Exchange | None = None
        self.queue: deque[Exchange] = deque()
        self.violation: BeffroiError | None = None
        self.fed = self.body_bytes = self.header_count = self.noted = self.merged = 0
        self.hosts = self.lengths = self.encodings = 0
        self.piece = self.target = self.forwarded_for = b""
        self.upgrade = False
        self.untouched = True  # llhttp has read nothing: it stands at the beginning of a request

    def feed(self, data: bytes) -> None:
        """Read a piece; look at `queue`, `reading` and `violation` afterwards."""
        if self.untouched:
            if read_request is not None and self._read_at_once(data):
                return
            self.untouched = False
        self.fed += len(data)
        self.piece = data
        try:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as stop:
                if not self.upgrade:
                    self.upgrade = True  # no other protocol is spoken here: answer, then close
                    self._read_on(data[stop.args[0] :])
        except HttpParserError:
            if self.violation is None:
                self.violation = ProtocolError("These bytes are not one clear HTTP/1.1 request.")
        x = self.reading
        if self.violation is None and x is not None:
            self._weigh(x)

    def _read_at_once(self, data: bytes) -> bool:
        """The common case, without llhttp: one plain request, whole, in one read. False: nothing was done."""
        house = self.house
        view = house.view
        settings = view.settings
        found = read_request(data, settings.max_head, settings.max_headers, settings.max_target, settings.max_body)  # type: ignore[misc]
        if found is None:
            return False
        target, authorization, content_type, body = found
        clock = house.clock
        wall, size = clock.wall_ns(), len(body)
        x = Exchange(
            self.client, house.ids.next(wall), wall, clock.mono_ns(), [body], "POST", target_path(target), False, True, False, True, False,
            authorization, content_type, b"", size, size, self.peer,
        )  # fmt: skip
        x.view = view
        self.body_bytes = size
        self.queue.append(x)
        return True

    def close(self) -> None:
        """Nothing more is read: let go of the parser, which holds this object as this one holds it."""
        self.queue.clear()
        del self.parser

    def _read_on(self, rest: bytes) -> None:
        """Read the body of a request that offers another protocol.

        For llhttp it has none; clients that offer h2c in every request do send one.
        """
        x = self.queue[-1] if self.queue and self.violation is None else None
        if x is None or x.method == "CONNECT" or not (x.content_length or self.encodings):
            return
        x.complete, self.reading = False, x
        framing = b"transfer-encoding: chunked" if self.encodings else b"content-length: %d" % (x.content_length or 0)
        self.parser = HttpRequestParser(_BodyOnly(self))
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        with suppress(HttpParserUpgrade):  # of what follows the body
            self.parser.feed_data(rest)

    def _weigh(self, x: Exchange) -> None:
        """Limits on a request that is not complete."""
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

    # llhttp's callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        house = self.house
        clock = house.clock
        wall = clock.wall_ns()
        self.reading = Exchange(self.client, house.ids.next(wall), wall, clock.mono_ns())
        self.target = self.forwarded_for = b""
        self.header_count = self.hosts = self.lengths = self.encodings = self.body_bytes = self.noted = self.merged = 0

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
            value = value.rstrip(b" \t")  # blanks are no part of a value; llhttp leaves those behind it
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
        x.keep = version == "1.1" and parser.should_keep_alive()
        x.head_only = x.method == "HEAD"
        x.path = target_path(self.target)
        x.address = self.peer
        if self.forwarded_for and self.is_proxy(self.peer):
            x.address = forwarded(self.forwarded_for, self.peer, self.is_proxy)
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
        elif self.header_count > settings.max_headers or (
            self.fed > settings.max_head and self._head_size() > settings.max_head
        ):
            self.violation = HeadTooLarge(
                f"A request may have {settings.max_headers} headers and {settings.max_head:,} bytes of head."
            )
        elif x.content_length is not None and x.content_length > settings.max_body and not is_metered(x):
            self.violation = BodyTooLarge(f"The body may have at most {settings.max_body:,} bytes.")
        else:
            self.queue.append(x)

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
            parts, merged = x.parts, self.merged
            parts.append(body)
            if len(parts) - merged > SMALL_PARTS:  # of a byte or two each, they would weigh twenty times what they hold
                parts[merged:] = [b"".join(parts[merged:])]
                self.merged += 1

    def swallows(self, rest: bytes) -> bool:
        """Whether the body that is being read takes all of `rest`, so that no other request can begin in it."""
        x = self.reading
        if x is None or not x.path:
            return False
        if x.content_length is not None:
            return x.content_length - self.body_bytes >= len(rest)
        # chunks: the last one's size begins a line with a zero
        return self.encodings == 1 and b"\r\n0" not in rest and rest[:3].lstrip(b"\r\n")[:1] != b"0"

    def on_message_complete(self) -> None:
        x = self.reading
        if x is None or self.violation is not None:
            return
        x.complete = True
        self.reading = None
        self.fed = 0


class _BodyOnly:
    """llhttp's callbacks for a body whose head another parser has read. What follows that body is not listened to."""

    def __init__(self, reader: Reader) -> None:
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete
