# SPDX-License-Identifier: Apache-2.0
"""An answer of the centre that is lost: what it answered is said again, and counts once."""

from typing import Any

import pytest

from beffroi.gateway.quota.fleet.centre import Away, Centre
from beffroi.gateway.quota.scopes import account_of
from beffroi.gateway.quota.terms import Ask, Used
from tests.contract.backends import take
from tests.contract.fleet import Fleet
from tests.gateway.quota.fleet.replica import key_of

LIMITS = {"tokens_per_minute": 1_000_000, "soft_budget": 10**9, "budget_period": "total"}


def test_what_a_lost_answer_was_about_counts_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The centre has done it, and nobody knows: neither the cost nor the tokens are there twice after it was told again."""
    record = key_of(1, **LIMITS)
    ticket = take(fleet, 0, record, ask=Ask(10, 5, 0, 40))
    fleet.rest()
    run, lost = Centre.run, []

    async def deaf(self: Centre, batch: list[tuple[list[str], bytes]]) -> list[bytes]:
        answers: Any = await run(self, batch)
        if len(lost) < 2:
            lost.append(len(batch))
            raise Away
        return list(answers)

    monkeypatch.setattr(Centre, "run", deaf)
    fleet.worker(0).settle(ticket, Used(30, 10, 25))
    fleet.rest()
    assert len(lost) == 2
    account, books = account_of(record), fleet.books()
    assert books.spent(account).spent == 25
    assert {use.name: use.used for use in books.usage(account)}["tokens_per_minute"] == 30
