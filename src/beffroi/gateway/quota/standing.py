# SPDX-License-Identifier: Apache-2.0
"""What a key's limits show now, for the API and the command line. Reads words, takes no lock, stores nothing.

In: a table and a key. Out: `Spent` and `LimitUse`.
"""

from beffroi.core.snapshot import KeyRecord
from beffroi.gateway.quota.calendar import KINDS, TOTAL
from beffroi.gateway.quota.layout import BOUND, ESTIMATE, PERIOD, RUNNING, SPENT, TICK, TICK_NS, region_of
from beffroi.gateway.quota.refusal import WINDOW_LIMITS, until_room, window_limits
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import LimitName, LimitUse, Spent


def spent_of(table: Table, key: KeyRecord, known: bool) -> Spent:
    """A key's money in its current period; `known`: its slot has been used."""
    kind = KINDS[key.limits.budget_period]
    period = table.time.period(kind, table.time.tick())
    spent = reserved = 0
    if known:
        base, words = region_of(key.slot), table.words
        if table.kind(base) == kind and words[base + PERIOD] >= period.number:
            spent = words[base + SPENT]
        reserved = words[base + BOUND]
    if kind == TOTAL:
        return Spent(spent, reserved, "total", None, None)
    return Spent(spent, reserved, key.limits.budget_period, period.start_ns, period.end_ns)


def usage_of(table: Table, key: KeyRecord, known: bool) -> tuple[LimitUse, ...]:
    """Every limit that a key has, as it stands."""
    limits, words, base = key.limits, table.words, region_of(key.slot)
    house = table.time.now()
    shown: list[LimitUse] = []
    for index, ((name, _, _), limit) in enumerate(zip(WINDOW_LIMITS, window_limits(limits), strict=True)):
        if limit is None:
            continue
        used = table.window(base, index, house // TICK_NS) if known else 0
        resets = until_room(words, base, index, words[base + TICK], used - 1, house) if used else 0.0
        shown.append(_use(name, limit, used, resets))
    if limits.concurrency is not None:
        shown.append(_use("concurrency", limits.concurrency, words[base + RUNNING] if known else 0, 0.0))
    money = spent_of(table, key, known)
    resets = 0.0 if money.ends_ns is None else max(0.0, (money.ends_ns - table.time.wall(house)) / 1e9)
    if limits.hard_budget is not None:
        shown.append(_use("hard_budget", limits.hard_budget, money.spent + money.reserved, resets))
    if limits.soft_budget is not None:
        held = words[base + ESTIMATE] if known else 0
        shown.append(_use("soft_budget", limits.soft_budget, money.spent + held, resets))
    return tuple(shown)


def _use(name: LimitName, limit: int, used: int, resets: float) -> LimitUse:
    return LimitUse(name, limit, used, max(0, limit - used), resets)
