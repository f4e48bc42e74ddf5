# SPDX-License-Identifier: Apache-2.0
"""A load: so many clients, so many requests, so much time at most.

In: a gateway, a model, bounds. Out: `Figures`, whatever ended it.
"""

import asyncio
import json
import math
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from beffroi.cli.bench.client import Client, Place, Sample
from beffroi.cli.web import Gateway

GRACE = 30.0  # seconds that open requests get when time is up
_LIMIT = 300.0  # seconds of one request
QUANTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True)
class Plan:
    """What is asked, how often, by how many at once, for how long at most."""

    model: str
    concurrency: int
    requests: int
    seconds: float
    streamed: bool
    max_tokens: int
    prompt: str

    def body(self, number: int) -> dict[str, Any]:
        """One request. It begins with its number: a prompt that repeats is answered from caches, or taken for an attack."""
        content = f"{number}. {self.prompt}"
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        body["max_tokens"] = self.max_tokens
        if self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


@dataclass
class Figures:
    """What was measured, in seconds.

    Attributes:
        answered, faults: requests that were answered whole; those that were not, by why.
        cut: requests that were open when the load ended; they count for nothing.
        uncounted: answers that did not tell their tokens.
    """

    answered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    stopped: bool = False
    elapsed: float = 0.0
    first: "array[float]" = field(default_factory=lambda: array("d"))
    gaps: "array[float]" = field(default_factory=lambda: array("d"))
    total: "array[float]" = field(default_factory=lambda: array("d"))
    input: int = 0
    output: int = 0
    uncounted: int = 0

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.faults.values())

    def take(self, sample: Sample) -> None:
        """Count one request."""
        if sample.fault:
            self.faults[sample.fault] += 1
            return
        self.answered += 1
        self.total.append(sample.total)
        if sample.first is not None:
            self.first.append(sample.first)
        self.gaps.extend(sample.gaps)
        self.input += sample.input
        self.output += sample.output
        self.uncounted += not sample.counted


def quantile(values: Sequence[float], part: float) -> float | None:
    """The smallest of `values`, which are sorted, that at least `part` of them do not exceed; None of none."""
    if not values:
        return None
    return values[max(1, math.ceil(part * len(values) - 1e-9)) - 1]


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
