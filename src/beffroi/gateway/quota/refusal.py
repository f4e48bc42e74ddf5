# SPDX-License-Identifier: Apache-2.0
"""Which limit refuses, what is left of it, and when more returns. Off the fast path.

In: the words of a region and what was asked. Out: the error to raise, for the limit that takes longest to return.
"""

from beffroi.core.errors import BudgetExceeded, LimitExceeded
from beffroi.core.money import show
from beffroi.gateway.quota.calendar import MONTH as MONTHLY
from beffroi.gateway.quota.calendar import NAMES, TOTAL
from beffroi.gateway.quota.layout import BOUND, ESTIMATE, MONTH_SPENT, RING, RUNNING, SPAN, SPENT, TICK_NS
from beffroi.gateway.quota.terms import MONEY, NONE, Ask, LimitName, Plan
from beffroi.gateway.quota.timebase import Timebase
from beffroi.gateway.quota.windows import OF_REQUESTS, WINDOWS, Window, limits_of, total_of

HELD_RETRY = 1.0  # requests in flight will return something, nobody knows when
NEVER_RETRY = 86_400.0  # a budget that does not renew, or a request that is larger than its limit
LEAST_RETRY = 0.001


def until_room(words: "memoryview[int]", base: int, window: Window, tick: int, most: int, house_ns: int) -> float:
    """Seconds until the sum of a window has slid down to `most` (not negative), if nothing is added."""
    ring, ratio = window.ring, window.ratio
    value, slot = total_of(words, base, window.total), tick // ratio
    for begin in range(slot - SPAN, slot + 1):
        if value - words[base + ring + begin % RING] <= most:
            break
    else:
        begin = slot + 1
    return max(LEAST_RETRY, ((begin + SPAN) * ratio * TICK_NS - house_ns) / 1e9)


def refusal(words: "memoryview[int]", base: int, plan: Plan, ask: Ask, tick: int, time: Timebase) -> LimitExceeded:
    """The error for a request that does not fit an account; called with the region brought to `tick`."""
    house = time.now()
    found: list[tuple[float, str, str]] = []
    requests: tuple[int, int, int] | None = None
    asks = (1, ask.tokens, ask.output, ask.tokens - ask.output)
    for window, limit in zip(WINDOWS, limits_of(plan.account.limits), strict=True):
        if limit is None:
            continue
        asked, unit, span = asks[window.counts], window.unit, window.span
        used = total_of(words, base, window.total) - words[base + window.floor]
        left = max(0, limit - used)
        if window.counts == OF_REQUESTS and (requests is None or left < requests[1]):
            requests = (limit, left, window.reset)
        if used + asked <= limit:
            continue
        if asked > limit:
            why = f"this request needs about {asked} {unit}, more than the limit of {limit} per {span}"
            found.append((NEVER_RETRY, window.name, why))
            continue
        wait = until_room(words, base, window, tick, limit - asked, house)
        need = "" if asked == 1 else f" and this request needs about {asked}"
        found.append(
            (wait, window.name, f"{left} of {limit} {unit} per {span} are left{need}; room returns in {_time(wait)}")
        )
    running = words[base + RUNNING]
    if running >= plan.running:
        why = f"{running} requests are in progress, the limit is {plan.running}; wait for one to end"
        found.append((HELD_RETRY, "concurrency", why))
    held, spent = words[base + BOUND], words[base + SPENT]
    moneys: tuple[tuple[LimitName, int, int, int, int, int], ...] = (
        ("hard_budget", plan.hard, plan.kind, spent, held, ask.bound),
        ("monthly_cap", plan.cap, MONTHLY, words[base + MONTH_SPENT], held, ask.bound),
        ("soft_budget", plan.soft, plan.kind, spent, words[base + ESTIMATE], ask.estimate),
    )
    for name, budget, kind, gone, kept, needs in moneys:
        if budget != NONE and gone + kept + needs > budget:
            found.append(_budget(name, kind, time, house, gone, kept, needs, budget))
    wait, limit_name, why = max(found, key=lambda each: each[0])
    error = BudgetExceeded if limit_name in MONEY else LimitExceeded
    return error(f"{limit_name} {plan.account.of}: {why}", limit=limit_name, retry_after=wait, requests=requests)


def _time(seconds: float) -> str:
    """As a person reads it: an hour is no number of seconds."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _budget(
    name: LimitName, kind: int, time: Timebase, house: int, spent: int, held: int, needs: int, budget: int
) -> tuple[float, str, str]:
    left = f"{show(max(0, budget - spent - held))} of {show(budget)} are left ({NAMES[kind]})"
    cost = f"this request may cost {show(needs)}"
    if needs > budget:
        return NEVER_RETRY, name, f"{left} and {cost}, more than the whole budget; lower max_tokens"
    if spent + needs <= budget:
        return HELD_RETRY, name, f"{left} and {cost}; {show(held)} is held by requests in progress and may return"
    if kind == TOTAL:
        return NEVER_RETRY, name, f"{left} and {cost}; this budget does not renew"
    ends = time.period(kind, house // TICK_NS).end_ns
    wait = max(LEAST_RETRY, (ends - time.wall(house)) / 1e9)
    return wait, name, f"{left} and {cost}; the {NAMES[kind]}'s budget renews at {time.calendar.show(ends)}"
