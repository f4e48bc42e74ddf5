# SPDX-License-Identifier: Apache-2.0
"""Which limit refuses, what is left of it, and when more returns. Off the fast path.

In: the words of a region and what was asked. Out: the error to raise, for the limit that takes longest to return.
"""

from beffroi.core.errors import BudgetExceeded, LimitExceeded
from beffroi.core.money import show
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.calendar import NAMES, TOTAL
from beffroi.gateway.quota.layout import (
    BOUND,
    ESTIMATE,
    FLOOR_REQUESTS,
    REQUESTS,
    RING,
    RUNNING,
    SPAN,
    SPENT,
    TICK_NS,
    WINDOWS,
)
from beffroi.gateway.quota.terms import NONE, REQUESTS_RESET, Ask, LimitName, Plan
from beffroi.gateway.quota.timebase import Timebase

HELD_RETRY = 1.0  # requests in flight will return something, nobody knows when
NEVER_RETRY = 86_400.0  # a budget that does not renew, or a request that is larger than its limit
LEAST_RETRY = 0.001
WINDOW_LIMITS: tuple[tuple[LimitName, str, str], ...] = (
    ("requests_per_minute", "requests", "minute"),
    ("tokens_per_minute", "tokens", "minute"),
    ("output_tokens_per_hour", "output tokens", "hour"),
    ("output_tokens_per_day", "output tokens", "day"),
)


def window_limits(limits: Limits) -> tuple[int | None, ...]:
    """The four window limits in the order of `layout.WINDOWS`."""
    return (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.output_tokens_per_hour,
        limits.output_tokens_per_day,
    )


def until_room(words: "memoryview[int]", base: int, index: int, tick: int, most: int, house_ns: int) -> float:
    """Seconds until the sum of window `index` has slid down to `most` (not negative), if nothing is added."""
    ring, total, _, ratio = WINDOWS[index]
    value, slot = words[base + total], tick // ratio
    for begin in range(slot - SPAN, slot + 1):
        if value - words[base + ring + begin % RING] <= most:
            break
    else:
        begin = slot + 1
    return max(LEAST_RETRY, ((begin + SPAN) * ratio * TICK_NS - house_ns) / 1e9)


def refusal(words: "memoryview[int]", base: int, plan: Plan, ask: Ask, tick: int, time: Timebase) -> LimitExceeded:
    """The error for a request that does not fit; called with the region brought to `tick`."""
    _, _, *windows, most_running, hard, soft = plan.parts
    house = time.now()
    found: list[tuple[float, LimitName, str]] = []
    for index, ((name, unit, span), limit, asked) in enumerate(
        zip(WINDOW_LIMITS, windows, (1, ask.tokens, ask.output, ask.output), strict=True)
    ):
        _, total, floor, _ = WINDOWS[index]
        used = words[base + total] - words[base + floor]
        if used + asked <= limit:
            continue
        left = max(0, limit - used)
        if asked > limit:
            why = f"this request needs about {asked} {unit}, more than the limit of {limit} per {span}"
            found.append((NEVER_RETRY, name, why))
            continue
        wait = until_room(words, base, index, tick, limit - asked, house)
        need = "" if asked == 1 else f" and this request needs about {asked}"
        found.append((wait, name, f"{left} of {limit} {unit} per {span} are left{need}; room returns in {wait:.1f} s"))
    running = words[base + RUNNING]
    if running >= most_running:
        why = f"{running} requests are in progress, the limit is {most_running}; wait for one to end"
        found.append((HELD_RETRY, "concurrency", why))
    spent = words[base + SPENT]
    for name, budget, held, needs in (
        ("hard_budget", hard, words[base + BOUND], ask.bound),
        ("soft_budget", soft, words[base + ESTIMATE], ask.estimate),
    ):
        if spent + held + needs > budget:
            found.append(_budget(name, plan, time, house, spent, held, needs, budget))
    wait, name, why = max(found, key=lambda each: each[0])
    requests = None
    if windows[0] != NONE:
        used = words[base + REQUESTS] - words[base + FLOOR_REQUESTS]
        requests = (windows[0], max(0, windows[0] - used), REQUESTS_RESET)
    error = BudgetExceeded if name in ("hard_budget", "soft_budget") else LimitExceeded
    return error(f"{name}: {why}", limit=name, retry_after=wait, requests=requests)


def _budget(
    name: LimitName, plan: Plan, time: Timebase, house: int, spent: int, held: int, needs: int, budget: int
) -> tuple[float, LimitName, str]:
    period = plan.key.limits.budget_period
    left = f"{show(max(0, budget - spent - held))} of {show(budget)} are left ({period})"
    cost = f"this request may cost {show(needs)}"
    if needs > budget:
        return NEVER_RETRY, name, f"{left} and {cost}, more than the whole budget; lower max_tokens"
    if spent + needs <= budget:
        return HELD_RETRY, name, f"{left} and {cost}; {show(held)} is held by requests in progress and may return"
    if plan.kind == TOTAL:
        return NEVER_RETRY, name, f"{left} and {cost}; this budget does not renew"
    ends = time.period(plan.kind, house // TICK_NS).end_ns
    wait = max(LEAST_RETRY, (ends - time.wall(house)) / 1e9)
    return wait, name, f"{left} and {cost}; the {NAMES[plan.kind]}'s budget renews at {time.calendar.show(ends)}"
