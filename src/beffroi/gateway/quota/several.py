# SPDX-License-Identifier: Apache-2.0
"""One request under the limits of several accounts: all or nothing. Whoever calls holds the locks of all their slots.

In: plans in the order of their locks, what a request asks. Out: a ticket, or the refusal that takes longest to pass.
First every account is looked at and nothing is stored; then each is taken, in the order of stores that `table` describes,
so that a process killed between two of them leaves at worst columns to clear.
"""

from beffroi.core.errors import LimitExceeded
from beffroi.gateway.quota.layout import (
    ALL_FIELDS,
    BOUND,
    COLUMN_FIELDS,
    ESTIMATE,
    MONTH_SPENT,
    OUTPUT,
    REQUESTS,
    RUNNING,
    TOKENS,
    WORD,
)
from beffroi.gateway.quota.refusal import refusal
from beffroi.gateway.quota.terms import Ask, Plan, Ticket
from beffroi.gateway.quota.windows import OF_REQUESTS

_all = ALL_FIELDS.unpack_from
_column = COLUMN_FIELDS.unpack_from


class Moved(Exception):
    """An end user's place has been given to another since it was looked up."""


def take_all(plans: tuple[Plan, ...], ask: Ask) -> Ticket:
    """Admit a request under every limit of all these accounts, or under none.

    Raises:
        LimitExceeded, BudgetExceeded: nothing was changed.
        Moved: nothing was changed; look the end users up again.
    """
    asked_tokens, asked_output, asked_bound, asked_estimate = ask.tokens, ask.output, ask.bound, ask.estimate
    refused: LimitExceeded | None = None
    tightest: tuple[int, int, int] | None = None
    ticks: list[int] = []
    before: list[tuple[int, ...]] = []
    for plan in plans:
        table, base = plan.table, plan.parts[0]
        words = table.words
        if plan.tag and words[plan.tag_at] != plan.tag:
            raise Moved
        tick = table.time.tick()
        if words[base] != tick:
            tick = table.advance(base, plan.kind, tick)
        fields = _all(table.buffer, (base + MONTH_SPENT) * WORD)
        month, spent, requests, tokens, output, _, _, _, _, bound, estimate, running, mask = fields
        if plan.mask & ~mask:
            table.extend(base, plan.mask)
        tokens += asked_tokens
        output += asked_output
        bound += asked_bound
        totals = (requests + 1, tokens, output, tokens - output)
        fits = (
            running < plan.running
            and spent + bound <= plan.hard
            and month + bound <= plan.cap
            and spent + estimate + asked_estimate <= plan.soft
        )
        for counts, floor, limit, reset in plan.windows:
            room = limit + words[base + floor] - totals[counts]
            if room < 0:
                fits = False
            if counts == OF_REQUESTS and (tightest is None or room < tightest[1]):
                tightest = (limit, room, reset)
        if not fits:
            error = refusal(words, base, plan, ask, tick, table.time)
            if refused is None or (error.retry_after or 0.0) > (refused.retry_after or 0.0):
                refused = error
        ticks.append(tick)
        before.append(fields)
    if refused is not None:
        if tightest is not None:
            refused.requests = (tightest[0], max(0, tightest[1] + 1), tightest[2])
        raise refused
    tickets = [_store(plan, tick, fields, ask) for plan, tick, fields in zip(plans, ticks, before, strict=True)]
    first = tickets[0]
    first.rest = tuple(tickets[1:])
    first.tightest = tightest
    return first


def _store(plan: Plan, tick: int, before: tuple[int, ...], ask: Ask) -> Ticket:
    """Take one account; `before` are its fields as they were looked at."""
    base, column = plan.parts[:2]
    words, tokens, output, bound, estimate = plan.table.words, ask.tokens, ask.output, ask.bound, ask.estimate
    own_bound, own_estimate, own_running = _column(plan.table.buffer, column * WORD)
    words[column] = own_bound + bound
    words[column + 1] = own_estimate + estimate
    words[column + 2] = own_running + 1
    words[base + BOUND] = before[9] + bound
    words[base + ESTIMATE] = before[10] + estimate
    words[base + RUNNING] = before[11] + 1
    words[base + REQUESTS] = before[2] + 1
    words[base + TOKENS] = before[3] + tokens
    words[base + OUTPUT] = before[4] + output
    return Ticket(plan, tick, tokens, output, bound, estimate, 0)
