# SPDX-License-Identifier: Apache-2.0
"""A worker may die between any two stores: nothing leaks, nothing opens, and sums are sound afterwards."""

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beffroi.gateway.quota import Ask, MappedCounters, Ticket, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Child,
    HandClock,
    SharedClock,
    admitted,
    counters,
    key,
)
from tests.native.mortal import Shared, mortal

FULL = {
    "requests_per_minute": 1000,
    "tokens_per_minute": 100_000,
    "output_tokens_per_hour": 100_000,
    "output_tokens_per_day": 100_000,
    "concurrency": 100,
    "hard_budget": 100_000,
    "soft_budget": 100_000,
}
FULL_KEY = key(**FULL)
ASK, USED = Ask(100, 60, 50, 40), Used(70, 30, 20)


KILLS = int(os.environ.get("BEFFROI_KILLS", "12"))


class Killed(BaseException):
    """What a test throws where a kill would have struck."""


class Fragile:
    """Words of a process that dies before its nth store."""

    def __init__(self, words: "memoryview[int]", stores: int) -> None:
        self.words, self.left = words, stores

    def __getitem__(self, at: Any) -> Any:
        return self.words[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.words[at] = value

    def __len__(self) -> int:
        return len(self.words)


def _die_in(act: Callable[[], object], victim: MappedCounters, stores: int, shared: Shared | None) -> bool:
    """Whether `act` got as far as its `stores`th store, where it died."""
    words = Fragile(victim._table.words, stores)
    victim._table.words = words  # type: ignore[assignment]
    try:
        if shared is not None:
            shared.counter = words
        act()
    except (Killed, KeyboardInterrupt):
        return True
    finally:
        if shared is not None:
            shared.counter = None
    return False


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled arithmetic, in a build that can die."""
    return mortal(tmp_path_factory.mktemp("mortal"))


@pytest.fixture(params=["twin", "kernel"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Shared | None:
    """Who does the arithmetic: the twin in Python, which is None, or the kernel."""
    counted = Shared(request.getfixturevalue("built")) if request.param == "kernel" else None
    for name in ("take_words", "give_words"):
        monkeypatch.setattr(f"beffroi.gateway.quota.table.{name}", counted and counted.wrap(name))
    return counted


def _state(shared: MappedCounters) -> dict[str, int]:
    return {use.name: use.used for use in shared.usage(account_of(FULL_KEY))}


ACTS: dict[str, Callable[[MappedCounters, Ticket], object]] = {
    "reserve": lambda shared, _: shared.reserve(FULL_KEY, "m", None, ASK),
    "settle": lambda shared, ticket: shared.settle(ticket, USED),
    "settle, with a debt": lambda shared, ticket: shared.settle(ticket, Used(500, 300, 50)),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("pause", [0, 3 * SECOND, 50 * SECOND, 2 * MINUTE, 2 * HOUR, 30 * DAY], ids=str)
def test_a_worker_killed_before_any_store_leaves_counters_sound(
    path: Path, act: str, pause: int, shared: Shared | None
) -> None:
    """Every store of reserve and settle, in the same slot and after the windows have moved."""
    stores = 0
    died = True
    while died:
        path.unlink(missing_ok=True)
        clock = HandClock()
        victim, other = counters(path, clock, 0), counters(path, clock, 1)
        kept = other.reserve(FULL_KEY, "m", None, ASK)
        ticket = victim.reserve(FULL_KEY, "m", None, ASK)
        clock.pass_(pause)
        before = _state(other)
        died = _die_in(partial(ACTS[act], victim, ticket), victim, stores, shared)
        between = _state(other)
        if died:
            # Until it is cleared nothing may look freer than it is, but by what the dead process itself gives back.
            for name in ("requests_per_minute", "tokens_per_minute", "output_tokens_per_hour", "output_tokens_per_day"):
                given = 0 if act == "reserve" or name == "requests_per_minute" else 40
                assert between[name] >= max(0, before[name] - given), (stores, name)
            assert between["hard_budget"] >= before["hard_budget"] - 30 * (act != "reserve"), stores
        again = counters(path, clock, 0)
        again.reset_worker(0)
        assert _state(again)["concurrency"] == 1, stores
        clock.pass_(5 * SECOND)
        admitted(again, FULL_KEY, Ask(0, 0, 10**9, 0))  # any request brings the region up to date
        spent, reserved = again.spent(account_of(FULL_KEY)).spent, again.spent(account_of(FULL_KEY)).reserved
        assert reserved == 50, stores
        assert spent in ((0,) if act == "reserve" else (0, 20, 50)), stores
        other.settle(kept, USED)
        state = _state(other)
        assert (state["concurrency"], state["hard_budget"] - other.spent(account_of(FULL_KEY)).spent) == (0, 0)
        clock.pass_(DAY + HOUR)
        for name, used in _state(other).items():
            assert used == 0 or "budget" in name, (stores, name)
        stores += 1
    assert stores > 5


def test_what_a_dead_worker_held_stays_held_for_five_seconds_and_its_concurrency_is_free_at_once(
    path: Path, clock: HandClock
) -> None:
    """Time for control to charge what the orphans cost, so that even a crash does not overspend."""
    limits = {"hard_budget": 100, "soft_budget": 100, "concurrency": 10}
    dead = counters(path, clock, 2)
    for _ in range(10):
        dead.reserve(key(**limits), "m", None, Ask(0, 0, 10, 10))
    new = counters(path, clock, 2)
    new.reset_worker(2)
    assert [use.used for use in new.usage(account_of(key(**limits)))] == [0, 100, 100]
    clock.pass_(4 * SECOND)
    assert admitted(new, key(**limits), Ask(0, 0, 10, 10)) is None
    new.charge(account_of(key(0)), 30)
    clock.pass_(SECOND)
    assert sum(admitted(new, key(**limits), Ask(0, 0, 10, 10)) is not None for _ in range(20)) == 7


def test_worker_0_clears_the_columns_of_workers_that_are_no_more(path: Path, clock: HandClock) -> None:
    """Eight workers before the restart, two after it."""
    for number in range(8):
        for slot in (0, 700):
            counters(path, clock, number, 8).reserve(key(slot, concurrency=8), "m", None, Ask(0, 0, 0, 0))
    for number in (0, 1):
        counters(path, clock, number, 2).reset_worker(number)
    look = counters(path, clock, 0, 2)
    assert [look.usage(account_of(key(slot, concurrency=8)))[0].used for slot in (0, 700)] == [0, 0]


def test_reset_of_one_worker_leaves_the_others_alone(path: Path, clock: HandClock) -> None:
    """Only the dead one's column is cleared."""
    workers = [counters(path, clock, number) for number in range(4)]
    tickets = [each.reserve(key(concurrency=9, hard_budget=100), "m", None, Ask(0, 0, 7, 0)) for each in workers]
    counters(path, clock, 2).reset_worker(2)
    clock.pass_(6 * SECOND)
    workers[0].settle(tickets[0], Used(0, 0, 1))
    assert [use.used for use in workers[0].usage(account_of(key(concurrency=9, hard_budget=100)))] == [2, 15]


@pytest.mark.slow
def test_kill_9_at_random_leaks_nothing(path: Path, child: Callable[..., Child], tmp_path: Path) -> None:
    """Four workers at full speed, killed and replaced again and again; then every sum is what it should be."""
    clock, draw = SharedClock(path.with_suffix(".clock")), random.Random(3)
    limits = dict.fromkeys(FULL, 10**12) | {"concurrency": 100}
    record = key(**limits)
    rounds = [tmp_path / f"rounds{number}" for number in range(4 + KILLS)]
    for each in rounds:
        each.write_bytes(bytes(8))

    def start(number: int, file: Path) -> Child:
        each = child(number, **limits)
        assert each.ask(do="churn", rounds=str(file), ask=(100, 60, 50, 40), used=(70, 30, 20)) == "churning"
        return each

    workers = [start(number, rounds[number]) for number in range(4)]
    kills = 0
    for file in rounds[4:]:
        for _ in range(draw.randrange(1, 8)):
            time.sleep(0.002)
            clock.pass_(draw.randrange(SECOND))
        victim = draw.randrange(4)
        workers[victim].kill()
        kills += 1
        workers[victim] = start(victim, file)
    for worker in workers:
        worker.kill()
        kills += 1
    look = counters(path, clock)
    for number in range(4):
        look.reset_worker(number)
    clock.pass_(6 * SECOND)
    admitted(look, record, Ask(0, 0, 10**15, 0))
    state = {use.name: use.used for use in look.usage(account_of(record))}
    done = sum(int.from_bytes(each.read_bytes(), "little") for each in rounds)
    spent = look.spent(account_of(record))
    assert state["concurrency"] == 0
    assert spent.reserved == 0
    assert 20 * done <= spent.spent <= 20 * (done + kills)
    assert done > 1000
    clock.pass_(2 * DAY)
    assert all(use.used == 0 for use in look.usage(account_of(record)) if "budget" not in use.name)
    assert sum(admitted(look, record) is not None for _ in range(200)) == 100
