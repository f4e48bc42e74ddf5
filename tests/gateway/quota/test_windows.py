# SPDX-License-Identifier: Apache-2.0
"""Rates slide: nothing over the limit in any window of its length, and hardly anything under it in the long run."""

from pathlib import Path

import pytest

from beffroi.core.errors import LimitExceeded
from beffroi.gateway.quota import NO_TICKET, Ask, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import DAY, HOUR, MINUTE, NOTHING, ONE, SECOND, HandClock, admitted, counters, key

WINDOWS = [
    ("requests_per_minute", MINUTE, Ask(0, 0, 0, 0), 1),
    ("tokens_per_minute", MINUTE, Ask(7, 3, 0, 0), 7),
    ("output_tokens_per_hour", HOUR, Ask(7, 3, 0, 0), 3),
    ("output_tokens_per_day", DAY, Ask(7, 3, 0, 0), 3),
]


@pytest.mark.parametrize(("name", "length", "ask", "unit"), WINDOWS, ids=[each[0] for each in WINDOWS])
def test_a_limit_admits_exactly_what_it_says_and_opens_again_when_the_window_has_passed(
    path: Path, clock: HandClock, name: str, length: int, ask: Ask, unit: int
) -> None:
    """Nine more than nothing, never ten."""
    shared, record = counters(path, clock), key(**{name: 9 * unit})
    assert sum(admitted(shared, record, ask) is not None for _ in range(20)) == 9
    clock.pass_(length - SECOND // 2)
    assert admitted(shared, record, ask) is None
    clock.pass_(length // 60)
    assert sum(admitted(shared, record, ask) is not None for _ in range(20)) == 9


@pytest.mark.parametrize(("name", "length", "ask", "unit"), WINDOWS, ids=[each[0] for each in WINDOWS])
@pytest.mark.parametrize("pattern", ["greedy", "steady", "bursts"])
def test_no_window_of_the_limit_s_length_admits_more_and_the_long_run_is_within_one_percent(
    path: Path, clock: HandClock, name: str, length: int, ask: Ask, unit: int, pattern: str
) -> None:
    """Demand at full throttle, just over the limit, and in bursts that aim at the windows' edges."""
    limit = 120 * unit
    shared, record = counters(path, clock), key(**{name: limit})
    step = {"greedy": length // 2400, "steady": length // 130, "bursts": length // 300 - 1}[pattern]
    at_once = 40 if pattern == "bursts" else 1
    times: list[int] = []
    start = clock.mono
    while clock.mono - start < 12 * length:
        times += [clock.mono for _ in range(at_once) if admitted(shared, record, ask)]
        clock.pass_(step)
    first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - length:
            first += 1
        assert (last - first + 1) * unit <= limit
    for rounds in range(1, 12):  # the first unit of the next full window comes in time
        assert times[120 * rounds] - times[0] <= 1.01 * rounds * length + step


def test_all_limits_are_taken_together_or_not_at_all(path: Path, clock: HandClock) -> None:
    """What the last limit refuses has taken nothing from the first."""
    shared = counters(path, clock)
    both = key(requests_per_minute=100, tokens_per_minute=1000, concurrency=50, output_tokens_per_day=10)
    for _ in range(30):
        assert admitted(shared, both, Ask(1, 11, 0, 0)) is None
    assert [use.used for use in shared.usage(account_of(both))] == [0, 0, 0, 0]
    assert admitted(shared, both, Ask(1, 10, 0, 0))
    assert [use.used for use in shared.usage(account_of(both))] == [1, 1, 10, 1]


def test_what_was_estimated_too_high_can_be_used_at_once(path: Path, clock: HandClock) -> None:
    """Also when the request ran for a while."""
    shared = counters(path, clock)
    record = key(tokens_per_minute=100, output_tokens_per_hour=100, output_tokens_per_day=100)
    for seconds in (0, 1, 20, 40):
        ticket = shared.reserve(record, "m", None, Ask(100, 100, 0, 0))
        clock.pass_(seconds * SECOND)
        assert admitted(shared, record, Ask(1, 1, 0, 0)) is None
        shared.settle(ticket, Used(0, 0, 0))
        assert [use.used for use in shared.usage(account_of(record))] == [0, 0, 0]


@pytest.mark.parametrize("lasts", [0, 5, 59, 61, 90, 3599, 3700, 86_000, 90_000])
@pytest.mark.parametrize("made", [200, 500])
def test_a_settled_request_leaves_exactly_its_use_in_the_windows_that_still_hold_it(
    path: Path, clock: HandClock, lasts: int, made: int
) -> None:
    """A long stream whose start has left the minute must not lower the minute of others."""
    shared = counters(path, clock)
    record = key(tokens_per_minute=10**6, output_tokens_per_hour=10**6, output_tokens_per_day=10**6)
    long = shared.reserve(record, "m", None, Ask(1000, 500, 0, 0))
    clock.pass_(lasts * SECOND)
    other = shared.reserve(record, "m", None, Ask(70, 7, 0, 0))
    shared.settle(long, Used(400, made, 0))
    shared.settle(other, Used(70, 7, 0))
    here = [70 + 400 * (lasts <= 60), 7 + made * (lasts <= 3600), 7 + made * (lasts <= 86_400)]
    assert [use.used for use in shared.usage(account_of(record))] == here
    for limit, used, asks in (("tokens_per_minute", here[0], (1, 0)), ("output_tokens_per_hour", here[1], (0, 1))):
        full = key(**{limit: used})
        assert admitted(shared, full, Ask(*asks, 0, 0)) is None
        assert admitted(shared, key(**{limit: used + 1}), Ask(*asks, 0, 0))
    clock.pass_(DAY + HOUR)
    assert [use.used for use in shared.usage(account_of(record))] == [0, 0, 0]


def test_what_was_estimated_too_low_counts_from_when_it_is_known(path: Path, clock: HandClock) -> None:
    """A debt, and it keeps the next request out."""
    shared, record = counters(path, clock), key(tokens_per_minute=100)
    ticket = shared.reserve(record, "m", None, Ask(10, 5, 0, 0))
    clock.pass_(50 * SECOND)
    shared.settle(ticket, Used(250, 200, 0))
    clock.pass_(15 * SECOND)
    assert shared.usage(account_of(record))[0].used == 240
    assert admitted(shared, record, Ask(1, 1, 0, 0)) is None
    clock.pass_(46 * SECOND)
    assert admitted(shared, record, Ask(1, 1, 0, 0))


def test_concurrency_counts_what_is_open(path: Path, clock: HandClock) -> None:
    """And a ticket settled twice gives back once."""
    shared, record = counters(path, clock), key(concurrency=2)
    first, second = shared.reserve(record, "m", None, ONE), shared.reserve(record, "m", None, ONE)
    assert admitted(shared, record) is None
    for _ in range(3):
        shared.settle(first, NOTHING)
    assert shared.usage(account_of(record))[0].used == 1
    assert admitted(shared, record)
    assert admitted(shared, record) is None
    shared.settle(second, NOTHING)
    assert admitted(shared, record)


def test_a_key_without_limits_is_not_counted(path: Path, clock: HandClock) -> None:
    """It touches no memory, and its headers say nothing."""
    shared, record = counters(path, clock), key(4000)
    ticket = shared.reserve(record, "m", None, Ask(10**9, 10**9, 10**9, 10**9))
    assert ticket is NO_TICKET
    assert ticket.requests_limit is None
    shared.settle(ticket, Used(1, 1, 1))
    assert shared.usage(account_of(record)) == ()
    assert path.stat().st_size < 10_000


def test_a_ticket_says_what_the_headers_need(path: Path, clock: HandClock) -> None:
    """Limit, what is left, and when the minute is whole again."""
    shared, record = counters(path, clock), key(requests_per_minute=3, concurrency=50)
    tickets = [shared.reserve(record, "m", None, ONE) for _ in range(3)]
    assert [each.requests_limit for each in tickets] == [3, 3, 3]
    assert [each.requests_remaining for each in tickets] == [2, 1, 0]
    assert tickets[0].requests_reset == 61
    clock.pass_(61 * SECOND)
    assert shared.reserve(record, "m", None, ONE).requests_remaining == 2
    with pytest.raises(LimitExceeded) as caught:
        for _ in range(9):
            shared.reserve(record, "m", None, ONE)
    assert caught.value.requests == (3, 0, 61)
    assert shared.reserve(key(1, concurrency=1), "m", None, ONE).requests_limit is None


def test_limits_that_change_hold_from_the_next_request(path: Path, clock: HandClock) -> None:
    """What was counted under the old limits counts under the new ones."""
    shared = counters(path, clock)
    for _ in range(5):
        shared.reserve(key(requests_per_minute=10), "m", None, Ask(10, 10, 0, 0))
    assert admitted(shared, key(requests_per_minute=5)) is None
    assert admitted(shared, key(tokens_per_minute=50), Ask(1, 1, 0, 0)) is None
    assert admitted(shared, key(tokens_per_minute=51), Ask(1, 1, 0, 0))


def test_counts_beyond_reason_are_capped_and_break_nothing(path: Path, clock: HandClock) -> None:
    """A hostile engine may report any number."""
    shared, record = counters(path, clock), key(requests_per_minute=100, soft_budget=10**9)
    for count in (10**30, -5, 1 << 63):
        shared.settle(shared.reserve(record, "m", None, ONE), Used(count, count, 0))
    assert shared.usage(account_of(record))[0].used == 3
    assert admitted(shared, key(tokens_per_minute=100), Ask(10**40, 10**40, 0, 0)) is None
    assert admitted(shared, key(1, hard_budget=10**18), Ask(1, 1, 10**40, 10**40)) is None
