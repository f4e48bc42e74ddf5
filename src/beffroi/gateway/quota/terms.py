# SPDX-License-Identifier: Apache-2.0
"""The words of this room: what is asked, what was used, what is held in between, and what is shown.

In: nothing. Out: small structs; amounts of money are nano-units, times are seconds unless a name says otherwise.
"""

import math
from typing import Literal

import msgspec

from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota.calendar import KINDS
from beffroi.gateway.quota.layout import SPAN, TICK_NS, WORD

NONE = 1 << 62  # a limit that is not set: no sum reaches it
TOKEN_CAP = 1 << 40  # larger counts are an engine's or a client's nonsense; sums stay far from 64 bits
MONEY_CAP = 1 << 53
REQUESTS_RESET = math.ceil((SPAN + 1) * TICK_NS / 1e9)

LimitName = Literal[
    "requests_per_minute",
    "tokens_per_minute",
    "output_tokens_per_hour",
    "output_tokens_per_day",
    "concurrency",
    "hard_budget",
    "soft_budget",
]


class Busy(Exception):
    """Another process holds this key's lock. Wait a moment and ask again; after 20 ms apply the failure matrix."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a request may need.

    Attributes:
        tokens: estimate, input and output together.
        output: estimate of the output alone.
        bound: upper bound of the cost, which a hard budget holds until settlement.
        estimate: estimated cost, which a soft budget holds.
    """

    tokens: int
    output: int
    bound: int
    estimate: int


class Used(msgspec.Struct, frozen=True, gc=False):
    """What a request took in the end."""

    tokens: int
    output: int
    cost: int


class Plan(msgspec.Struct, frozen=True):
    """A key's limits, worked out once per `KeyRecord`.

    Attributes:
        parts: region, column, requests/min, tokens/min, output/hour, output/day, concurrency, hard, soft.
        kind: code of the budget period (`calendar.KINDS`).
        at: byte offset of the slot's lock.
    """

    key: KeyRecord
    limited: bool
    parts: tuple[int, int, int, int, int, int, int, int, int]
    kind: int
    at: int


class Ticket(msgspec.Struct, gc=False):
    """What one admitted request holds until it is settled. Fields are this room's, properties are for the headers."""

    plan: Plan | None
    tick: int
    tokens: int
    output: int
    bound: int
    estimate: int
    remaining: int
    open: bool = True
    local: bool = False  # admitted by this process alone, while the file could not be reached

    @property
    def requests_limit(self) -> int | None:
        """Requests per minute; None when that limit is not set: the headers then say nothing."""
        return None if self.plan is None else self.plan.key.limits.requests_per_minute

    @property
    def requests_remaining(self) -> int:
        """Requests that the minute still has room for after this one."""
        return self.remaining

    @property
    def requests_reset(self) -> int:
        """Seconds until the minute is whole again if nothing more is sent."""
        return REQUESTS_RESET


NO_TICKET = Ticket(None, 0, 0, 0, 0, 0, 0, open=False)


class Spent(msgspec.Struct, frozen=True):
    """A key's money in the current period; `starts_ns` and `ends_ns` are Unix nanoseconds, None for `total`."""

    spent: int
    reserved: int
    period: str
    starts_ns: int | None
    ends_ns: int | None


class LimitUse(msgspec.Struct, frozen=True):
    """One limit as it stands. `resets_in`: seconds until more returns, 0 when nothing is used."""

    name: LimitName
    limit: int
    used: int
    remaining: int
    resets_in: float


class Owed(msgspec.Struct, gc=False):
    """What could not be written because a key's lock was held; one per key, added up."""

    bound: int = 0
    estimate: int = 0
    running: int = 0
    cost: int = 0
    requests: int = 0
    tokens: int = 0
    output: int = 0


def limited(limits: Limits) -> bool:
    """Whether any limit is set."""
    return any(limit is not None for limit in _limits(limits))


def plan_of(key: KeyRecord, base: int, column: int) -> Plan:
    """The plan of a key whose region and column lie at these words."""
    requests, tokens, hour, day, running, hard, soft = (NONE if each is None else each for each in _limits(key.limits))
    if hard != NONE:
        hard = min(hard, MONEY_CAP - 1)  # a bound beyond reason is capped, and must not pass
    parts = (base, column, requests, tokens, hour, day, running, hard, soft)
    return Plan(key, True, parts, KINDS[key.limits.budget_period], base * WORD)


def _limits(limits: Limits) -> tuple[int | None, ...]:
    return (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.output_tokens_per_hour,
        limits.output_tokens_per_day,
        limits.concurrency,
        limits.hard_budget,
        limits.soft_budget,
    )
