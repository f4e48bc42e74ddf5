# SPDX-License-Identifier: Apache-2.0
"""What workers and the centre say to each other: names of keys, windows, the two scripts, and msgpack both ways.

In: limits, the prefix of an installation. Out: what `lease.lua` takes and gives; its head says what each place means.
All keys of one installation begin with its prefix in braces, so that they lie together and one access rule names them.
"""

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.calendar import KINDS, MONTH
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.terms import MONEY_CAP

REQUESTS, TOKENS, INPUT, OUTPUT = range(4)
RUNNING, BOUND, ESTIMATE = range(3)
NO_LIMIT = -1
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
# A window counts SPAN whole slots and the current one, so that it never holds more than the limit; what that costs is
# 1 part in SPAN + 1 of a limit used to the full.
MINUTE_SPAN, LONG_SPAN = 240, 120
KEPT_MS = 40 * DAY_MS  # money of a scope that nobody uses, and two minutes past its longest window for the rest
IDLE_MS = 120_000


class Window(NamedTuple):
    """One limit on a rate: its name in `Limits`, its code in the centre, what it counts."""

    limit: str
    code: str
    quantity: int
    length_ms: int
    unit: str
    span: str

    @property
    def slots(self) -> int:
        """Into how many slots it is cut."""
        return MINUTE_SPAN if self.length_ms == MINUTE_MS else LONG_SPAN


WINDOWS = tuple(
    Window(f"{limit}_per_{span}", code + span[0], quantity, length, unit, span)
    for limit, code, quantity, unit in (
        ("requests", "r", REQUESTS, "requests"),
        ("tokens", "t", TOKENS, "tokens"),
        ("input_tokens", "i", INPUT, "input tokens"),
        ("output_tokens", "o", OUTPUT, "output tokens"),
    )
    for span, length in (("minute", MINUTE_MS), ("hour", HOUR_MS), ("day", DAY_MS))
    if limit != "tokens" or span == "minute"
)
BY_CODE = {window.code: window for window in WINDOWS}


class Rule:
    """The limits of a scope as the centre is told them; made once for each `Limits`.

    Attributes:
        windows: those that are set, each with its limit.
        told: the same as the script reads them.
        rates, pools: for each quantity whether anything limits it.
        pool_limits: running, hard, soft, monthly cap; -1: none.
        kinds: money periods in which costs are kept.
    """

    __slots__ = ("kinds", "life_ms", "limits", "month", "pool_limits", "pools", "rates", "told", "windows")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.windows = tuple(
            (window, most) for window in WINDOWS if (most := getattr(limits, window.limit)) is not None
        )
        self.told = [[w.code, w.quantity + 1, w.length_ms // w.slots, w.slots, most] for w, most in self.windows]
        self.rates = tuple(any(w.quantity == quantity for w, _ in self.windows) for quantity in range(4))
        # A bound beyond reason is capped, and must not pass.
        hard, cap = (
            None if most is None else min(most, MONEY_CAP - 1) for most in (limits.hard_budget, limits.monthly_cap)
        )
        soft = limits.soft_budget
        self.pools = (limits.concurrency is not None, hard is not None or cap is not None, soft is not None)
        self.pool_limits = [NO_LIMIT if most is None else most for most in (limits.concurrency, hard, soft, cap)]
        budget = () if hard is None and soft is None else (KINDS[limits.budget_period],)
        self.month = cap is not None
        self.kinds = tuple(dict.fromkeys((*budget, *((MONTH,) if self.month else ()))))
        longest = max((w.length_ms for w, _ in self.windows), default=0)
        self.life_ms = KEPT_MS if self.kinds else longest + IDLE_MS

    @property
    def budget_kind(self) -> int | None:
        """The period of the budgets; None: there are none."""
        limits = self.limits
        return None if limits.hard_budget is None and limits.soft_budget is None else KINDS[limits.budget_period]


class Names:
    """The keys of one installation."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{{{prefix}}}:"
        self.house = f"{self._prefix}house"
        self.alive = f"{self._prefix}alive"
        self.recall = f"{self._prefix}recall"

    def scope(self, account: Account) -> str:
        """Of what is counted together. A name of an end user is never written: its hash is."""
        if not account.each_end_user:
            return f"{self._prefix}s:{account.slot}"
        user = "-" if account.end_user is None else _hashed(account.end_user)
        return f"{self._prefix}s:{account.slot}:{user}"

    @staticmethod
    def holders(scope: str) -> str:
        """Who holds what of a scope."""
        return f"{scope}:h"


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Told(msgspec.Struct, array_like=True, gc=False):
    """What a script answers of one scope."""

    lent: tuple[int, int, int, int]
    held: tuple[int, int, int]
    share: tuple[int, int, int, int, int, int, int]
    sums: list[int]
    spent: list[tuple[int, int]]
    refused: list[tuple[str, int, int, int, int, int]]  # limit, used, held, needed, most, ms until there is room
    others: bool


class Answer(msgspec.Struct, array_like=True, gc=False):
    """What a script answers in all."""

    now: int
    drift: int
    epoch: str
    whole: bool
    alive: int
    again: bool
    scopes: list[Told]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Answer, strict=False).decode


@cache
def script(name: str) -> tuple[str, str]:
    """A script and its SHA-1, by which a server knows it."""
    text = files(__package__).joinpath(f"{name}.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
