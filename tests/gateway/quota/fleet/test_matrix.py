# SPDX-License-Identifier: Apache-2.0
"""The failure matrix, each cell: the centre is killed, slowed or emptied under the load of four replicas.

One run for each fault, with three keys at once: one has a rate, one a soft budget, one a hard budget. The long form
(`make chaos`) keeps the fault for a minute and holds the waits to their bound.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from beffroi.core.clock import SystemClock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.fleet import FleetBooks
from beffroi.gateway.quota.scopes import Account
from tests.gateway.quota.fleet.replica import Replica, run_all
from tests.gateway.quota.fleet.slow import SlowWay
from tests.harness import scaled
from tests.servers import Valkey

REPLICAS = 4
BEFORE, FAULT, AFTER = 1.5, float(scaled("fault_seconds", 2)), 2.5
FILLED = 1.2  # seconds after the fault has ended at which control has compared the budgets with the ledger
RATE = 15  # requests a second of each key on each replica
LIMIT, BOUND, COST = 150, 100, 60
HARD = int((BEFORE + FAULT + 1) * RATE * REPLICAS) * COST  # not reached before the fault has ended
RATED, SOFT, HARD_KEY = 1, 2, 3


class Run(NamedTuple):
    """What came of it; times are seconds since the load began."""

    fault: str
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


def _run(fault: str) -> Run:
    with ExitStack() as stack:
        server = stack.enter_context(Valkey())
        way = stack.enter_context(SlowWay(server.port))
        url = way.url if fault == "slow" else server.url
        keys = {RATED: {"requests_per_minute": LIMIT}, SOFT: {"soft_budget": 10**9}, HARD_KEY: {"hard_budget": HARD}}
        replicas = [
            Replica(
                url, "m", keys=keys, seconds=BEFORE + FAULT + AFTER, rate=3 * RATE, ask=(0, 0, BOUND, BOUND),
                used=(0, 0, COST), hold=0.05, after=1.0,
            )
            for _ in range(REPLICAS)
        ]  # fmt: skip
        for each in replicas:
            stack.callback(each.end)
        books = _books(server.url, "m")
        stack.callback(books.close)
        _fill(books)
        begin, end = _faults(fault, server, way)
        timers = [(BEFORE, begin), (BEFORE + FAULT, end), (BEFORE + FAULT + FILLED, lambda: _fill(books))]
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
        reserved = books.spent(Account(HARD_KEY, Limits(hard_budget=HARD))).reserved
        refused: dict[str, int] = {}
        for each in said:
            for code, count in each["refused"].items():
                refused[code] = refused.get(code, 0) + count
        return Run(
            fault,
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


@pytest.fixture(scope="module", params=["killed", "slow", "emptied"])
def run(request: pytest.FixtureRequest) -> Run:
    """One run for each fault."""
    return _run(request.param)


def test_rates_stay_open_at_their_part_and_are_not_passed(run: Run) -> None:
    """In the minute of the fault the limit holds over all, and some of it was given while nobody answered.

    Each goes on from what it last heard of the others, which is up to half a second old: hence the tenth.
    """
    assert LIMIT * 0.9 <= run.count(RATED, until=BEFORE + min(FAULT, 3.0) + AFTER) <= LIMIT * 1.1
    if run.fault != "emptied":
        assert run.count(RATED, BEFORE + 0.1, BEFORE + FAULT) > 0
        assert run.alone > 0
        assert run.opened >= REPLICAS


def test_soft_budgets_stay_open_and_nothing_spent_is_forgotten_or_counted_twice(run: Run) -> None:
    """All are admitted; the centre knows the cost of each once."""
    asked = int((BEFORE + FAULT + AFTER) * RATE) * REPLICAS
    assert asked * 0.97 <= run.count(SOFT) <= asked * 1.03
    assert run.spent[SOFT] == run.count(SOFT) * COST
    assert run.owed == 0


def test_hard_budgets_close_after_what_was_lent_and_open_again(run: Run) -> None:
    """Never passed; closed with a reason, not with a wrong refusal; what was spent is known once."""
    assert run.spent[HARD_KEY] == run.count(HARD_KEY) * COST <= HARD
    assert run.reserved == 0
    assert run.count(HARD_KEY, until=BEFORE) > 0.9 * BEFORE * RATE * REPLICAS
    closed = run.count(HARD_KEY, BEFORE + 1.2, BEFORE + FAULT)
    if run.fault == "emptied":
        assert closed == 0, "until the ledger has been heard, a hard budget is closed"
    else:
        assert closed <= 0.15 * (FAULT - 1.2) * RATE * REPLICAS
    assert run.refused["limits_unavailable"] > 0
    assert run.count(HARD_KEY, BEFORE + FAULT + FILLED + 0.3) > 0


def test_what_was_lost_is_noticed_by_all_and_a_slow_centre_loses_nothing(run: Run) -> None:
    """By the epoch."""
    assert run.lost == (0 if run.fault == "slow" else REPLICAS)


def test_nobody_waits_long(run: Run) -> None:
    """While nobody answers, hardly anybody waits: three answers missed in a row are enough to know.

    One that has lost all answers still; at the edge of a limit its word is waited for, 20 ms at most.
    """
    waits = sorted(wait for at, wait in run.waits if BEFORE <= at < BEFORE + FAULT)
    long = 22.0 if run.fault == "emptied" else 10.0
    assert waits[len(waits) // 2] <= long / 2
    assert sum(wait > long for wait in waits) <= max(0.01 * len(waits), 8 * REPLICAS)
    assert max(waits) <= 100.0  # a busy machine; the long form bounds the 99th percentile
