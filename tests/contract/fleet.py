# SPDX-License-Identifier: Apache-2.0
"""The fleet's counters under the suite: four workers and control's books over one real Valkey or Redis, on one loop.

In: a running server. Out: a `Backend`. A day passes in a moment: what the centre adds to its own clock grows by it, which to
the script is the same as its clock going on.
"""

import asyncio
import os
import time

import redis

from beffroi.core.snapshot import KeyRecord, QuotaRecord
from beffroi.gateway.quota.fleet import FleetBooks, FleetCounters
from beffroi.gateway.quota.fleet.wire import Names
from beffroi.gateway.quota.port import Held
from beffroi.gateway.quota.terms import Ask, Busy
from tests.gateway.quota.support import NOON, HandClock

WORKERS = 4
MS = 1_000_000


class Patient(FleetCounters):
    """A worker whose `move` waits, as the flow does, for the centre's word."""

    backend: "Fleet"

    def move(self, ticket: Held, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """See `port.Counters`."""
        for _ in range(2000):
            try:
                return super().move(ticket, key, model, end_user, ask)
            except Busy:
                self.backend.turn()
        raise AssertionError("busy for ever")


class Fleet:
    """See `Backend`."""

    def __init__(self, url: str) -> None:
        self.url, self.prefix = url, f"t{os.urandom(6).hex()}"
        self.clock = HandClock()
        self.loop = asyncio.new_event_loop()
        self._workers: dict[int, Patient] = {}
        self._quotas: tuple[QuotaRecord, ...] = ()
        self._house = Names(self.prefix).house
        self._client = redis.Redis.from_url(url)
        seconds, micros = self._client.time()
        now = seconds * 1000 + micros // 1000
        house = {"epoch": "epo_test", "whole": 1, "last": NOON // MS, "off": NOON // MS - now, "drift": 0}
        self._client.hset(self._house, mapping=house | {"step": 0, "since": 0})
        self._books = FleetBooks(url, prefix=self.prefix, clock=self.clock, zone="Europe/Paris")
        for number in range(WORKERS):
            self.worker(number)

    def worker(self, number: int) -> Patient:
        """See `Backend`."""
        if number not in self._workers:
            made = Patient(self.url, prefix=self.prefix, clock=self.clock, zone="Europe/Paris", loop=self.loop)
            made.backend = self
            made.know(self._quotas)
            self.loop.run_until_complete(_started(made))
            self._workers[number] = made
        return self._workers[number]

    def books(self) -> FleetBooks:
        """See `Backend`."""
        return self._books

    def know(self, *quotas: QuotaRecord) -> None:
        """See `Backend`."""
        self._quotas = quotas
        for each in self._workers.values():
            each.know(quotas)

    def pass_(self, seconds: float) -> None:
        """See `Backend`."""
        self.clock.pass_(seconds * 1e9)
        self._client.hincrby(self._house, "off", int(seconds * 1000))
        for each in self._workers.values():
            each.upkeep()
        self._settle()

    def set_wall(self, seconds: float) -> None:
        """See `Backend`."""
        self.clock.wall += int(seconds * 1e9)

    def turn(self) -> None:
        """See `Backend`."""
        self.clock.pass_(MS)
        self.loop.run_until_complete(asyncio.sleep(0.001))

    def rest(self) -> None:
        """See `Backend`."""
        for _ in range(3):
            for each in self._workers.values():
                each.calm()
            self._settle()
        assert all(each.pay() == 0 for each in self._workers.values())

    def kill(self, number: int) -> None:
        """See `Backend`: it says nothing any more, and nobody hears of it."""
        dead = self._workers.pop(number)
        dead.silence()
        self.loop.run_until_complete(dead.stop())
        for _ in range(12):
            self.pass_(5.0)
        self.worker(number)

    def close(self) -> None:
        """See `Backend`."""
        for each in self._workers.values():
            each.close()
            self.loop.run_until_complete(each.stop())
        self._books.close()
        self._client.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def _settle(self) -> None:
        deadline = time.monotonic() + 5
        while True:
            self.loop.run_until_complete(asyncio.sleep(0.001))
            if not any(each.talking() for each in self._workers.values()):
                return
            assert time.monotonic() < deadline, "the workers go on talking"


async def _started(made: FleetCounters) -> None:
    made.start()
    await made.ready(5.0)
