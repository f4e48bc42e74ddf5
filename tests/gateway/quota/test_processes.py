# SPDX-License-Identifier: Apache-2.0
"""Real worker processes on one file: together they admit what one would."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from beffroi.core.errors import CountersUnavailable, LimitExceeded
from beffroi.gateway.quota import ONLOOKER, Ask, Busy, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import ONE, SECOND, Child, SharedClock, admitted, counters, key

Start = Callable[..., Child]


@pytest.fixture
def shared_clock(path: Path) -> SharedClock:
    """The clock that the children read."""
    return SharedClock(path.with_suffix(".clock"))


def test_four_workers_with_a_hundred_reservations_each_share_a_budget_for_exactly_ten(
    path: Path, shared_clock: SharedClock, child: Start
) -> None:
    """Ten, at once, thirty times over; and what is returned can be taken by another."""
    workers = [child(number, hard_budget=100) for number in range(4)]
    for _ in range(30):
        for each in workers:
            each.tell(do="reserve", times=100, ask=(0, 0, 10, 10))
        assert sum(each.answer() for each in workers) == 10
        for each in workers:
            assert each.ask(do="settle", used=(0, 0, 0)) == "done"
    assert workers[0].ask(do="reserve", times=5, ask=(0, 0, 10, 10)) == 5
    workers[0].ask(do="settle", used=(0, 0, 4))
    assert workers[3].ask(do="reserve", times=100, ask=(0, 0, 10, 10)) == 8
    assert counters(path, shared_clock, ONLOOKER).spent(account_of(key(hard_budget=100))).spent == 20


@pytest.mark.parametrize(
    ("limits", "ask", "unit"),
    [
        ({"requests_per_minute": 240}, (0, 0, 0, 0), 1),
        ({"tokens_per_minute": 2400}, (10, 5, 0, 0), 10),
        ({"concurrency": 10, "requests_per_minute": 240}, (0, 0, 0, 0), 1),
    ],
    ids=["requests", "tokens", "concurrency too"],
)
def test_a_limit_over_four_workers_is_exact_in_every_window_and_within_one_percent_in_the_long_run(
    path: Path, shared_clock: SharedClock, child: Start, limits: dict[str, int], ask: tuple[int, ...], unit: int
) -> None:
    """All four want all they can get, all the time, for six minutes."""
    workers = [child(number, **limits) for number in range(4)]
    limit, step = 240, SECOND // 4
    counts: list[int] = []
    for _ in range(6 * 60 * 4):
        for each in workers:
            each.tell(do="reserve", times=8, ask=ask)
        counts.append(sum(each.answer() for each in workers))
        if counts[-1]:
            for each in workers:
                each.ask(do="settle", used=(unit, 0, 0))
        shared_clock.pass_(step)
    assert max(sum(counts[at : at + 240]) for at in range(len(counts))) == limit
    admissions = [at * step for at, count in enumerate(counts) for _ in range(count)]
    assert admissions[5 * limit] - admissions[0] <= 1.01 * 5 * 60 * SECOND


def test_a_frozen_worker_that_holds_a_key_s_lock_stops_nobody(
    path: Path, shared_clock: SharedClock, child: Start
) -> None:
    """Others hear at once that it is busy, other keys go on, and what was settled meanwhile arrives later."""
    limits = {"requests_per_minute": 40, "tokens_per_minute": 400, "soft_budget": 100}
    shared, record, other = counters(path, shared_clock, 1), key(**limits), key(1, **limits)
    ticket = shared.reserve(record, "m", None, Ask(10, 5, 0, 10))
    frozen = child(0, **limits)
    assert frozen.ask(do="freeze") == "holding"
    _stopped(frozen.process.pid)

    start = time.perf_counter()
    with pytest.raises(Busy):
        shared.reserve(record, "m", None, ONE)
    shared.settle(ticket, Used(30, 20, 7))
    assert time.perf_counter() - start < 0.05
    assert shared.pay() == 1
    assert shared.reserve(other, "m", None, ONE)
    assert shared.usage(account_of(record))[0].used == 1

    alone = [shared.reserve_alone(record, "m", None, Ask(5, 5, 0, 1)) for _ in range(10)]
    with pytest.raises(LimitExceeded, match="0 of 10 requests per minute are left"):
        shared.reserve_alone(record, "m", None, Ask(5, 5, 0, 1))
    for each in alone:
        shared.settle(each, Used(5, 5, 1))
    with pytest.raises(CountersUnavailable):
        shared.reserve_alone(key(hard_budget=10), "m", None, ONE)

    frozen.process.send_signal(signal.SIGCONT)
    assert frozen.answer() == "released"
    assert shared.pay() == 0
    assert [use.used for use in shared.usage(account_of(record))] == [11, 80, 17]
    assert [shared.spent(account_of(record)).spent, shared.spent(account_of(record)).reserved] == [17, 0]


def test_a_frozen_worker_that_is_killed_frees_the_lock(path: Path, shared_clock: SharedClock, child: Start) -> None:
    """The kernel sees to it."""
    record = key(concurrency=2)
    frozen = child(0, concurrency=2)
    frozen.ask(do="freeze")
    _stopped(frozen.process.pid)
    shared = counters(path, shared_clock, 1)
    with pytest.raises(Busy):
        shared.reserve(record, "m", None, ONE)
    frozen.kill()
    assert shared.reserve(record, "m", None, ONE)


def test_reset_at_start_waits_for_no_frozen_worker_and_is_made_good_later(
    path: Path, shared_clock: SharedClock, child: Start
) -> None:
    """A new worker serves while an old lock is held; the dead one's slots come back when it is freed."""
    record = key(concurrency=3)
    dead, frozen = child(1, concurrency=3), child(0, concurrency=3)
    assert dead.ask(do="reserve", times=2) == 2
    dead.kill()
    frozen.ask(do="freeze")
    _stopped(frozen.process.pid)
    shared = counters(path, shared_clock, 1)
    shared.reset_worker(1)
    assert shared.pay() == 1
    frozen.process.send_signal(signal.SIGCONT)
    frozen.answer()
    assert sum(admitted(shared, record) is not None for _ in range(9)) == 3


def test_a_file_grown_by_one_process_is_seen_by_the_others(path: Path, shared_clock: SharedClock) -> None:
    """Keys come while workers run."""
    first, second, look = (counters(path, shared_clock, number) for number in (0, 1, ONLOOKER))
    for slot in (0, 255, 256, 5_000):
        record = key(slot, requests_per_minute=3)
        assert [use.used for use in look.usage(account_of(record))] == [0]
        first.reserve(record, "m", None, ONE)
        second.reserve(record, "m", None, ONE)
        assert first.reserve(record, "m", None, ONE).requests_remaining == 0
        assert [use.used for use in look.usage(account_of(record))] == [3]
    assert path.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("content", [b"x" * 4096, b"BFCOUNT2" + bytes(9000)])
def test_a_file_of_another_kind_is_refused_and_left_alone(
    path: Path, shared_clock: SharedClock, content: bytes
) -> None:
    """The message says what to do."""
    path.write_bytes(content)
    with pytest.raises(CountersUnavailable, match="move it away"):
        counters(path, shared_clock)
    assert path.read_bytes()[: len(content)] == content


def test_a_file_that_cannot_be_opened_is_an_error_of_ours(tmp_path: Path, shared_clock: SharedClock) -> None:
    """Not an OSError from the depths; slots and worker numbers have bounds too."""
    with pytest.raises(CountersUnavailable):
        counters(tmp_path / "nowhere" / "counters.bin", shared_clock)
    with pytest.raises(ValueError, match="64 at most"):
        counters(tmp_path / "c", shared_clock, 64)
    with pytest.raises(CountersUnavailable, match="outside"):
        counters(tmp_path / "c", shared_clock).reserve(key(1 << 40, concurrency=1), "m", None, ONE)


def _stopped(pid: int) -> None:
    while " T " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.001)
