# SPDX-License-Identifier: Apache-2.0
"""Room 4, route: which engine of a model's pool takes the next attempt.

In: a pool of equal engines and what each has in hand. Out: one member. Power of two choices on outstanding work;
an engine that fails is ejected for a while and let back by one trial at a time; retries have a budget.
"""

from collections.abc import Sequence
from random import random

import msgspec

from beffroi.core.errors import NoEngine

EJECT_AFTER = 3  # failures in a row
EJECT_SECONDS = 5.0
EJECT_LONGEST = 60.0
RETRY_SHARE = 0.10
RETRY_FLOOR = 3
MAX_ATTEMPTS = 3


class Member:
    """One engine as the router sees it, shared by all pools it stands in."""

    __slots__ = ("backend", "ejected_until", "failures", "in_flight", "kind", "machine", "name", "penalty", "probing")

    def __init__(self, name: str, kind: str, machine: str) -> None:
        self.name = name
        self.kind = kind
        self.machine = machine
        self.backend = msgspec.json.encode({"engine_type": kind, "machine_name": machine})  # as clients see it
        self.in_flight = 0
        self.failures = 0
        self.penalty = EJECT_SECONDS
        self.ejected_until = 0.0
        self.probing = False

    def succeeded(self) -> None:
        """An answer came whole: the engine is well."""
        self.failures = 0
        self.probing = False
        self.penalty = EJECT_SECONDS
        self.ejected_until = 0.0

    def failed(self, now: float) -> None:
        """An attempt failed at `now` (monotonic seconds); the third in a row, or a failed trial, ejects the engine.

        Those that were under way with the one that ejected it fail with it: they do not make its time longer.
        """
        self.failures += 1
        if self.probing or (self.failures >= EJECT_AFTER and self.ejected_until <= now):
            self.ejected_until = now + self.penalty
            self.penalty = min(self.penalty * 2, EJECT_LONGEST)
            self.probing = False

    def left(self) -> None:
        """A trial ended without a verdict (the client left): the next request may try again."""
        self.probing = False

    def open(self, now: float) -> bool:
        """True when requests may go there: it is well, or its time is over and nobody is trying it yet."""
        return self.ejected_until == 0.0 or (self.ejected_until <= now and not self.probing)


class Pool:
    """Equal engines of one model."""

    __slots__ = ("members",)

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members

    def open(self, now: float) -> bool:
        """Whether an engine may be asked that is well, or whose time for a trial has come."""
        return any(member.open(now) for member in self.members)

    def choose(self, tried: tuple[str, ...], now: float) -> Member:
        """The engine for the next attempt: never one already tried while another is there.

        When all are ejected the choice ignores ejection (panic): better a trial than a certain refusal.

        Raises:
            NoEngine: the pool is empty.
        """
        members = self.members
        count = len(members)
        if count == 1:
            chosen = members[0]
        elif count and not tried and (drawn := _draw(members, now)).open(now):
            chosen = drawn  # the common case, at the same price for two engines and for a hundred
        else:
            fresh = [m for m in members if m.name not in tried] if tried else members
            candidates = [m for m in fresh if m.ejected_until == 0.0 or m.open(now)] or fresh or members
            if not candidates:
                raise NoEngine("No engine serves this model now; try again shortly.", retry_after=5)
            chosen = _draw(candidates, now)
        if chosen.ejected_until and chosen.ejected_until <= now:
            chosen.probing = True
        return chosen


def _draw(members: Sequence[Member], now: float) -> Member:
    """Of two drawn at random, the one with less in hand; one whose time for a trial has come goes first."""
    count = len(members)
    if count == 1:
        return members[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, two = members[first], members[second]
    if one.ejected_until or two.ejected_until:
        for each in (one, two):
            if each.ejected_until and each.open(now):
                return each  # one that is well may have less in hand for ever: a trial must not have to win
        for each in (one, two):
            if not each.ejected_until:
                return each
    return one if one.in_flight <= two.in_flight else two


class RetryBudget:
    """Extra attempts: at most 10 % of the requests of the last minute, but always three a minute.

    Six slots of ten seconds slide, so the answer is at most ten seconds behind.
    """

    __slots__ = ("_requests", "_retries", "_slot")

    def __init__(self) -> None:
        self._requests = [0] * 6
        self._retries = [0] * 6
        self._slot = 0

    def _turn(self, now: float) -> int:
        slot = int(now // 10)
        for passed in range(max(self._slot + 1, slot - 5), slot + 1):
            self._requests[passed % 6] = self._retries[passed % 6] = 0
        self._slot = slot
        return slot % 6

    def request(self, now: float) -> None:
        """Count a request that goes to an engine for the first time."""
        self._requests[self._turn(now)] += 1

    def allow(self, now: float) -> bool:
        """Take one retry from the budget; False when it is used up."""
        at = self._turn(now)
        if sum(self._retries) >= max(RETRY_FLOOR, RETRY_SHARE * sum(self._requests)):
            return False
        self._retries[at] += 1
        return True
