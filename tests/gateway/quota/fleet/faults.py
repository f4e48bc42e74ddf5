# SPDX-License-Identifier: Apache-2.0
"""The centre is killed, slowed or emptied under the load of four replicas, with three keys at once.

In: a fault and how long it lasts. Out: a `Run`: when each request of each key was admitted, what was refused, what was spent.
One key has a rate, one a soft budget, one a hard budget.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from beffroi.core.clock import SystemClock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.fleet import FleetBooks
from beffroi.gateway.quota.scopes import Account
from tests.gateway.quota.fleet.replica import Replica, run_all
from tests.gateway.quota.fleet.slow import SlowWay
from tests.servers import Valkey

REPLICAS = 4
BEFORE, AFTER = 1.5, 2.2
FILLED = 1.2  # seconds after the fault has ended at which control has compared the budgets with the ledger
RATE = 15  # requests a second of each key on each replica
LIMIT, BOUND, COST = 150, 100, 60
RATED, SOFT, HARD_KEY = 1, 2, 3


class Run(NamedTuple):
    """What came of it; times are seconds since the load began."""

    fault: str
    lasted: float
    hard: int
    admitted: list[tuple[float, int]]
    waits: list[tuple[float, float]]
    refused: dict[str, int]
    alone: int
    lost: int
    opened: int
    owed: int
    settled: int
    spent: dict[int, int]
    reserved: int

    def count(self, slot: int, since: float = 0.0, until: float = 1e9) -> int:
        """How many of a key were admitted in a span."""
        return sum(1 for at, its in self.admitted if its == slot and since <= at < until)


def _books(url: str, prefix: str) -> FleetBooks:
    return FleetBooks(url, prefix=prefix, clock=SystemClock(), zone="Europe/Paris")


def _fill(books: FleetBooks) -> None:
    for _ in range(100):
        try:
            epoch = books.missing()
            if epoch is not None:
                books.filled(epoch)
        except CountersUnavailable:
            time.sleep(0.05)
        else:
            return


def run_fault(fault: str, lasts: float) -> Run:
    """One run; `fault`: killed, slow (0.2 s more for each answer) or emptied."""
    hard = int((BEFORE + lasts + 1) * RATE * REPLICAS) * COST  # not reached before the fault has ended
    with ExitStack() as stack:
        server = stack.enter_context(Valkey())
        way = stack.enter_context(SlowWay(server.port))
        url = way.url if fault == "slow" else server.url
        keys = {RATED: {"requests_per_minute": LIMIT}, SOFT: {"soft_budget": 10**9}, HARD_KEY: {"hard_budget": hard}}
        replicas = [
            Replica(
                url, "m", keys=keys, seconds=BEFORE + lasts + AFTER, rate=3 * RATE, ask=(0, 0, BOUND, BOUND),
                used=(0, 0, COST), hold=0.05, after=0.7,
            )
            for _ in range(REPLICAS)
        ]  # fmt: skip
        for each in replicas:
            stack.callback(each.end)
        books = _books(server.url, "m")
        stack.callback(books.close)
        _fill(books)
        begin, end = _faults(fault, server, way)
        timers = [(BEFORE, begin), (BEFORE + lasts, end), (BEFORE + lasts + FILLED, lambda: _fill(books))]
        started = time.monotonic()
        threads = [threading.Timer(after, act) for after, act in timers]
        for thread in threads:
            thread.start()
        said = run_all(replicas)
        for thread in threads:
            thread.join()
        spent = {
            slot: books.spent(Account(slot, Limits(**limits))).spent for slot, limits in keys.items() if slot != RATED
        }
        reserved = books.spent(Account(HARD_KEY, Limits(hard_budget=hard))).reserved
        refused: dict[str, int] = {}
        for each in said:
            for code, count in each["refused"].items():
                refused[code] = refused.get(code, 0) + count
        return Run(
            fault,
            lasts,
            hard,
            [(at - started, slot) for each in said for at, slot in each["admitted"]],
            [(at - started, wait) for each in said for at, wait in each["waits"]],
            refused,
            *(sum(int(each[name]) for each in said) for name in ("alone", "lost", "opened", "owed", "settled")),
            spent,
            reserved,
        )


def _faults(fault: str, server: Valkey, way: SlowWay) -> tuple[Callable[[], Any], Callable[[], Any]]:
    if fault == "killed":
        return server.kill, server.start
    if fault == "slow":
        return lambda: setattr(way, "delay", 0.2), lambda: setattr(way, "delay", 0.0)
    return lambda: server.ask("FLUSHALL"), lambda: None
