# SPDX-License-Identifier: Apache-2.0
"""A replica under load, as a process of its own: `python -m tests.gateway.quota.fleet.replica ORDER`.

In: a JSON order: where the centre is, keys with their limits, how many requests a second for how long, what each asks, holds
and uses. Out: one JSON line: when each was admitted (monotonic s), how many were refused and why, how long each waited (ms).
It reserves as admit does: again each millisecond while the counters are busy, alone after 20 ms.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from beffroi.core.clock import SystemClock
from beffroi.core.errors import BeffroiError
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota.fleet import FleetCounters
from beffroi.gateway.quota.terms import Ask, Busy, Used

ROOT = Path(__file__).resolve().parents[4]
PATIENCE = 0.020


def key_of(slot: int, **limits: Any) -> KeyRecord:
    """The key that all replicas have."""
    return KeyRecord(f"key_{slot}", f"public{slot}", b"", 1, slot, limits=Limits(**limits))


class Replica:
    """The process, seen from the test."""

    def __init__(self, url: str, prefix: str, **order: Any) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.gateway.quota.fleet.replica",
                json.dumps({"url": url, "prefix": prefix, **order}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "src"},
        )
        self.line()

    def line(self) -> Any:
        """The next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the replica has died"
        return json.loads(line)

    def go(self) -> None:
        """Begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def run_all(replicas: list[Replica]) -> list[dict[str, Any]]:
    """Start all at once, and what each has to say at its end."""
    for each in replicas:
        each.go()
    return [each.line() for each in replicas]


class _Load:
    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.keys = [key_of(int(slot), **limits) for slot, limits in order["keys"].items()]
        self.admitted: list[tuple[float, int]] = []
        self.refused: Counter[str] = Counter()
        self.refused_at: list[float] = []
        self.waits: list[tuple[float, float]] = []
        self.settled = 0

    async def run(self) -> None:
        order, loop = self.order, asyncio.get_running_loop()
        counters = FleetCounters(
            order["url"], prefix=order["prefix"], clock=SystemClock(), zone="Europe/Paris", loop=loop
        )
        counters.start()
        _say({"ready": await counters.ready(order.get("ready", 5.0))})
        await loop.run_in_executor(None, sys.stdin.readline)
        begin, count = time.monotonic(), 0
        seconds, rate = order["seconds"], order["rate"]
        tasks: set[asyncio.Task[None]] = set()
        while (now := time.monotonic() - begin) < seconds:
            while count < now * rate:
                task = loop.create_task(self._one(counters, self.keys[count % len(self.keys)]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                count += 1
            await asyncio.sleep(0.002)
        while tasks:
            await asyncio.sleep(0.01)
        await asyncio.sleep(order.get("after", 0.5))
        owed = counters.pay()
        counters.close()
        metrics = counters.metrics
        _say(
            {
                "admitted": self.admitted, "refused": self.refused, "refused_at": self.refused_at, "waits": self.waits,
                "settled": self.settled, "owed": owed, "opened": metrics.opened, "alone": metrics.alone,
                "lost": metrics.lost, "calls": metrics.calls, "missed": metrics.missed, "leases": metrics.leases,
            }
        )  # fmt: skip
        await counters.stop()

    async def _one(self, counters: FleetCounters, key: KeyRecord) -> None:
        ask, used, held = Ask(*self.order.get("ask", (0, 0, 0, 0))), Used(*self.order.get("used", (0, 0, 0))), None
        begin = time.monotonic()
        try:
            while held is None:
                try:
                    held = counters.reserve(key, "m", None, ask)
                except Busy:
                    if time.monotonic() - begin >= PATIENCE:
                        held = counters.reserve_alone(key, "m", None, ask)
                    else:
                        await asyncio.sleep(0.001)
        except BeffroiError as error:
            self.refused[error.code] += 1
            self.refused_at.append(time.monotonic())
        now = time.monotonic()
        self.waits.append((now, (now - begin) * 1000))
        if held is not None:
            self.admitted.append((now, key.slot))
            await asyncio.sleep(self.order.get("hold", 0.0))
            counters.settle(held, used)
            self.settled += used.cost


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_Load(json.loads(sys.argv[1])).run())
