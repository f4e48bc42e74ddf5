# SPDX-License-Identifier: Apache-2.0
"""The words of this room: what is asked, what was used, what is held in between, and what is shown.

In: nothing. Out: small structs; amounts of money are nano-units, times are seconds unless a name says otherwise.
"""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.calendar import KINDS
from beffroi.gateway.quota.layout import WORD
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.windows import (
    CAP_BIT,
    MONEY_BIT,
    REQUESTS_RESET,
    WANTED,
    WINDOWS,
    limits_of,
)

if TYPE_CHECKING:
    from beffroi.gateway.quota.table import Table

NONE = 1 << 62  # a limit that is not set: no sum reaches it
TOKEN_CAP = 1 << 40  # larger counts are an engine's or a client's nonsense; sums stay far from 64 bits
MONEY_CAP = 1 << 53
PLAIN_WINDOWS = 4

LimitName = Literal[
    "requests_per_minute",
    "tokens_per_minute",
    "output_tokens_per_hour",
    "output_tokens_per_day",
    "requests_per_hour",
    "requests_per_day",
    "input_tokens_per_minute",
    "input_tokens_per_hour",
    "input_tokens_per_day",
    "output_tokens_per_minute",
    "concurrency",
    "hard_budget",
    "monthly_cap",
    "soft_budget",
]
MONEY = frozenset({"hard_budget", "monthly_cap", "soft_budget"})


class Busy(Exception):
    """Another process holds a lock that is needed. Wait a moment and ask again; after 20 ms apply the failure matrix."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a request may need.

    Attributes:
        tokens: estimate, input and output together.
        output: estimate of the output alone.
        bound: upper bound of the cost, which a hard budget and a monthly cap hold until settlement.
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
    """The limits of one account, worked out once.

    Attributes:
        plain: there is no limit but those in `parts`.
        parts: region, column, requests/min, tokens/min, output/hour, output/day, concurrency, hard, soft.
        windows: every window that is limited: what it counts, its floor, its limit, seconds until it is whole again.
        mask: bits that the region's MASK must have.
        kind: code of the budget period (`calendar.KINDS`).
        at: byte offset of the slot's lock.
        slot: in `file` (a `CounterFile`, None in private memory), that of `table`; of an end user it is no slot of the snapshot.
        tag_at, tag: of an end user: the word of the directory that must say so.
    """

    account: Account
    limited: bool
    plain: bool
    parts: tuple[int, int, int, int, int, int, int, int, int]
    windows: tuple[tuple[int, int, int, int], ...]
    running: int
    hard: int
    soft: int
    cap: int
    mask: int
    kind: int
    at: int
    slot: int
    table: "Table"
    file: Any = None
    tag_at: int = 0
    tag: int = 0


class Ticket(msgspec.Struct, gc=False):
    """What one admitted request holds until it is settled. Fields are this room's, properties are for the headers.

    Attributes:
        rest: what it holds of its other accounts.
        tightest: of several limits on requests: the limit, what it has left, seconds until it is whole again.
    """

    plan: Plan | None
    tick: int
    tokens: int
    output: int
    bound: int
    estimate: int
    remaining: int
    open: bool = True
    local: bool = False  # admitted by this process alone, while the file could not be reached
    rest: "tuple[Ticket, ...]" = ()
    tightest: tuple[int, int, int] | None = None

    @property
    def requests_limit(self) -> int | None:
        """The tightest limit on requests; None when there is none: the headers then say nothing."""
        if self.tightest is not None:
            return self.tightest[0]
        return None if self.plan is None else self.plan.account.limits.requests_per_minute

    @property
    def requests_remaining(self) -> int:
        """What that limit still has room for after this request."""
        return self.remaining if self.tightest is None else self.tightest[1]

    @property
    def requests_reset(self) -> int:
        """Seconds until that limit is whole again if nothing more is sent."""
        return REQUESTS_RESET if self.tightest is None else self.tightest[2]


NO_TICKET = Ticket(None, 0, 0, 0, 0, 0, 0, open=False)


class Spent(msgspec.Struct, frozen=True):
    """An account's money in the current period; `starts_ns` and `ends_ns` are Unix nanoseconds, None for `total`.

    Attributes:
        month: spent in the calendar month, which began at `month_starts_ns`: what a monthly cap looks at.
    """

    spent: int
    reserved: int
    period: str
    starts_ns: int | None
    ends_ns: int | None
    month: int = 0
    month_starts_ns: int = 0


class LimitUse(msgspec.Struct, frozen=True):
    """One limit as it stands. `resets_in`: seconds until more returns, 0 when nothing is used."""

    name: str
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


def cap(value: int, most: int) -> int:
    """At least nothing, and no more than `most`."""
    return min(max(value, 0), most)


def capped(ask: Ask) -> Ask:
    """A count or a price beyond reason; a hard budget is smaller than the cap, so it refuses what was capped."""
    return Ask(
        cap(ask.tokens, TOKEN_CAP), cap(ask.output, TOKEN_CAP), cap(ask.bound, MONEY_CAP), cap(ask.estimate, MONEY_CAP)
    )


def limited(limits: Limits) -> bool:
    """Whether any limit is set."""
    return any(limit is not None for limit in limits_of(limits)) or limits.concurrency is not None or has_money(limits)


def has_money(limits: Limits) -> bool:
    """Whether a limit on money is set."""
    return limits.soft_budget is not None or is_hard(limits)


def is_hard(limits: Limits) -> bool:
    """Whether a limit on money is set that must never be passed."""
    return limits.hard_budget is not None or limits.monthly_cap is not None


def plan_of(
    account: Account,
    table: "Table",
    base: int,
    column: int,
    slot: int = 0,
    file: Any = None,
    place: tuple[int, int] = (0, 0),
) -> Plan:
    """The plan of an account whose region and column lie at these words; `place`: an end user's word and its tag."""
    limits = account.limits
    all_windows = limits_of(limits)
    hard, cap = (_money(each) for each in (limits.hard_budget, limits.monthly_cap))
    soft = NONE if limits.soft_budget is None else limits.soft_budget
    running = NONE if limits.concurrency is None else limits.concurrency
    requests, tokens, hour, day = (NONE if each is None else each for each in all_windows[:PLAIN_WINDOWS])
    set_ = [(window, limit) for window, limit in zip(WINDOWS, all_windows, strict=True) if limit is not None]
    mask = sum(window.bit for window, _ in set_)
    if place[1]:
        mask |= sum(1 << (WANTED + WINDOWS.index(window)) for window, _ in set_)
        mask |= MONEY_BIT * (limits.hard_budget is not None or soft != NONE) | CAP_BIT * (cap != NONE)
    return Plan(
        account=account,
        limited=limited(limits),
        plain=cap == NONE and all(limit is None for limit in all_windows[PLAIN_WINDOWS:]),
        parts=(base, column, requests, tokens, hour, day, running, hard, soft),
        windows=tuple((window.counts, window.floor, limit, window.reset) for window, limit in set_),
        running=running,
        hard=hard,
        soft=soft,
        cap=cap,
        mask=mask,
        kind=KINDS[limits.budget_period],
        at=base * WORD,
        slot=slot,
        table=table,
        file=file,
        tag_at=place[0],
        tag=place[1],
    )


def _money(limit: int | None) -> int:
    """A bound beyond reason is capped, and must not pass."""
    return NONE if limit is None else min(limit, MONEY_CAP - 1)
