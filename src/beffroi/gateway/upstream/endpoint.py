# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: the connections to one engine. Idle ones are kept, last in first out, so that spare ones go cold.

In: an engine's address (TCP, TLS with a CA of one's own, or a Unix socket). Out: connections ready to carry one exchange.
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from beffroi.core.errors import EngineBroken, EngineError, EngineTimeout
from beffroi.core.snapshot import EngineSpec, Settings
from beffroi.gateway.upstream.connection import EngineConnection

MAX_IDLE = 512
IDLE_SECONDS = 60.0


class Endpoint:
    """One engine's address, idle connections and limits."""

    def __init__(self, spec: EngineSpec, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.spec = spec
        self.loop = loop
        self.idle: list[EngineConnection] = []
        self.busy = 0
        self.retired = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.unix: str | None = None
        self.tls: ssl.SSLContext | None = None
        self.host, self.port, prefix = "localhost", 80, ""
        if spec.url.startswith("unix:"):
            self.unix = spec.url.removeprefix("unix:")
        else:
            parts = urlsplit(spec.url)
            self.host = parts.hostname or "localhost"
            self.port = parts.port or (443 if parts.scheme == "https" else 80)
            prefix = parts.path.rstrip("/")
            if parts.scheme == "https":
                self.tls = ssl.create_default_context(cafile=spec.ca_file)
        shown = self.host if ":" not in self.host else f"[{self.host}]"
        authority = shown if self.unix else f"{shown}:{self.port}"
        bearer = f"authorization: Bearer {spec.api_key}\r\n" if spec.api_key else ""
        fixed = f"host: {authority}\r\n{bearer}content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        self._heads = {
            path: f"POST {prefix}/v1/{path} HTTP/1.1\r\n{fixed}".encode()
            + b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n"
            for path in ("chat/completions", "completions", "embeddings")
        }
        self.tune(settings)

    def tune(self, settings: Settings) -> None:
        """Take the limits of a new configuration."""
        self.connect_timeout = settings.connect_timeout
        self.max_answer = settings.max_answer

    def head(self, path: str, request_id: str, length: int) -> bytes:
        """The head of a request. Only headers of ours go to an engine (decision D8)."""
        return self._heads[path] % (request_id.encode(), length)

    def take(self) -> EngineConnection | None:
        """An idle connection, the most recently used first; None when there is none."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.closing:
                return connection
        return None

    def give(self, connection: EngineConnection, now: float) -> None:
        """Take back a connection whose answer came whole."""
        if self.retired or len(self.idle) >= MAX_IDLE:
            connection.abort()
        else:
            connection.idle_since = now
            self.idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """An idle connection was closed by the engine."""
        if connection in self.idle:
            self.idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle for long; the oldest stand first."""
        while self.idle and now - self.idle[0].idle_since > IDLE_SECONDS:
            self.idle.pop(0).abort()

    def retire(self) -> None:
        """The engine has left the configuration."""
        self.retired = True
        while self.idle:
            self.idle.pop().abort()

    def dial(self, done: Callable[[EngineConnection | None, EngineError | None], None]) -> None:
        """Open a connection; `done` gets it, or the error. The only place on the request path where a task is made."""
        task = self.loop.create_task(self._dial(done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, done: Callable[[EngineConnection | None, EngineError | None], None]) -> None:
        connection = EngineConnection(self)
        try:
            async with asyncio.timeout(self.connect_timeout):
                if self.unix is not None:
                    await self.loop.create_unix_connection(lambda: connection, self.unix)
                elif self.tls is not None:
                    await self.loop.create_connection(lambda: connection, self.host, self.port, ssl=self.tls)
                else:
                    await self.loop.create_connection(lambda: connection, self.host, self.port)
        except TimeoutError:
            done(
                None,
                EngineTimeout(
                    f"An engine did not accept a connection within {self.connect_timeout:g} s.", retry_after=1
                ),
            )
        except (OSError, UnicodeError):  # a name that cannot be one
            done(None, EngineBroken("An engine does not accept connections.", retry_after=1))
        else:
            done(connection, None)
