# SPDX-License-Identifier: Apache-2.0
"""Budgets that near their end: an event, and with it what webhooks are told, at 50, 80 and 100 % of each.

In: what is spent of every budget and cap of keys and quotas. Out: rows of `budget_alerts` and events `control:budget:alert`,
in one transaction. A row says that this was told of this period: none is told twice, whoever restarts or looks beside us.
End users' own budgets are not looked at: there may be tens of thousands of them.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql, sqlite

from beffroi.control.budgets import Budgets
from beffroi.control.tenancy.scope import CONTROL, EVERY, Scope, acting
from beffroi.core.money import show
from beffroi.core.snapshot import KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota.calendar import KIND_SHIFT, TOTAL
from beffroi.gateway.quota.scopes import account_of, in_force, quota_account
from beffroi.gateway.quota.terms import Spent, has_money
from beffroi.store.administration import budget_alerts
from beffroi.store.server import is_server

LEVELS = (50, 80, 100)
KEPT_DAYS = 400
_Told = tuple[int, str, int, int]  # slot, budget, period, percent


class Watched(NamedTuple):
    """One account with a budget."""

    id: str
    slot: int
    organisation: str
    project: str
    scope: str
    limits: Limits
    spent: Spent


class Reached(NamedTuple):
    """One level of one budget that has been reached."""

    of: Watched
    budget: str
    period: int
    percent: int
    spent: int
    limit: int


class Alerts:
    """What one process has told or found told; the table is the memory that lasts."""

    def __init__(self, engine: Engine, budgets: Budgets) -> None:
        self._engine = engine
        self._budgets = budgets
        self._told: set[_Told] = set()

    def look(self, keys: Iterable[KeyRecord], quotas: Iterable[QuotaRecord]) -> int:
        """Look at every budget once; how many alerts were new. Blocks; two reads of memory for each budget."""
        fresh = [
            each
            for watched in self._watched(keys, quotas)
            for each in reached(watched)
            if (watched.slot, each.budget, each.period, each.percent) not in self._told
        ]
        new = 0
        for organisation in {each.of.organisation for each in fresh}:
            those = [each for each in fresh if each.of.organisation == organisation]
            with acting(self._engine, CONTROL, organisation) as scope:
                new += sum(self._tell(scope, each) for each in those)
        self._told |= {(each.of.slot, each.budget, each.period, each.percent) for each in fresh}
        return new

    def forget(self) -> None:
        """Drop rows of periods that are long over; a budget that does not renew has one that never is."""
        old = time.time_ns() - KEPT_DAYS * 86_400 * 1_000_000_000
        over = (budget_alerts.c.at_ns < old) & (budget_alerts.c.period != TOTAL << KIND_SHIFT)
        with acting(self._engine, CONTROL, EVERY) as scope:
            scope.connection.execute(scope.delete(budget_alerts).where(over))

    def _watched(self, keys: Iterable[KeyRecord], quotas: Iterable[QuotaRecord]) -> Iterable[Watched]:
        now = self._budgets.now_s()
        seen: set[int] = set()  # a key and its successor have one budget
        for key in keys:
            if has_money(key.limits) and not key.revoked and key.slot not in seen:
                seen.add(key.slot)
                spent = self._budgets.money(account_of(key))
                yield Watched(key.id, key.slot, key.organisation, key.project, f"key {key.name}", key.limits, spent)
        for quota in quotas:
            limits = in_force(quota, now)[0]
            if has_money(limits) and not quota.each_end_user:
                account = quota_account(quota, limits)
                whose = quota.organisation or EVERY
                name = account.of.removeprefix("of ")
                yield Watched(quota.id, quota.slot, whose, quota.project, name, limits, self._budgets.money(account))

    @staticmethod
    def _tell(scope: Scope, each: Reached) -> bool:
        values = {
            "slot": each.of.slot,
            "budget": each.budget,
            "period": each.period,
            "percent": each.percent,
            "organisation": each.of.organisation,
            "at_ns": time.time_ns(),
        }
        kind = postgresql if is_server(scope.connection) else sqlite
        statement = kind.insert(budget_alerts).values(values).on_conflict_do_nothing()
        if scope.connection.execute(statement).rowcount != 1:
            return False
        after = {
            "scope": each.of.scope,
            "budget": each.budget,
            "percent": each.percent,
            "spent": show(each.spent),
            "limit": show(each.limit),
            "spent_nano": each.spent,
            "limit_nano": each.limit,
            "period": "month" if each.budget == "monthly_cap" else each.of.limits.budget_period,
        }
        scope.record("budget:alert", each.of.id, after=after, project=each.of.project)
        return True


def reached(watched: Watched) -> Iterable[Reached]:
    """The levels that have been reached."""
    limits, spent = watched.limits, watched.spent
    begun = 0 if spent.starts_ns is None else spent.starts_ns // 1_000_000_000
    month = spent.month_starts_ns // 1_000_000_000
    for budget, limit, used, period in (
        ("hard_budget", limits.hard_budget, spent.spent, begun),
        ("soft_budget", limits.soft_budget, spent.spent, begun),
        ("monthly_cap", limits.monthly_cap, spent.month, month),
    ):
        for percent in LEVELS if limit else ():
            if limit is not None and used * 100 >= limit * percent:
                yield Reached(watched, budget, period, percent, used, limit)
