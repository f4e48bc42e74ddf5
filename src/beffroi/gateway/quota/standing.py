# SPDX-License-Identifier: Apache-2.0
"""What the limits of an account show now, for the API and the command line. Reads words, takes no lock, stores nothing.

In: a table, an account, and where its region lies (None: it has never been used). Out: `Spent` and `LimitUse`.
"""

from beffroi.gateway.quota.calendar import KINDS, MONTH, TOTAL
from beffroi.gateway.quota.layout import (
    BOUND,
    ESTIMATE,
    MONTH_SPENT,
    ORPHAN_BOUND,
    ORPHAN_ESTIMATE,
    ORPHAN_UNTIL,
    PERIOD,
    RUNNING,
    SPENT,
    TICK,
    TICK_NS,
)
from beffroi.gateway.quota.layout import MONTH as MONTH_WORD
from beffroi.gateway.quota.refusal import until_room
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import LimitUse, Spent
from beffroi.gateway.quota.windows import WINDOWS, limits_of


def spent_of(table: Table, account: Account, base: int | None) -> Spent:
    """An account's money in its current period."""
    kind, tick = KINDS[account.limits.budget_period], table.time.tick()
    period, month = table.time.period(kind, tick), table.time.period(MONTH, tick)
    spent = reserved = spent_of_month = 0
    if base is not None:
        words = table.words
        if table.kind(base) == kind and words[base + PERIOD] >= period.number:
            spent = words[base + SPENT]
        if words[base + MONTH_WORD] >= month.number:
            spent_of_month = words[base + MONTH_SPENT]
        reserved = _held(table, base, BOUND, ORPHAN_BOUND, tick)
    starts, ends = (None, None) if kind == TOTAL else (period.start_ns, period.end_ns)
    return Spent(spent, reserved, account.limits.budget_period, starts, ends, spent_of_month, month.start_ns)


def _held(table: Table, base: int, field: int, orphaned: int, tick: int) -> int:
    """What is reserved, without what was held for the dead and is no longer: the next request will take it off."""
    words = table.words
    until = words[base + ORPHAN_UNTIL]
    return words[base + field] - (words[base + orphaned] if until and tick >= until else 0)


def usage_of(table: Table, account: Account, base: int | None) -> tuple[LimitUse, ...]:
    """Every limit that an account has, as it stands."""
    limits, words = account.limits, table.words
    house = table.time.now()
    shown: list[LimitUse] = []
    for window, limit in zip(WINDOWS, limits_of(limits), strict=True):
        if limit is None:
            continue
        used, resets = 0, 0.0
        if base is not None and (used := table.window(base, window, house // TICK_NS)):
            resets = until_room(words, base, window, words[base + TICK], used - 1, house)
        shown.append(_use(window.name, limit, used, resets))
    if limits.concurrency is not None:
        shown.append(_use("concurrency", limits.concurrency, 0 if base is None else words[base + RUNNING], 0.0))
    money = spent_of(table, account, base)
    resets = 0.0 if money.ends_ns is None else max(0.0, (money.ends_ns - table.time.wall(house)) / 1e9)
    if limits.hard_budget is not None:
        shown.append(_use("hard_budget", limits.hard_budget, money.spent + money.reserved, resets))
    if limits.soft_budget is not None:
        held = 0 if base is None else _held(table, base, ESTIMATE, ORPHAN_ESTIMATE, house // TICK_NS)
        shown.append(_use("soft_budget", limits.soft_budget, money.spent + held, resets))
    if limits.monthly_cap is not None:
        ends = table.time.period(MONTH, house // TICK_NS).end_ns
        resets = max(0.0, (ends - table.time.wall(house)) / 1e9)
        shown.append(_use("monthly_cap", limits.monthly_cap, money.month + money.reserved, resets))
    return tuple(shown)


def _use(name: str, limit: int, used: int, resets: float) -> LimitUse:
    return LimitUse(name, limit, used, max(0, limit - used), resets)
