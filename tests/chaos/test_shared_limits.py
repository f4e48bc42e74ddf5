# SPDX-License-Identifier: Apache-2.0
"""Limits of a fleet, the long form: minutes at the edge, a minute without the centre, workers and centre killed again and again."""

import random
import time
from contextlib import ExitStack

import pytest

from beffroi.core.clock import SystemClock
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.fleet import FleetBooks
from beffroi.gateway.quota.scopes import Account
from tests.chaos.figures import note
from tests.gateway.quota.fleet.faults import BEFORE, LIMIT, RATE, RATED, REPLICAS, run_fault
from tests.gateway.quota.fleet.replica import Replica, run_all
from tests.harness import scaled, wait_for
from tests.servers import Valkey

MINUTES = scaled("limit_minutes", 0)
FAULT = scaled("fault_seconds", 0)
KILLS = scaled("kills", 0)
LONG = "this is a part of the long form alone (make chaos)"


def _worst(times: list[float], span: float) -> int:
    best = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - span:
            first += 1
        best = max(best, last - first + 1)
    return best


@pytest.mark.chaos
@pytest.mark.skipif(not MINUTES, reason=LONG)
@pytest.mark.timeout(120 + MINUTES * 70)
@pytest.mark.parametrize("clients", ["random", "sticky"])
def test_a_limit_over_four_replicas_in_the_long_run_and_in_its_worst_minute(clients: str) -> None:
    """Offered four times its limit, over all or over one of the four alone."""
    limit, seconds = 600, MINUTES * 60
    with Valkey() as server:
        rates = [10] * REPLICAS if clients == "random" else [40] + [0] * (REPLICAS - 1)
        replicas = [
            Replica(server.url, "b", keys={1: {"requests_per_minute": limit}}, seconds=seconds, rate=rate)
            for rate in rates
        ]
        said = run_all(replicas)
        for each in replicas:
            each.end()
    times = sorted(at for each in said for at, _ in each["admitted"])
    waits = sorted(wait for each in said for _, wait in each["waits"])
    # A window slides in slots of 0.25 s and counts 241 of them; the first is a burst.
    allowed = limit * (1 + (times[-1] - times[0]) // 60.25)
    worst = _worst(times, 60.0)
    note(
        f"limit over {REPLICAS} replicas, {clients} clients", minutes=MINUTES, limit=limit, admitted=len(times),
        long_run=round(len(times) / allowed, 4), worst_minute=round(worst / limit, 4), p50_ms=round(waits[len(waits) // 2], 2),
        p99_ms=round(waits[len(waits) * 99 // 100], 2), alone=sum(each["alone"] for each in said),
    )  # fmt: skip
    assert worst <= limit * 1.05
    assert 0.99 <= len(times) / allowed <= 1.01


@pytest.mark.chaos
@pytest.mark.skipif(not FAULT, reason=LONG)
@pytest.mark.timeout(180 + FAULT * 2)
@pytest.mark.parametrize("fault", ["killed", "slow", "emptied"])
def test_a_minute_without_the_centre(fault: str) -> None:
    """The 99th percentile grows by 5 ms at most, each minute's limit holds, hard budgets are not passed, all is known once."""
    run = run_fault(fault, float(FAULT))
    during = sorted(wait for at, wait in run.waits if BEFORE <= at < BEFORE + FAULT)
    p99 = during[len(during) * 99 // 100]
    rated = sorted(at for at, slot in run.admitted if slot == RATED)
    worst = _worst(rated, 60.0)
    asked = int((BEFORE + FAULT) * RATE) * REPLICAS
    note(
        f"centre {fault}", seconds=FAULT, p50_ms=round(during[len(during) // 2], 3), p99_ms=round(p99, 2),
        most_ms=round(during[-1], 1), worst_minute=round(worst / LIMIT, 3), offered=asked,
        hard_spent=round(run.spent[3] / run.hard, 4), opened=run.opened, lost=run.lost,
    )  # fmt: skip
    assert worst <= LIMIT * 1.1
    assert run.spent[3] == sum(slot == 3 for _, slot in run.admitted) * 60 <= run.hard
    assert run.spent[2] == sum(slot == 2 for _, slot in run.admitted) * 60
    if fault != "emptied":
        assert p99 <= 5.0


@pytest.mark.chaos
@pytest.mark.skipif(not KILLS, reason=LONG)
@pytest.mark.timeout(300 + KILLS * 3)
def test_nothing_is_held_a_minute_after_workers_and_centre_were_killed_again_and_again() -> None:
    """Each round kills a worker that holds requests and money; every tenth the centre too."""
    dice, limits = random.Random(11), {"concurrency": 40, "hard_budget": 10**9}
    with ExitStack() as stack:
        server = stack.enter_context(Valkey())
        books = FleetBooks(server.url, prefix="k", clock=SystemClock(), zone="Europe/Paris")
        stack.callback(books.close)
        for number in range(KILLS):
            replica = Replica(server.url, "k", keys={1: limits}, seconds=30, rate=60, ask=(0, 0, 1000, 0), hold=20)
            epoch = books.missing()
            if epoch is not None:
                books.filled(epoch)
            replica.go()
            time.sleep(dice.uniform(0.05, 0.3))
            replica.end()
            if number % 10 == 4:  # so that the last ones died beside a centre that knew them
                server.kill()
                server.start()
        ended = time.monotonic()
        wait_for(lambda: _free(server, books, limits), 60.0, "all of the limit can be had again")
        took = time.monotonic() - ended
        reserved = books.spent(Account(1, Limits(**limits))).reserved
        note("killed again and again", kills=KILLS, free_after_s=round(took, 1), reserved=reserved)
        assert reserved == 0


def _free(server: Valkey, books: FleetBooks, limits: dict[str, int]) -> bool:
    """Whether one worker gets the whole limit."""
    epoch = books.missing()
    if epoch is not None:
        books.filled(epoch)
    replica = Replica(server.url, "k", keys={1: limits}, seconds=0.4, rate=200, ask=(0, 0, 1000, 0), hold=0.5)
    said = run_all([replica])[0]
    replica.end()
    return len(said["admitted"]) >= limits["concurrency"]
