# SPDX-License-Identifier: Apache-2.0
"""HTTP connections of control that nobody can hold for nothing: their number, a head's bytes and a head's time have an end.

In: what uvicorn reads. Out: the same, with an end. When there are too many, those that wait for nothing go first, the
longest silent before the others: whoever comes with a question is always heard.
"""

import asyncio
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from beffroi.control.api.problems import problem

HEAD_SECONDS = 10.0  # that a head may take, from the connection or from the first byte after an answer
HEAD_BYTES = 32 << 10  # of a head
MOST = 256  # connections of one server, and calls under way


class Crowd:
    """The connections of one server, the longest silent first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._idle: dict[Connection, None] = {}
        self._busy: set[Connection] = set()

    def come(self, connection: "Connection") -> None:
        """A connection is opened. Where there are too many, the longest silent one is closed."""
        if len(self._idle) + len(self._busy) >= self._most and self._idle:
            next(iter(self._idle)).give_up()
        self._idle[connection] = None

    def turn(self, connection: "Connection", *, busy: bool) -> None:
        """It waits for an answer now, or has been given one."""
        self.go(connection)
        if busy:
            self._busy.add(connection)
        else:
            self._idle[connection] = None

    def go(self, connection: "Connection") -> None:
        """It is closed."""
        self._idle.pop(connection, None)
        self._busy.discard(connection)


class Connection(HttpToolsProtocol):
    """As uvicorn's, with an end to waiting for a head."""

    crowd: Crowd

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self.crowd.come(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._stop_waiting()
        self.crowd.go(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:  # noqa: D102
        if self._head is None:
            self._await_head()
        self._size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:  # noqa: D102
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > HEAD_BYTES:
            raise httptools.HttpParserError("the head is too long")

    def on_headers_complete(self) -> None:  # noqa: D102
        self._stop_waiting()
        self.crowd.turn(self, busy=True)
        super().on_headers_complete()

    def on_response_complete(self) -> None:  # noqa: D102
        self.crowd.turn(self, busy=False)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in the form of every other refusal."""
        self._stop_waiting()
        body = problem(400, "malformed_http", f"{msg[0].upper()}{msg[1:]}").body
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + bytes(body))
        self.transport.close()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.give_up)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def give_up(self) -> None:
        """Close it: it has asked nothing."""
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()


def protocol() -> type[Any]:
    """A class of connections with a crowd of their own."""
    return type("Connection", (Connection,), {"crowd": Crowd()})


class Bounded:
    """An application that says so when too many calls are under way in it, instead of beginning one more."""

    def __init__(self, app: ASGIApp, most: int = MOST) -> None:
        self._app = app
        self._most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call."""
        if self._under_way >= self._most:
            detail = f"{self._most} calls are under way here; ask again in a second"
            await problem(503, "busy", detail, headers={"retry-after": "1"})(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


def settings(app: ASGIApp) -> uvicorn.Config:
    """How one of the two applications is served."""
    return uvicorn.Config(
        Bounded(app),
        log_config=None,
        access_log=False,
        lifespan="off",
        http=protocol(),
        ws="none",
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
