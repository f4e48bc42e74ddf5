# SPDX-License-Identifier: Apache-2.0
"""What a worker held that died is nobody's after a minute: it is not shown as reserved, and keeps nobody out."""

import redis

from beffroi.gateway.quota.fleet.wire import Names
from beffroi.gateway.quota.scopes import account_of
from beffroi.gateway.quota.terms import Ask, Used
from tests.contract.backends import take
from tests.contract.fleet import Fleet
from tests.gateway.quota.fleet.replica import key_of

LIMITS = {"concurrency": 60, "hard_budget": 10**12, "soft_budget": 10**12, "budget_period": "total"}
ASK = Ask(0, 0, 1000, 1000)


def test_what_is_shown_as_reserved_is_free_of_the_dead_whether_anybody_asks_or_not(fleet: Fleet) -> None:
    """Of a limit so wide that nobody ever lacks room under it; at the centre as soon as the key is used again."""
    record = key_of(1, **LIMITS)
    account, books = account_of(record), fleet.books()
    for _ in range(3):
        take(fleet, 1, record, ask=ASK)
    alive = take(fleet, 2, record, ask=ASK)
    assert books.spent(account).reserved >= 4000
    fleet.kill(1)
    assert books.spent(account).reserved == 1000
    assert {use.name: use.used for use in books.usage(account)} == {
        "concurrency": 1, "hard_budget": 1000, "soft_budget": 1000,
    }  # fmt: skip
    for worker, ticket in ((2, alive), (0, take(fleet, 0, record, ask=ASK))):
        fleet.worker(worker).settle(ticket, Used(0, 0, 0))
    fleet.rest()
    with redis.Redis.from_url(fleet.url) as client:
        assert client.hmget(Names(fleet.prefix).scope(account), ["h1", "h2", "h3"]) == [b"0", b"0", b"0"]
