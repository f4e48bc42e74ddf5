# SPDX-License-Identifier: Apache-2.0
"""A limit over four replicas, in virtual time: the long run, the worst window, and clocks that step."""

import random
from typing import Any

import pytest
import redis

from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota.fleet import FleetCounters
from beffroi.gateway.quota.fleet.wire import Names
from beffroi.gateway.quota.port import Held
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.terms import Ask, Busy, Used
from tests.contract.fleet import WORKERS, Fleet
from tests.gateway.quota.fleet.replica import key_of

pytestmark = pytest.mark.alone  # what one worker holds for how long is measured

STEP = 0.5
LONG = 3  # minutes that are a long run, after the first, in which the limit fills
NOTHING = Ask(0, 0, 0, 0)


def take(fleet: Fleet, worker: FleetCounters, record: KeyRecord, ask: Ask = NOTHING, user: str | None = None) -> Held:
    """Reserve as admit does."""
    for _ in range(2000):
        try:
            return worker.reserve(record, "m", user, ask)
        except Busy:
            fleet.turn()
    raise AssertionError("busy for ever")


def worst(times: list[int], span_ms: int) -> int:
    """The most in any span; `times` grow."""
    best = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - span_ms:
            first += 1
        best = max(best, last - first + 1)
    return best


@pytest.mark.parametrize(
    ("sticky", "limits", "ask"),
    [(False, {"requests_per_minute": 240}, Ask(0, 0, 0, 0)), (True, {"tokens_per_minute": 2400}, Ask(10, 5, 0, 0))],
    ids=["random clients", "sticky clients"],
)
def test_a_limit_over_four_replicas_is_used_to_the_full_and_never_passed_by_a_twentieth(
    fleet: Fleet, sticky: bool, limits: dict[str, int], ask: Ask
) -> None:
    """Offered half as much again as the limit for four minutes and more: in the long run within a hundredth, in each minute at most 1.05.

    What is lent ahead is used up to half a second later, so that one minute alone may show some of the one before it.
    """
    record, dice = key_of(1, **limits), random.Random(7)
    times: list[int] = []
    for _ in range(int((60 + LONG * 60.25 + 5) / STEP)):
        for _ in range(3):  # 6 a second against 4
            worker = fleet.worker(0 if sticky else dice.randrange(WORKERS))
            try:
                worker.settle(take(fleet, worker, record, ask=ask), Used(ask.tokens, ask.output, 0))
            except LimitExceeded:
                continue
            times.append(worker.house_ms())
        fleet.pass_(STEP)
    times.sort()
    full = next(at for at in times if at >= times[0] + 60_000)  # when the first minute is over
    assert worst(times, 60_000) <= 240 * 1.05
    assert sum(at < full for at in times) == 240
    assert LONG * 240 * 0.99 <= sum(full <= at < full + LONG * 60_250 for at in times) <= LONG * 240 * 1.01


@pytest.mark.parametrize("step", [3_600_000, -3_600_000], ids=["an hour on", "an hour back"])
def test_a_step_of_the_centre_s_clock_neither_opens_nor_closes(fleet: Fleet, step: int) -> None:
    """The workers' monotonic clocks know better; the calendar waits ten minutes before it believes."""
    fleet.pass_(11 * 3600 + 1800)  # half past eleven at night
    record, ask = key_of(1, requests_per_minute=3, hard_budget=30, budget_period="day"), Ask(0, 0, 10, 0)
    for _ in range(2):
        fleet.worker(0).settle(take(fleet, fleet.worker(0), record, ask=ask), Used(0, 0, 10))
    before = fleet.worker(0).house_ms()
    with redis.Redis.from_url(fleet.url) as client:
        client.hincrby(Names(fleet.prefix).house, "off", step)  # what a step of its clock is to the script
    fleet.worker(1).settle(take(fleet, fleet.worker(1), record, ask=ask), Used(0, 0, 10))
    assert abs(fleet.worker(1).house_ms() - before) < 5000
    with pytest.raises(LimitExceeded):
        take(fleet, fleet.worker(2), record, ask=ask)
    fleet.pass_(61)
    with pytest.raises(LimitExceeded, match="hard_budget"):
        take(fleet, fleet.worker(3), record, ask=ask)
    assert fleet.books().spent(Account(1, record.limits)).spent == 30


def test_what_the_centre_keeps_runs_out(fleet: Fleet) -> None:
    """No key without an end, but the two that all share."""
    for slot in range(5):
        record = key_of(slot, requests_per_minute=3, **({"hard_budget": 30} if slot else {}))
        fleet.worker(0).settle(take(fleet, fleet.worker(0), record, user="ann", ask=Ask(0, 0, 1, 0)), Used(0, 0, 1))
    fleet.rest()
    names = Names(fleet.prefix)
    with redis.Redis.from_url(fleet.url) as client:
        found = {name.decode(): client.pttl(name) for name in client.keys(f"{{{fleet.prefix}}}*")}
    assert all(0 < left <= 40 * 86_400_000 for name, left in found.items() if name not in (names.house, names.alive))
    assert found[names.scope(Account(0, Limits()))] <= 180_000
    assert len(found) == 12


def test_a_worker_forgets_scopes_that_nobody_uses(fleet: Fleet) -> None:
    """After ten minutes, and what was used is known on."""
    for slot in range(20):
        fleet.worker(0).settle(take(fleet, fleet.worker(0), key_of(slot, requests_per_hour=2)), Used(0, 0, 0))
    fleet.rest()
    for _ in range(40):
        fleet.pass_(20)
    assert fleet.worker(0).scopes() == 0
    take(fleet, fleet.worker(0), key_of(3, requests_per_hour=2))
    with pytest.raises(LimitExceeded):
        take(fleet, fleet.worker(0), key_of(3, requests_per_hour=2))


def test_what_one_worker_returns_another_can_take_at_once(fleet: Fleet) -> None:
    """A lease ahead is called back when somebody else looks for room."""
    record: Any = key_of(1, concurrency=64)
    held = [take(fleet, fleet.worker(0), record) for _ in range(40)]
    for ticket in held[:20]:
        fleet.worker(0).settle(ticket, Used(0, 0, 0))
    assert len([take(fleet, fleet.worker(1), record) for _ in range(44)]) == 44
    with pytest.raises(LimitExceeded):
        take(fleet, fleet.worker(2), record)
