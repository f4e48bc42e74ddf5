# SPDX-License-Identifier: Apache-2.0
"""Clocks jump and machines reboot; limits neither open nor close for it."""

from pathlib import Path

import pytest

from beffroi.core.errors import LimitExceeded
from beffroi.gateway.quota import Ask, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import DAY, HOUR, MINUTE, ONE, SECOND, HandClock, admitted, at_paris, counters, key

FIRST, SECOND_BOOT = (1, 1), (2, 2)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * DAY, -400 * DAY])
def test_a_jump_of_the_wall_clock_opens_and_closes_no_rate(path: Path, clock: HandClock, jump: int) -> None:
    """Rates live on the monotonic clock."""
    shared, record = counters(path, clock), key(requests_per_minute=10, output_tokens_per_hour=100)
    assert sum(admitted(shared, record, Ask(1, 1, 0, 0)) is not None for _ in range(20)) == 10
    clock.pass_(20 * SECOND)
    clock.wall += jump
    assert admitted(shared, record, Ask(1, 1, 0, 0)) is None
    clock.pass_(41 * SECOND)
    assert sum(admitted(shared, record, Ask(1, 1, 0, 0)) is not None for _ in range(20)) == 10
    assert shared.usage(account_of(record))[1].used == 20


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_wall_clock_that_jumps_and_comes_back_opens_no_new_period(path: Path, jump: int) -> None:
    """Half an hour around midnight on the last day of the month."""
    clock = HandClock(wall=at_paris(2025, 11, 30, 23, 40) if jump > 0 else at_paris(2025, 12, 1, 0, 5))
    shared, record = counters(path, clock), key(hard_budget=10)
    shared.settle(shared.reserve(record, "m", None, Ask(0, 0, 10, 0)), Used(0, 0, 10))
    clock.wall += jump
    for _ in range(9):
        clock.pass_(MINUTE)
        assert admitted(shared, record, Ask(0, 0, 1, 0)) is None
    clock.wall -= jump
    clock.pass_(2 * SECOND)
    assert admitted(shared, record, Ask(0, 0, 1, 0)) is None
    assert shared.spent(account_of(record)).spent == 10
    if jump > 0:
        clock.pass_(at_paris(2025, 12, 1, 0, 0, 1) - clock.wall)
        assert admitted(shared, record, Ask(0, 0, 1, 0))


def test_a_wall_clock_that_was_set_right_is_believed_after_ten_minutes(path: Path, clock: HandClock) -> None:
    """A machine that started in 1970 finds its month."""
    clock.wall = 1_000 * SECOND
    shared, record = counters(path, clock), key(hard_budget=10)
    shared.settle(shared.reserve(record, "m", None, Ask(0, 0, 10, 0)), Used(0, 0, 10))
    clock.wall = at_paris(2025, 11, 12, 12)
    assert admitted(shared, record, Ask(0, 0, 10, 0)) is None
    for _ in range(12):
        clock.pass_(MINUTE)
        admitted(shared, key(1, concurrency=100))
    assert admitted(shared, record, Ask(0, 0, 10, 0))
    assert shared.spent(account_of(record)).starts_ns == at_paris(2025, 11, 1)


def test_a_clock_set_back_for_good_forgives_nothing_and_blocks_nothing_for_ever(path: Path, clock: HandClock) -> None:
    """What was spent under a wrong later month counts in the right earlier one, and the right next month is free."""
    clock.wall = at_paris(2035, 1, 5)
    shared, record = counters(path, clock), key(hard_budget=10)
    shared.settle(shared.reserve(record, "m", None, Ask(0, 0, 10, 0)), Used(0, 0, 10))
    clock.wall = at_paris(2025, 11, 30, 12)
    for _ in range(12):
        clock.pass_(MINUTE)
        assert admitted(shared, record, Ask(0, 0, 1, 0)) is None
    clock.pass_(DAY)
    assert admitted(shared, record, Ask(0, 0, 10, 0))


@pytest.mark.parametrize("down", [0, 30 * SECOND, 2 * HOUR, 3 * DAY])
@pytest.mark.parametrize("uptime", [1, 5_000])
def test_a_reboot_goes_on_where_the_wall_clock_says(path: Path, clock: HandClock, down: int, uptime: int) -> None:
    """The monotonic clock starts again, below or above where it was."""
    shared = counters(path, clock, boot=FIRST)
    record = key(requests_per_minute=10, output_tokens_per_hour=100, output_tokens_per_day=1000, hard_budget=1000)
    for _ in range(10):
        shared.settle(shared.reserve(record, "m", None, Ask(5, 5, 20, 0)), Used(5, 5, 7))
    shared.reserve(key(1, hard_budget=100, concurrency=3), "m", None, Ask(0, 0, 60, 0))
    shared.close()
    clock.wall += down
    clock.mono = uptime * SECOND
    again = counters(path, clock, boot=SECOND_BOOT)
    used = [use.used for use in again.usage(account_of(record))]
    assert used == [10 * (down < MINUTE), 50 * (down < HOUR), 50 * (down < DAY), 70]
    assert (admitted(again, record, Ask(1, 1, 1, 0)) is None) == (down < MINUTE)
    assert [use.used for use in again.usage(account_of(key(1, hard_budget=100, concurrency=3)))] == [0, 0]


def test_a_reboot_with_a_wall_clock_in_the_past_does_not_turn_time_back(path: Path, clock: HandClock) -> None:
    """A board without a battery starts in 1970: the window goes on from where it was."""
    shared, record = counters(path, clock, boot=FIRST), key(requests_per_minute=10)
    clock.pass_(5 * SECOND)
    for _ in range(10):
        shared.reserve(record, "m", None, ONE)
    clock.wall, clock.mono = 0, 0
    again = counters(path, clock, boot=SECOND_BOOT)
    with pytest.raises(LimitExceeded):
        again.reserve(record, "m", None, ONE)
    clock.pass_(62 * SECOND)
    assert again.reserve(record, "m", None, ONE)


def test_a_region_from_the_future_starts_anew(path: Path, clock: HandClock) -> None:
    """A copied or damaged file must not close a key for years."""
    shared, record = counters(path, clock), key(requests_per_minute=10, hard_budget=100)
    clock.pass_(400 * DAY)
    for _ in range(10):
        shared.settle(shared.reserve(record, "m", None, ONE), Used(0, 0, 5))
    clock.pass_(-400 * DAY)
    assert shared.usage(account_of(record))[0].used <= 10
    assert sum(admitted(shared, record) is not None for _ in range(20)) == 10


def test_a_second_process_of_the_same_boot_joins_the_time_of_the_first(path: Path, clock: HandClock) -> None:
    """No rebase, even if the wall clock has moved since."""
    first, record = counters(path, clock, boot=FIRST), key(requests_per_minute=10)
    for _ in range(4):
        first.reserve(record, "m", None, ONE)
    clock.wall += 5 * HOUR
    second = counters(path, clock, 1, boot=FIRST)
    assert second.usage(account_of(record))[0].used == 4
    for _ in range(6):
        second.reserve(record, "m", None, ONE)
    assert admitted(first, record) is None


@pytest.mark.parametrize(
    "limit", ["requests_per_minute", "tokens_per_minute", "output_tokens_per_hour", "output_tokens_per_day"]
)
def test_retry_after_is_when_a_retry_succeeds(path: Path, clock: HandClock, limit: str) -> None:
    """Not before, and not long after."""
    shared, record = counters(path, clock), key(**{limit: 12})
    length = {"minute": MINUTE, "hour": HOUR, "day": DAY}[limit.rsplit("_", 1)[1]]
    ask = Ask(4, 4, 0, 0) if "tokens" in limit else ONE
    for _ in range(12):
        admitted(shared, record, ask)
        clock.pass_(length / 37)
    with pytest.raises(LimitExceeded) as caught:
        shared.reserve(record, "m", None, ask)
    assert caught.value.limit == limit
    wait = caught.value.retry_after
    assert wait is not None and 0 < wait < length / SECOND
    clock.pass_(wait * SECOND - SECOND // 10)
    assert admitted(shared, record, ask) is None
    clock.pass_(SECOND // 5)
    assert admitted(shared, record, ask)


def test_the_limit_that_takes_longest_to_return_is_the_one_named(path: Path, clock: HandClock) -> None:
    """A retry after the shorter wait would fail again."""
    shared, record = counters(path, clock), key(requests_per_minute=1, output_tokens_per_day=5)
    shared.reserve(record, "m", None, Ask(5, 5, 0, 0))
    with pytest.raises(LimitExceeded) as caught:
        shared.reserve(record, "m", None, Ask(5, 5, 0, 0))
    assert caught.value.limit == "output_tokens_per_day"
    assert "0 of 5 output tokens per day are left" in caught.value.message


def test_a_request_larger_than_its_limit_is_told_so(path: Path, clock: HandClock) -> None:
    """Waiting would not help."""
    shared = counters(path, clock)
    with pytest.raises(LimitExceeded, match="needs about 11 tokens, more than the limit of 10 per minute"):
        shared.reserve(key(tokens_per_minute=10), "m", None, Ask(11, 1, 0, 0))
