# SPDX-License-Identifier: Apache-2.0
"""Money: a hard budget is never passed, a soft one only by what was estimated too low, and periods are the calendar's."""

from pathlib import Path

import pytest

from beffroi.core.errors import BudgetExceeded
from beffroi.core.money import NANO
from beffroi.gateway.quota import ONLOOKER, Ask, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import DAY, HOUR, NOON, SECOND, HandClock, admitted, at_paris, counters, key

TEN = Ask(0, 0, 10, 10)


def _pay(cost: int) -> Used:
    return Used(0, 0, cost)


def test_a_hard_budget_for_exactly_ten_admits_ten(path: Path, clock: HandClock) -> None:
    """The bound of each is held; not one nano-unit over."""
    shared, record = counters(path, clock), key(hard_budget=100)
    assert sum(admitted(shared, record, TEN) is not None for _ in range(30)) == 10
    assert shared.spent(account_of(record)).reserved == 100


def test_what_settling_returns_can_be_spent_at_once(path: Path, clock: HandClock) -> None:
    """Ten held, one settled at 3 of 10: 7 are free again."""
    shared, record = counters(path, clock), key(hard_budget=100)
    tickets = [shared.reserve(record, "m", None, TEN) for _ in range(10)]
    shared.settle(tickets[0], _pay(3))
    assert admitted(shared, record, Ask(0, 0, 8, 0)) is None
    assert admitted(shared, record, Ask(0, 0, 7, 0))
    assert (shared.spent(account_of(record)).spent, shared.spent(account_of(record)).reserved) == (3, 97)


def test_a_soft_budget_overspends_only_by_the_error_of_what_is_in_flight(path: Path, clock: HandClock) -> None:
    """Estimates are held like bounds; the truth may be dearer, and then it is a debt."""
    shared, record = counters(path, clock), key(soft_budget=100)
    tickets = [shared.reserve(record, "m", None, TEN) for _ in range(10)]
    assert admitted(shared, record, TEN) is None
    for ticket in tickets:
        shared.settle(ticket, _pay(13))
    assert shared.spent(account_of(record)).spent == 130
    assert admitted(shared, record, Ask(0, 0, 0, 1)) is None


def test_both_budgets_hold_together(path: Path, clock: HandClock) -> None:
    """The hard one sees bounds, the soft one estimates, both what was spent."""
    shared, record = counters(path, clock), key(hard_budget=100, soft_budget=30)
    assert sum(admitted(shared, record, Ask(0, 0, 20, 10)) is not None for _ in range(9)) == 3
    assert sum(admitted(shared, record, Ask(0, 0, 20, 0)) is not None for _ in range(9)) == 2


@pytest.mark.parametrize(
    ("period", "last", "first"),
    [
        ("day", (2025, 11, 12, 23, 59, 58), (2025, 11, 13, 0, 0, 1)),
        ("day", (2026, 3, 29, 23, 59, 58), (2026, 3, 30, 0, 0, 1)),  # 23 hours
        ("day", (2025, 10, 26, 23, 59, 58), (2025, 10, 27, 0, 0, 1)),  # 25 hours
        ("month", (2025, 12, 31, 23, 59, 58), (2026, 1, 1, 0, 0, 1)),
        ("month", (2028, 2, 29, 23, 59, 58), (2028, 3, 1, 0, 0, 1)),
    ],
)
def test_a_budget_renews_when_the_calendar_of_the_zone_says_so(
    path: Path, period: str, last: tuple[int, ...], first: tuple[int, ...]
) -> None:
    """Not a second before, in Paris."""
    clock = HandClock(wall=at_paris(*last) - HOUR)
    shared, record = counters(path, clock), key(hard_budget=10, budget_period=period)
    shared.settle(shared.reserve(record, "m", None, TEN), _pay(10))
    clock.pass_(HOUR)
    assert clock.wall == at_paris(*last)
    assert admitted(shared, record, TEN) is None
    clock.pass_(at_paris(*first) - at_paris(*last))
    assert admitted(shared, record, TEN)


def test_the_zone_is_a_setting(path: Path) -> None:
    """Midnight in Auckland is noon in Paris; a zone that does not exist is named."""
    clock = HandClock(wall=at_paris(2025, 11, 12, 11, 59, 58))
    shared, record = counters(path, clock, zone="Pacific/Auckland"), key(hard_budget=10, budget_period="day")
    shared.settle(shared.reserve(record, "m", None, TEN), _pay(10))
    assert admitted(shared, record, TEN) is None
    clock.pass_(3 * SECOND)
    assert admitted(shared, record, TEN)
    with pytest.raises(ValueError, match="Europe/Lutece"):
        counters(path, clock, zone="Europe/Lutece")


def test_a_total_budget_never_renews(path: Path, clock: HandClock) -> None:
    """Ten years on it is still spent."""
    shared, record = counters(path, clock), key(hard_budget=10, budget_period="total")
    shared.settle(shared.reserve(record, "m", None, TEN), _pay(10))
    clock.pass_(3650 * DAY)
    assert admitted(shared, record, TEN) is None
    assert shared.spent(account_of(record)).ends_ns is None


def test_what_is_held_over_midnight_stays_held_and_is_spent_in_the_new_period(path: Path) -> None:
    """A stream that runs into a new month cannot make that month's budget overrun."""
    clock = HandClock(wall=at_paris(2025, 11, 30, 23, 59, 50))
    shared, record = counters(path, clock), key(hard_budget=10)
    ticket = shared.reserve(record, "m", None, Ask(0, 0, 6, 0))
    clock.pass_(20 * SECOND)
    assert admitted(shared, record, Ask(0, 0, 5, 0)) is None
    shared.settle(ticket, _pay(6))
    assert shared.spent(account_of(record)).spent == 6
    assert admitted(shared, record, Ask(0, 0, 4, 0))


def test_a_refusal_names_the_limit_what_is_left_and_when_it_returns(path: Path) -> None:
    """In words for a person and in seconds for a client."""
    clock = HandClock(wall=at_paris(2025, 11, 30, 22))
    shared, record = counters(path, clock), key(hard_budget=3 * NANO)
    shared.settle(shared.reserve(record, "m", None, Ask(0, 0, 2 * NANO, 0)), _pay(2 * NANO))
    with pytest.raises(BudgetExceeded) as caught:
        shared.reserve(record, "m", None, Ask(0, 0, 2 * NANO, 0))
    assert caught.value.limit == "hard_budget"
    assert caught.value.retry_after == pytest.approx(2 * 3600, abs=1)
    assert "1 EUR of 3 EUR are left (month)" in caught.value.message
    assert "2025-12-01 00:00 (Europe/Paris)" in caught.value.message
    clock.pass_(caught.value.retry_after * SECOND)
    assert shared.reserve(record, "m", None, Ask(0, 0, 2 * NANO, 0))


@pytest.mark.parametrize(
    ("spent", "held", "asked", "period", "words", "least"),
    [
        (0, 8, 5, "month", "held by requests in progress", 1),
        (0, 0, 11, "month", "more than the whole budget; lower max_tokens", 3600),
        (10, 0, 5, "total", "does not renew", 3600),
    ],
)
def test_a_refusal_says_why_waiting_will_or_will_not_help(
    path: Path, clock: HandClock, spent: int, held: int, asked: int, period: str, words: str, least: float
) -> None:
    """Held, too large, or used up for good."""
    shared, record = counters(path, clock), key(hard_budget=10, budget_period=period)
    shared.restore(account_of(record), spent, spent)
    shared.reserve(record, "m", None, Ask(0, 0, held, 0))
    with pytest.raises(BudgetExceeded, match=words) as caught:
        shared.reserve(record, "m", None, Ask(0, 0, asked, 0))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= least


def test_control_charges_what_no_ticket_covers(path: Path, clock: HandClock) -> None:
    """An orphan of this month counts, one of last month does not; an unknown key is nobody's."""
    shared, control = counters(path, clock), counters(path, clock, ONLOOKER)
    record = key(hard_budget=100)
    shared.reserve(record, "m", None, TEN)
    control.charge(account_of(record), 60, at_ns=NOON)
    control.charge(account_of(record), 5)
    control.charge(account_of(record), 30, at_ns=NOON - 40 * DAY)
    control.charge(account_of(key(77_777)), 30)
    assert control.spent(account_of(record)).spent == shared.spent(account_of(record)).spent == 65
    assert sum(admitted(shared, record, TEN) is not None for _ in range(9)) == 2


def test_the_ledger_s_sum_can_be_restored_and_never_lowers(path: Path, clock: HandClock) -> None:
    """After a lost file, or when a budget is set in mid-month."""
    control, record = counters(path, clock, ONLOOKER), key(300, hard_budget=100)
    control.restore(account_of(record), 95, 95)
    control.restore(account_of(record), 20, 20)
    assert control.spent(account_of(record)).spent == 95
    assert admitted(counters(path, clock), record, TEN) is None


def test_an_onlooker_admits_nothing(path: Path, clock: HandClock) -> None:
    """Control has no column of its own."""
    with pytest.raises(ValueError, match="onlooker"):
        counters(path, clock, ONLOOKER).reserve(key(hard_budget=1), "m", None, TEN)


def test_another_kind_of_period_starts_from_nothing_until_the_ledger_s_sum_is_restored(
    path: Path, clock: HandClock
) -> None:
    """The sum of a month is not the sum of a day."""
    shared = counters(path, clock)
    shared.settle(shared.reserve(key(hard_budget=100), "m", None, TEN), _pay(10))
    daily = key(hard_budget=100, budget_period="day")
    assert shared.spent(account_of(daily)).spent == 0
    shared.restore(account_of(daily), 4, 4)
    assert shared.spent(account_of(daily)).spent == 4


def test_a_cleared_slot_is_as_new(path: Path, clock: HandClock) -> None:
    """Its neighbours keep what is theirs."""
    shared, control = counters(path, clock, 2), counters(path, clock, ONLOOKER)
    full = {"requests_per_minute": 10, "tokens_per_minute": 100, "concurrency": 9, "hard_budget": 1000}
    for slot in (0, 1, 2):
        shared.settle(shared.reserve(key(slot, **full), "m", None, Ask(5, 5, 5, 5)), Used(5, 5, 5))
        shared.reserve(key(slot, **full), "m", None, Ask(5, 5, 5, 5))
    control.clear(1)
    assert [use.used for use in shared.usage(account_of(key(1, **full)))] == [0, 0, 0, 0]
    assert shared.reserve(key(1, **full), "m", None, Ask(5, 5, 5, 5)).requests_remaining == 9
    for slot in (0, 2):
        assert [use.used for use in shared.usage(account_of(key(slot, **full)))] == [2, 10, 1, 10]


def test_usage_shows_every_limit_as_it_stands(path: Path, clock: HandClock) -> None:
    """Reading changes nothing, also long after the last request."""
    shared, look = counters(path, clock), counters(path, clock, ONLOOKER)
    record = key(requests_per_minute=10, output_tokens_per_hour=100, hard_budget=1000, soft_budget=500)
    assert [use.used for use in look.usage(account_of(record))] == [0, 0, 0, 0]
    shared.settle(shared.reserve(record, "m", None, Ask(9, 6, 50, 40)), Used(9, 6, 30))
    shared.reserve(record, "m", None, Ask(9, 6, 50, 40))
    shown = {use.name: use for use in look.usage(account_of(record))}
    assert [(use.used, use.remaining) for use in shown.values()] == [(2, 8), (12, 88), (80, 920), (70, 430)]
    assert 59 < shown["requests_per_minute"].resets_in <= 60.5
    assert 3500 < shown["output_tokens_per_hour"].resets_in <= 3630
    clock.pass_(10 * 60 * SECOND)
    before = path.read_bytes()
    assert [use.used for use in look.usage(account_of(record))] == [0, 12, 80, 70]
    assert path.read_bytes() == before
