# SPDX-License-Identifier: Apache-2.0
"""One connection's bytes as we read them and as h11 reads them.

In: pieces of bytes. Out: a `Reading`: the complete requests in order, whether the rest was refused, and what was answered.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h11

from beffroi.core.errors import BeffroiError
from beffroi.core.exchange import BODY, PAUSE, ClientGone, Exchange
from beffroi.gateway import pages
from beffroi.gateway.house import House
from beffroi.gateway.server import ClientConnection
from tests.client import Framing
from tests.gateway.rig import Rig, Transport


@dataclass(frozen=True)
class Seen:
    """What must not differ between two readers."""

    method: str
    path: str
    authorization: bytes | None
    content_type: bytes
    body: bytes


@dataclass
class Reading:
    """Complete requests; `refused`: an error was seen behind them; `closed`: nothing more is read."""

    requests: list[Seen] = field(default_factory=list)
    refused: bool = False
    closed: bool = False
    answers: list[int] = field(default_factory=list)


class Watched(Rig):
    """A worker whose rooms only take notes: each complete request gets an empty 200."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(settings=settings)
        self.seen: list[Seen] = []
        self.watch: Callable[[Exchange], object] = lambda _: None

    def flow(self) -> Any:
        return self.note

    async def note(self, x: Exchange, house: House) -> None:
        """In the place of the flow and of the pages."""
        try:
            if not x.complete:
                x.awaiting = BODY
                await PAUSE
            self.seen.append(self._seen(x))
            self.watch(x)
            x.outcome, x.last = "complete", b"{}"
        except BeffroiError as error:
            x.refusal = error
        except ClientGone:
            x.outcome = "client_gone"
        finally:
            pages.finish(x, house)
            self.later(x)

    def later(self, x: Exchange) -> None:
        """The record is written: its last bytes may go in the next turn."""
        self.house.loop.call_soon(x.recorded, None)

    @staticmethod
    def _seen(x: Exchange) -> Seen:
        if x.method == "CONNECT":
            return Seen(x.method, x.path, None, b"", b"")
        return Seen(
            x.method, x.path, x.authorization and x.authorization.strip(), x.content_type.strip(), b"".join(x.parts)
        )


class Wire(Transport):
    """A transport that lets nothing be written after the close, and whose reads stop when they must."""

    def write(self, data: bytes) -> None:
        assert not self.closed, "written to after the close"
        super().write(data)


def ours(rig: Watched, pieces: list[bytes]) -> Reading:
    """As our connection reads them."""
    rig.seen = []
    transport: Any = Wire()
    worker: Any = rig
    client = ClientConnection(worker)
    client.connection_made(transport)
    for piece in pieces:
        if transport.aborted:
            break
        client.data_received(piece)
        rig.loop.turn()
    client.connection_lost(None)
    rig.loop.turn()
    read = Reading(rig.seen, closed=transport.closed or transport.aborted)
    read.answers = _statuses(b"".join(transport.writes), [seen.method for seen in rig.seen])
    read.refused = len(read.answers) > len(rig.seen)
    assert not rig.connections and not rig.house.active, "something is left of a connection that is gone"
    return read


def _statuses(written: bytes, methods: list[str]) -> list[int]:
    """The answers that were written; the last one may be to a HEAD that was refused."""
    found: list[int] = []
    while written:
        known = methods[len(found)] if len(found) < len(methods) else "POST"
        framing = Framing(known)
        if not framing.feed(written):
            assert known == "POST" and len(found) == len(methods), f"half an answer: {written!r}"
            framing = Framing("HEAD")
            framing.feed(written)
        assert framing.answer
        found.append(framing.answer.status)
        written = bytes(framing.buffer)
    return found


def theirs(data: bytes) -> Reading:
    """As h11 reads them, but for what RFC 9112 lets a server overlook and no two readers see differently.

    Empty lines before a request (§2.2); more than one blank in the request line (§3); another protocol's name before the
    version, which llhttp takes for HTTP: such a request is answered as HTTP, and nothing of it goes on to an engine.
    """
    read = Reading()
    rest = _plain(data)
    while rest and not read.closed:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(rest)
        try:
            seen = _one(server)
        except h11.RemoteProtocolError:
            read.refused = read.closed = True
            return read
        if seen is None:
            return read
        read.requests.append(seen)
        read.closed = seen.method == "CONNECT" or not _goes_on(server)
        rest = _plain(server.trailing_data[0])
    return read


_LINE = re.compile(rb"([^\s]+) +([^\s]+) +(?:HTTP|RTSP|ICE)(/1\.[01]\r\n)")


def _plain(data: bytes) -> bytes:
    """The bytes with a strict request line, if they begin with one."""
    data = data.lstrip(b"\r\n")
    found = _LINE.match(data)
    return found.expand(rb"\1 \2 HTTP\3") + data[found.end() :] if found else data


def _one(server: h11.Connection) -> Seen | None:
    """The next complete request; None while there is none."""
    request, body = None, b""
    while True:
        event = server.next_event()
        if isinstance(event, h11.Request):
            request = event
            if request.method == b"CONNECT":  # what its body would be is not defined; we close after its head
                return Seen("CONNECT", pages.target_path(bytes(request.target)), None, b"", b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            named = dict(request.headers)
            path = pages.target_path(bytes(request.target))
            return Seen(
                request.method.decode(), path, named.get(b"authorization"), named.get(b"content-type", b""), body
            )
        else:
            return None


def _goes_on(server: h11.Connection) -> bool:
    """Whether the connection outlives the answer to the request just read."""
    server.send(h11.Response(status_code=400, headers=[("content-length", "0")]))
    server.send(h11.EndOfMessage())
    return server.our_state is h11.DONE
