# SPDX-License-Identifier: Apache-2.0
"""Which engine, when it is left aside, when it is tried again, and how many tries there are."""

import random

import pytest

from beffroi.core.errors import NoEngine
from beffroi.gateway.routing.pool import (
    EJECT_AFTER,
    EJECT_LONGEST,
    EJECT_SECONDS,
    RETRY_FLOOR,
    Member,
    Pool,
    RetryBudget,
)


def pool(count: int) -> Pool:
    """A pool of that many engines, named e0 and up."""
    return Pool(tuple(Member(f"e{n}", "vllm", f"m{n}") for n in range(count)))


def eject(member: Member, now: float) -> None:
    """As many failures in a row as it takes."""
    for _ in range(EJECT_AFTER):
        member.failed(now)


def test_of_two_engines_the_one_with_less_in_hand_is_chosen() -> None:
    """Always: with two members both are drawn."""
    here = pool(2)
    here.members[0].in_flight = 3
    assert {here.choose((), 0).name for _ in range(50)} == {"e1"}
    here.members[1].in_flight = 4
    assert {here.choose((), 0).name for _ in range(50)} == {"e0"}


def test_work_spreads_evenly_and_away_from_the_slow() -> None:
    """Ten thousand choices: equal engines get equal shares; one that never finishes gets almost nothing more."""
    random.seed(3)
    here = pool(10)
    for _ in range(10_000):
        here.choose((), 0).in_flight += 1
    shares = [member.in_flight for member in here.members]
    assert max(shares) - min(shares) <= 5, "power of two choices: the gap stays tiny"
    here = pool(4)
    stuck, served = here.members[0], [0] * 4
    for _ in range(4000):
        chosen = here.choose((), 0)
        served[here.members.index(chosen)] += 1
        chosen.in_flight += 1
        if chosen is not stuck:
            chosen.in_flight -= 1
    assert served[0] <= 20


def test_an_engine_is_left_aside_after_three_failures_in_a_row() -> None:
    """Two are bad luck; an answer in between starts the count again."""
    here = pool(2)
    bad = here.members[0]
    bad.failed(0)
    bad.failed(0)
    assert {here.choose((), 1).name for _ in range(60)} == {"e0", "e1"}
    bad.succeeded()
    bad.failed(0)
    bad.failed(0)
    assert bad.open(1)
    bad.failed(0)
    assert not bad.open(1)
    assert {here.choose((), 1).name for _ in range(60)} == {"e1"}


def test_it_is_tried_again_by_one_request_at_a_time() -> None:
    """After its time; a good answer brings it back, a bad one sends it away for twice as long."""
    here = pool(2)
    bad, good = here.members
    eject(bad, 0)
    good.in_flight = 50
    later = EJECT_SECONDS + 0.1
    assert here.choose((), EJECT_SECONDS - 0.1) is good
    trials = [here.choose((), later) for _ in range(20)]
    assert trials.count(bad) == 1 and bad.probing
    bad.failed(later)
    assert not bad.open(later + 2 * EJECT_SECONDS - 0.2)
    assert bad.open(later + 2 * EJECT_SECONDS + 0.2)
    assert here.choose((), later + 2 * EJECT_SECONDS + 0.2) is bad
    bad.succeeded()
    assert bad.open(0) and bad.penalty == EJECT_SECONDS


def test_a_trial_without_verdict_leaves_room_for_the_next() -> None:
    """The client of the trial left: nothing is known."""
    here = pool(2)
    bad = here.members[0]
    eject(bad, 0)
    here.members[1].in_flight = 9
    assert here.choose((), 6) is bad
    assert here.choose((), 6) is not bad
    bad.left()
    assert here.choose((), 6) is bad


def test_the_time_aside_grows_to_a_bound() -> None:
    """5, 10, 20, 40, 60, 60 … seconds."""
    member = Member("e", "vllm", "m")
    now, spans = 0.0, []
    eject(member, now)
    for _ in range(7):
        spans.append(member.ejected_until - now)
        now = member.ejected_until
        member.probing = True
        member.failed(now)
    assert spans == [5, 10, 20, 40, 60, 60, 60]
    assert spans[-1] == EJECT_LONGEST


def test_failures_that_were_under_way_together_count_as_one_time_aside() -> None:
    """An engine that dies under forty streams is asked again after five seconds, not after a minute."""
    member = Member("e", "vllm", "m")
    for _ in range(40):
        member.failed(100.0)
    assert member.ejected_until == 100.0 + EJECT_SECONDS
    assert member.penalty == 2 * EJECT_SECONDS


def test_when_all_are_left_aside_they_are_asked_all_the_same() -> None:
    """Better a trial than a certain refusal; the first that answers gets the work."""
    here = pool(3)
    for member in here.members:
        eject(member, 0)
    assert {here.choose((), 1).name for _ in range(100)} == {"e0", "e1", "e2"}
    here.members[1].succeeded()
    assert {here.choose((), 1).name for _ in range(50)} == {"e1"}


def test_a_retry_goes_to_an_engine_not_tried_yet_while_there_is_one() -> None:
    """Also to one that stands aside, before one that has just failed this very request."""
    here = pool(3)
    assert {here.choose(("e0",), 0).name for _ in range(60)} == {"e1", "e2"}
    assert {here.choose(("e0", "e2"), 0).name for _ in range(20)} == {"e1"}
    eject(here.members[1], 0)
    assert {here.choose(("e0", "e2"), 1).name for _ in range(20)} == {"e1"}
    assert here.choose(("e0", "e1", "e2"), 1).name in {"e0", "e1", "e2"}
    alone = pool(1)
    eject(alone.members[0], 0)
    assert alone.choose(("e0",), 1).name == "e0"


def test_an_empty_pool_says_so() -> None:
    """With the seconds after which to come back."""
    with pytest.raises(NoEngine) as refused:
        pool(0).choose((), 0)
    assert refused.value.retry_after


def test_three_retries_a_minute_are_always_allowed() -> None:
    """Also when there is no traffic to take a share of."""
    budget = RetryBudget()
    assert [budget.allow(1000.0) for _ in range(5)] == [True] * RETRY_FLOOR + [False] * 2
    assert not budget.allow(1049.0)
    assert budget.allow(1061.0), "the minute is over"


def test_retries_are_a_tenth_of_the_last_minutes_requests() -> None:
    """Whatever happens, engines get at most eleven attempts for ten requests."""
    budget = RetryBudget()
    for second in range(60):
        for _ in range(10):
            budget.request(5000.0 + second)
    allowed = sum(budget.allow(5059.0) for _ in range(1000))
    assert allowed == 60
    assert not budget.allow(5059.5)
    retries = 0
    for second in range(600):
        for _ in range(10):
            budget.request(6000.0 + second)
            retries += budget.allow(6000.0 + second)
    assert 540 <= retries <= 600 + RETRY_FLOOR


def test_a_pause_of_any_length_forgets_the_minute() -> None:
    """An hour without traffic, or a clock that begins anywhere."""
    for begin in (0.0, 9.99, 1e6):
        budget = RetryBudget()
        for _ in range(1000):
            budget.request(begin)
        assert sum(budget.allow(begin + 5) for _ in range(200)) == 100
        assert sum(budget.allow(begin + 3600) for _ in range(10)) == RETRY_FLOOR
