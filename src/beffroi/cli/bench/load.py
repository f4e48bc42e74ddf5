# SPDX-License-Identifier: Apache-2.0
"""A load: so many clients, so many requests, so much time at most.

In: a gateway, a model, bounds. Out: `Figures`, whatever ended it.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from beffroi.cli.bench.client import Client, Place
from beffroi.cli.bench.figures import Figures, Plan
from beffroi.cli.web import Gateway

GRACE = 30.0  # seconds that open requests get when time is up
_LIMIT = 300.0  # seconds of one request


class Load:
    """One load, running."""

    def __init__(self, gateway: Gateway, plan: Plan, progress: Callable[[int], None]) -> None:
        self.figures = Figures()
        self._plan, self._progress = plan, progress
        parts = urlsplit(gateway.url)
        secure = parts.scheme == "https"
        context = ssl.create_default_context(cafile=None if gateway.ca is None else str(gateway.ca)) if secure else None
        host = parts.hostname or ""
        self._place = Place(host, parts.port or (443 if secure else 80), context, host)
        self._head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {gateway.key}\r\n"
            "content-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: "
        ).encode("ascii")
        self._asked = 0
        self._deadline = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Figures:
        """Load until the requests or the time are used up, or `stop`."""
        began = time.monotonic()
        self._deadline = began + self._plan.seconds
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._plan.concurrency)]
        _, late = await asyncio.wait(self._tasks, timeout=self._plan.seconds + min(GRACE, self._plan.seconds))
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.figures.elapsed = time.monotonic() - began
        return self.figures

    def stop(self) -> None:
        """End it now: what is open is cut."""
        self.figures.stopped = True
        self._deadline = 0.0
        for task in self._tasks:
            task.cancel()

    async def _client(self) -> None:
        client = Client(self._place)
        try:
            while self._asked < self._plan.requests and time.monotonic() < self._deadline:
                self._asked += 1
                self.figures.cut += 1  # until it is answered
                body = json.dumps(self._plan.body(self._asked)).encode()
                sample = await client.ask(b"%b%d\r\n\r\n%b" % (self._head, len(body), body), _LIMIT)
                self.figures.cut -= 1
                self.figures.take(sample)
                self._progress(self._asked - self.figures.cut)
        finally:
            client.close()
