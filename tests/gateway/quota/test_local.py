# SPDX-License-Identifier: Apache-2.0
"""While a key's counters cannot be reached, a worker decides with its own share."""

from pathlib import Path

import pytest

from beffroi.core.errors import CountersUnavailable, LimitExceeded
from beffroi.gateway.quota import NO_TICKET, Ask, Used
from beffroi.gateway.quota.local import ACCOUNTS
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import MINUTE, NOTHING, ONE, HandClock, counters, key


@pytest.mark.parametrize(("limit", "share"), [(40, 10), (41, 10), (3, 1), (1, 1), (0, 0)])
def test_each_of_four_workers_admits_a_quarter_of_a_rate_but_at_least_one(
    path: Path, clock: HandClock, limit: int, share: int
) -> None:
    """Together hardly more than the limit; a limit of nothing stays nothing."""
    shared, record = counters(path, clock), key(requests_per_minute=limit)
    for _ in range(share):
        assert shared.reserve_alone(record, "m", None, ONE).local
    with pytest.raises(LimitExceeded):
        shared.reserve_alone(record, "m", None, ONE)
    clock.pass_(MINUTE + MINUTE // 60)
    for _ in range(share):
        assert shared.reserve_alone(record, "m", None, ONE)


def test_a_soft_budget_is_open_and_a_hard_one_closed(path: Path, clock: HandClock) -> None:
    """The failure matrix."""
    shared = counters(path, clock)
    assert shared.reserve_alone(key(soft_budget=1), "m", None, Ask(0, 0, 0, 10**6))
    with pytest.raises(CountersUnavailable) as caught:
        shared.reserve_alone(key(hard_budget=10**9), "m", None, ONE)
    assert caught.value.retry_after
    assert shared.reserve_alone(key(), "m", None, ONE) is NO_TICKET


def test_what_was_used_alone_reaches_the_shared_counters_once(path: Path, clock: HandClock) -> None:
    """Requests, tokens, output and cost."""
    shared = counters(path, clock)
    record = key(
        requests_per_minute=40, tokens_per_minute=400, output_tokens_per_day=400, concurrency=8, soft_budget=99
    )
    shared.settle(shared.reserve(record, "m", None, Ask(1, 1, 0, 1)), Used(1, 1, 1))
    ticket = shared.reserve_alone(record, "m", None, Ask(50, 20, 0, 5))
    assert [use.used for use in shared.usage(account_of(record))] == [1, 1, 1, 0, 1]
    for _ in range(2):
        shared.settle(ticket, Used(60, 30, 7))
        assert shared.pay() == 0
    assert [use.used for use in shared.usage(account_of(record))] == [2, 61, 31, 0, 8]


def test_the_number_of_keys_decided_alone_is_bounded(path: Path, clock: HandClock) -> None:
    """A key with nothing in progress makes room; if there is none the request is refused, not the memory used up."""
    shared = counters(path, clock)
    tickets = [shared.reserve_alone(key(slot, concurrency=4), "m", None, ONE) for slot in range(ACCOUNTS)]
    with pytest.raises(CountersUnavailable):
        shared.reserve_alone(key(ACCOUNTS, concurrency=4), "m", None, ONE)
    shared.settle(tickets[7], NOTHING)
    assert shared.reserve_alone(key(ACCOUNTS, concurrency=4), "m", None, ONE)
    shared.settle(tickets[8], NOTHING)
    with pytest.raises(LimitExceeded):
        shared.reserve_alone(key(9, concurrency=4), "m", None, ONE)
