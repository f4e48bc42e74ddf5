# SPDX-License-Identifier: Apache-2.0
"""One worker's gateway without sockets: the real connections, rooms and parsers, between two transports that a test holds.

In: a client's request, then the bytes of an engine, cut as the test likes. Out: every write to the client, every request
to an engine, every record for the journal. Time stands still until a test moves it; nothing runs that it did not call.
"""

import json
from collections.abc import Callable
from typing import Any

from beffroi.core.errors import EngineBroken, EngineTimeout
from beffroi.core.key import key_hash, new_key
from beffroi.core.price import Price
from beffroi.core.record import Settlement
from beffroi.core.snapshot import Config, EngineSpec, KeyBase, KeyRecord, Limits, ModelSpec, Settings, Target
from beffroi.gateway.flow import handle
from beffroi.gateway.house import House, Keys
from beffroi.gateway.server import ClientConnection
from beffroi.gateway.sweep import sweep
from beffroi.gateway.upstream.connection import EngineConnection
from beffroi.gateway.upstream.endpoint import Endpoint
from beffroi.telemetry.metrics import WorkerMetrics
from tests.client import Answer, Framing, chat, request
from tests.gateway.parts import Book, Loop, NoLimits, Transport
from tests.gateway.quota.support import HandClock

PEPPER = b"p" * 32
PUBLIC, UPSTREAM = "public-name", "org/Upstream-7B"
PRICE = Price("2026-01", input=900_000_000, cached=450_000_000, output=4_000_000_000, reasoning=21_000_000_000)
EVENT_STREAM = "text/event-stream; charset=utf-8"


class Rig:
    """A worker with one model on some engines, and what it has heard and said.

    Args:
        engines: name → dialect.
        spec: fields of the model, besides its name and engines.
        settings: fields of `Settings`.
    """

    def __init__(
        self,
        engines: dict[str, str] | str = "vllm",
        *,
        limits: Limits | None = None,
        settings: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        named = {"e0": engines} if isinstance(engines, str) else engines
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.book = Book(self.loop)
        self.counters: Any = NoLimits()
        made = new_key()
        self.key = made.text
        record = KeyRecord("key_1", made.public, key_hash(made.text, PEPPER), 1, 0, limits=limits or Limits())
        model = ModelSpec(
            PUBLIC,
            tuple(Target(name, UPSTREAM) for name in named),
            **({"prices": (PRICE,), "max_model_len": 32768} | spec),
        )
        self.config = Config(
            1,
            Settings(**(settings or {})),
            tuple(EngineSpec(name, f"http://{name}:80", kind, f"machine-{name}") for name, kind in named.items()),
            (model,),
        )
        book: Any = self.book
        loop: Any = self.loop
        self.house = House(
            self.config,
            Keys(KeyBase(1, {1: PEPPER}, (record,))),
            book,
            self.counters,
            WorkerMetrics(0, "b"),
            self.clock,
            loop,
        )
        self.connections: set[ClientConnection] = set()
        self.dialled: list[EngineConnection] = []
        self.refusing: set[str] = set()  # engines that refuse connections
        self.stuck: set[str] = set()  # engines that never accept
        for endpoint in self.house.endpoints.values():
            endpoint.dial = self._dialler(endpoint)  # type: ignore[method-assign]

    def _dialler(self, endpoint: Endpoint) -> Callable[[Callable[..., None]], None]:
        def dial(done: Callable[..., None]) -> None:
            name = endpoint.spec.name
            if name in self.refusing:
                self.loop.call_soon(done, None, EngineBroken("An engine does not accept connections.", retry_after=1))
            elif name in self.stuck:
                self.loop.call_soon(
                    done, None, EngineTimeout("An engine did not accept a connection within 2 s.", retry_after=1)
                )
            else:
                self.loop.call_soon(done, self.connection(endpoint), None)

        return dial

    def connection(self, endpoint: Endpoint) -> EngineConnection:
        """A new connection to an engine."""
        connection = EngineConnection(endpoint)
        transport: Any = Transport()
        connection.connection_made(transport)
        self.dialled.append(connection)
        return connection

    # what a client connection asks of its worker

    def flow(self) -> Any:
        return handle

    def is_proxy(self, _: str) -> bool:
        return False

    # what a test does

    def ask(
        self,
        body: dict[str, Any] | None = None,
        *,
        path: str = "/v1/chat/completions",
        version: str = "1.1",
        **more: Any,
    ) -> "Run":
        """A client sends a request; by default a chat that streams."""
        sent = body if body is not None else chat("hello", model=PUBLIC, **({"stream": True, "usage": False} | more))
        run = Run(self, sent)
        run.client.data_received(
            request(self.key, sent, path=path).replace(b"HTTP/1.1", b"HTTP/" + version.encode(), 1)
        )
        self.loop.turn()
        return run

    def pass_(self, seconds: float) -> None:
        """Time goes by, with a sweep each second."""
        for _ in range(int(seconds)):
            self.clock.pass_(1e9)
            worker: Any = self
            sweep(worker)
            self.loop.turn()


class Run:
    """One request under way."""

    def __init__(self, rig: Rig, body: dict[str, Any]) -> None:
        self.rig, self.body = rig, body
        self.transport: Any = Transport()
        worker: Any = rig
        self.client = ClientConnection(worker)
        self.client.connection_made(self.transport)

    @property
    def engine(self) -> EngineConnection:
        """The connection that carries the request now."""
        return next(c for c in reversed(self.rig.dialled) if c.answer is not None)

    def feed(self, *pieces: bytes) -> None:
        """The engine sends bytes, each piece in a read of its own."""
        engine = self.engine
        for piece in pieces:
            engine.data_received(piece)
            self.rig.loop.turn()

    def close(self, error: Exception | None = None) -> None:
        """The engine closes the connection, or with an error resets it."""
        self.engine.connection_lost(error)
        self.rig.loop.turn()

    def leave(self) -> None:
        """The client closes its connection."""
        self.client.connection_lost(None)
        self.rig.loop.turn()

    @property
    def waits(self) -> bool:
        """Whether an engine still has the request in hand."""
        return any(c.answer is not None for c in self.rig.dialled)

    @property
    def over(self) -> bool:
        """Whether the exchange is settled and its last bytes are out."""
        return self.client.exchange is None

    @property
    def sent(self) -> bytes:
        """All that the client has received."""
        return b"".join(self.transport.writes)

    @property
    def answer(self) -> Answer:
        """The client's answer, complete."""
        framing = Framing()
        if not framing.feed(self.sent):
            return framing.finish()
        assert framing.answer is not None
        assert not framing.buffer, "bytes after the end"
        return framing.answer

    @property
    def settlement(self) -> Settlement:
        """The record that closes the exchange."""
        found: list[Settlement] = self.rig.book.of(Settlement)
        return found[-1]

    @property
    def requests(self) -> list[tuple[str, bytes]]:
        """(engine, bytes) of every request that went to an engine."""
        out = []
        for connection in self.rig.dialled:
            transport: Any = connection.transport
            out += [(connection.endpoint.spec.name, data) for data in transport.writes]
        return out

    @property
    def upstream(self) -> dict[str, Any]:
        """The JSON of the last request to an engine."""
        body: dict[str, Any] = json.loads(self.requests[-1][1].partition(b"\r\n\r\n")[2])
        return body


def head(
    status: int = 200, kind: str = EVENT_STREAM, length: int | None = None, *, close: bool = False, more: str = ""
) -> bytes:
    """The head of an engine's answer: chunked, of a length, or up to the close."""
    framing = (
        "connection: close\r\n"
        if close
        else "transfer-encoding: chunked\r\n"
        if length is None
        else f"content-length: {length}\r\n"
    )
    return f"HTTP/1.1 {status} Any\r\ncontent-type: {kind}\r\n{framing}{more}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"


def stream(events: list[bytes]) -> bytes:
    """A whole answer of events, each in a chunk of its own, as the engines send them."""
    return head() + b"".join(map(chunk, events)) + LAST


def plain(body: Any, status: int = 200) -> bytes:
    """A whole JSON answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, "application/json", len(data)) + data
