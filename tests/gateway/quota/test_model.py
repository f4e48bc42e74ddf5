# SPDX-License-Identifier: Apache-2.0
"""The counters against a model that anyone can check: a list of what happened, summed up anew for each question."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from beffroi.core.errors import LimitExceeded
from beffroi.gateway.quota import Ask, MappedCounters, Ticket, Used
from beffroi.gateway.quota.scopes import account_of
from tests.gateway.quota.support import DAY, HOUR, MINUTE, SECOND, HandClock, at_paris, counters, key

LIMITS = {
    "requests_per_minute": 12,
    "tokens_per_minute": 100,
    "output_tokens_per_hour": 150,
    "output_tokens_per_day": 300,
    "concurrency": 5,
    "hard_budget": 1000,
    "soft_budget": 700,
    "budget_period": "day",
}
RECORD = key(3, **LIMITS)
SLOTS = {MINUTE: SECOND // 2, HOUR: 30 * SECOND, DAY: 720 * SECOND}
small = st.integers(0, 60)


class Event:
    """Something that counts in windows from a moment on."""

    def __init__(self, at: int, requests: int, tokens: int, output: int) -> None:
        self.at, self.requests, self.tokens, self.output = at, requests, tokens, output


class Model:
    """Exact, slow, and without any state but history."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: list[Ask] = []
        self.spent: list[tuple[int, int]] = []  # when, how much

    def window(self, field: str, length: int, now: int) -> int:
        """What counts: all events of the current slot and of the 120 before it."""
        slot = SLOTS[length]
        return sum(getattr(each, field) for each in self.events if now // slot - each.at // slot <= 120)

    def money(self, now: int) -> int:
        """Spent since midnight in Paris (the run's days have 24 hours)."""
        midnight = at_paris(2025, 11, 12)
        return sum(cost for at, cost in self.spent if (at - midnight) // DAY == (now - midnight) // DAY)

    def uses(self, now: int) -> list[int]:
        """As `MappedCounters.usage` shows them."""
        money = self.money(now)
        return [
            self.window("requests", MINUTE, now),
            self.window("tokens", MINUTE, now),
            self.window("output", HOUR, now),
            self.window("output", DAY, now),
            len(self.held),
            money + sum(ask.bound for ask in self.held),
            money + sum(ask.estimate for ask in self.held),
        ]

    def admits(self, ask: Ask, now: int) -> bool:
        """Whether all limits have room."""
        needs = [1, ask.tokens, ask.output, ask.output, 1, ask.bound, ask.estimate]
        limits = [limit for name, limit in LIMITS.items() if name != "budget_period"]
        return all(used + need <= int(limit) for used, need, limit in zip(self.uses(now), needs, limits, strict=True))  # type: ignore[call-overload]


class Comparison(RuleBasedStateMachine):
    """Two workers over one file, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.model = Model()
        self.workers: list[MappedCounters] = [
            counters(Path(self.folder.name) / "counters.bin", self.clock, number) for number in (0, 1)
        ]
        self.open: list[tuple[MappedCounters, Ticket, Event, Ask]] = []

    def teardown(self) -> None:
        """Files go with the run."""
        for each in self.workers:
            each.close()
        self.folder.cleanup()

    @rule(
        worker=st.integers(0, 1), input_tokens=small, output=small, bound=st.integers(0, 400), share=st.integers(0, 100)
    )
    def reserve(self, worker: int, input_tokens: int, output: int, bound: int, share: int) -> None:
        """Both say yes, or both say no."""
        ask = Ask(input_tokens + output, output, bound, bound * share // 100)
        expected = self.model.admits(ask, self.clock.wall)
        shared = self.workers[worker]
        refusal: LimitExceeded | None
        try:
            ticket = shared.reserve(RECORD, "m", None, ask)
        except LimitExceeded as error:
            refusal = error
        else:
            refusal = None
        assert expected == (refusal is None)
        if refusal is not None:
            assert refusal.retry_after is not None
            assert refusal.retry_after > 0
            return
        event = Event(self.clock.wall, 1, ask.tokens, ask.output)
        self.model.events.append(event)
        self.model.held.append(ask)
        self.open.append((shared, ticket, event, ask))

    @rule(which=st.integers(0, 99), input_tokens=small, output=small, cost=st.integers(0, 400))
    def settle(self, which: int, input_tokens: int, output: int, cost: int) -> None:
        """Less is taken back where it was counted, more counts from now."""
        if not self.open:
            return
        shared, ticket, event, ask = self.open.pop(which % len(self.open))
        tokens = input_tokens + output
        shared.settle(ticket, Used(tokens, output, cost))
        more = Event(self.clock.wall, 0, max(0, tokens - ask.tokens), max(0, output - ask.output))
        event.tokens, event.output = min(tokens, ask.tokens), min(output, ask.output)
        self.model.events.append(more)
        self.model.held.remove(ask)
        self.model.spent.append((self.clock.wall, cost))

    @rule(ns=st.one_of(st.integers(0, 3 * SECOND), st.integers(0, 70 * SECOND), st.integers(0, 2 * HOUR)))
    def time_passes(self, ns: int) -> None:
        """A moment, a minute or hours."""
        self.clock.pass_(ns)

    @rule(day=st.booleans())
    def midnight_or_a_day_passes(self, day: bool) -> None:
        """Budgets renew."""
        past = (self.clock.wall - at_paris(2025, 11, 12)) % DAY
        self.clock.pass_(DAY if day else DAY - past)

    @rule(jump=st.integers(-400, 400))
    def a_worker_s_wall_clock_is_looked_at_while_wrong(self, jump: int) -> None:
        """No effect, if it is set right within ten minutes."""
        self.clock.wall += jump * HOUR
        self.workers[0].usage(account_of(RECORD))
        self.clock.wall -= jump * HOUR

    @invariant()
    def shows_the_same(self) -> None:
        """Every limit, from either worker."""
        expected = self.model.uses(self.clock.wall)
        for each in self.workers:
            assert [use.used for use in each.usage(account_of(RECORD))] == expected


Comparison.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstTheModel = Comparison.TestCase
