# SPDX-License-Identifier: Apache-2.0
"""Limits on many scopes at once against a model that anyone can check: a list of what happened, summed up for each question."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, MappedCounters, Ticket, Used
from beffroi.gateway.quota.scopes import Account, account_of, quota_account
from tests.gateway.quota.support import DAY, HOUR, SECOND, HandClock, at_paris, counters

SLOTS = {"minute": SECOND // 2, "hour": 30 * SECOND, "day": 720 * SECOND}
MIDNIGHT = at_paris(2025, 11, 12)
MODELS, USERS = ("large", "small"), ("ann", "bob", None)
count = st.one_of(st.none(), st.integers(1, 200))
limits = st.builds(
    Limits,
    requests_per_minute=st.one_of(st.none(), st.integers(1, 12)),
    requests_per_hour=st.one_of(st.none(), st.integers(1, 20)),
    requests_per_day=st.one_of(st.none(), st.integers(1, 40)),
    tokens_per_minute=count,
    input_tokens_per_minute=count,
    input_tokens_per_hour=count,
    input_tokens_per_day=count,
    output_tokens_per_minute=count,
    output_tokens_per_hour=count,
    output_tokens_per_day=count,
    concurrency=st.one_of(st.none(), st.integers(1, 6)),
    hard_budget=st.one_of(st.none(), st.integers(100, 2000)),
    soft_budget=st.one_of(st.none(), st.integers(100, 2000)),
    monthly_cap=st.one_of(st.none(), st.integers(100, 3000)),
    budget_period=st.just("day"),
)
EXAMPLES = int(os.environ.get("BEFFROI_EXAMPLES", "60"))
SCOPES: tuple[dict[str, object], ...] = (
    {},
    {"project": "lab"},
    {"model": "large"},
    {"project": "lab", "model": "small"},
    {"key_slot": 1},
    {"each_end_user": True},
    {"project": "lab", "each_end_user": True},
)


class Event:
    """What one request counts in one account, from a moment on."""

    def __init__(self, at: int, **amounts: int) -> None:
        self.at, self.amounts = at, amounts


def kinds(what: Ask | Used) -> dict[str, int]:
    """Tokens by what limits count."""
    return {"tokens": what.tokens, "output_tokens": what.output, "input_tokens": what.tokens - what.output}


class Book:
    """One account: history, and what is held."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.events: list[Event] = []
        self.held: list[Ask] = []
        self.spent: list[tuple[int, int]] = []

    def use(self, name: str, now: int) -> int:
        """As `usage` shows it."""
        if name == "concurrency":
            return len(self.held)
        if "_per_" in name:
            what, span = name.split("_per_")
            slot = SLOTS[span]
            return sum(each.amounts.get(what, 0) for each in self.events if now // slot - each.at // slot <= 120)
        day = (now - MIDNIGHT) // DAY
        spent = sum(cost for at, cost in self.spent if name == "monthly_cap" or (at - MIDNIGHT) // DAY == day)
        return spent + sum(ask.estimate if name == "soft_budget" else ask.bound for ask in self.held)

    def admits(self, ask: Ask, now: int) -> bool:
        """Whether every limit has room."""
        needs = {"concurrency": 1, "hard_budget": ask.bound, "monthly_cap": ask.bound, "soft_budget": ask.estimate}
        needs |= {"requests": 1, **kinds(ask)}
        return all(self.use(name, now) + needs[name.split("_per_")[0]] <= limit for name, limit in self.limits())

    def limits(self) -> list[tuple[str, int]]:
        """Those that are set."""
        all_of = {name: getattr(self.account.limits, name) for name in Limits.__struct_fields__}
        return [(name, limit) for name, limit in all_of.items() if isinstance(limit, int)]


class Open:
    """A request in progress."""

    def __init__(self, worker: int, ticket: Ticket, ask: Ask, parts: list[tuple[Book, Event]]) -> None:
        self.worker, self.ticket, self.ask, self.parts = worker, ticket, ask, parts


class Comparison(RuleBasedStateMachine):
    """Two workers that may die, four keys of two projects, seven scopes with limits drawn at random; and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "counters.bin"
        self.clock = HandClock()
        self.workers: list[MappedCounters] = []
        self.books: dict[tuple[int, str | None], Book] = {}
        self.open: list[Open] = []
        self.keys: list[KeyRecord] = []
        self.quotas: list[QuotaRecord] = []

    @initialize(
        own=st.lists(limits, min_size=4, max_size=4),
        theirs=st.lists(st.one_of(st.none(), limits), min_size=len(SCOPES), max_size=len(SCOPES)),
    )
    def limits_are_drawn(self, own: list[Limits], theirs: list[Limits | None]) -> None:
        """At most one quota per scope."""
        self.keys = [
            KeyRecord(f"key_{slot}", f"p{slot}", b"", 1, slot, "acme", "lab" if slot < 2 else "office", limits=each)
            for slot, each in enumerate(own)
        ]
        self.quotas = [
            QuotaRecord(f"quo_{n}", 10 + n, "acme", terms=(Dated(0, each),), **scope)  # type: ignore[arg-type]
            for n, (scope, each) in enumerate(zip(SCOPES, theirs, strict=True))
            if each is not None
        ]
        self.workers = [self._worker(number) for number in (0, 1)]

    def _worker(self, number: int) -> MappedCounters:
        made = counters(self.path, self.clock, number)
        made.reset_worker(number)
        made.know(self.quotas)
        return made

    def teardown(self) -> None:
        """At rest nothing is held, whatever died; then files go with the run."""
        for each in self.open:
            self.workers[each.worker].settle(each.ticket, Used(0, 0, 0))
        self.clock.pass_(6 * SECOND)
        for book in self.books.values():
            shared = self.workers[0]
            shared.charge(book.account, 0)  # whatever comes next brings an account up to date
            assert shared.spent(book.account).reserved == 0
            assert [use.used for use in shared.usage(book.account) if use.name == "concurrency"] in ([], [0])
        for shared in self.workers:
            shared.close()
        self.folder.cleanup()

    def _those(self, key: KeyRecord, model: str, user: str | None) -> list[Book]:
        accounts = [account_of(key)]
        for quota in self.quotas:
            if quota.project in ("", key.project) and quota.model in ("", model) and quota.key_slot in (None, key.slot):
                name = (user or "") if quota.each_end_user else None
                accounts.append(quota_account(quota, quota.terms[0].limits, name))
        return [self.books.setdefault((each.slot, each.end_user), Book(each)) for each in accounts]

    @rule(
        worker=st.integers(0, 1), key=st.integers(0, 3), model=st.sampled_from(MODELS), user=st.sampled_from(USERS),
        tokens=st.tuples(st.integers(0, 40), st.integers(0, 40)), bound=st.integers(0, 300), share=st.integers(0, 100),
    )  # fmt: skip
    def reserve(
        self, worker: int, key: int, model: str, user: str | None, tokens: tuple[int, int], bound: int, share: int
    ) -> None:
        """Both say yes, or both say no; a refusal changes nothing and names a limit that has no room."""
        ask, now = Ask(sum(tokens), tokens[1], bound, bound * share // 100), self.clock.wall
        books = self._those(self.keys[key], model, user)
        without = [book for book in books if not book.admits(ask, now)]
        refusal: LimitExceeded | None = None
        try:
            ticket = self.workers[worker].reserve(self.keys[key], model, user, ask)
        except LimitExceeded as error:
            refusal = error
        if refusal is not None:
            assert without, refusal.message
            assert any(refusal.limit in dict(book.limits()) and book.account.of in refusal.message for book in without)
            assert refusal.retry_after is not None
            assert refusal.retry_after > 0
            return
        assert not without
        parts = []
        for book in books:
            event = Event(now, requests=1, **kinds(ask))
            book.events.append(event)
            book.held.append(ask)
            parts.append((book, event))
        self.open.append(Open(worker, ticket, ask, parts))

    @rule(which=st.integers(0, 99), tokens=st.tuples(st.integers(0, 60), st.integers(0, 60)), cost=st.integers(0, 300))
    def settle(self, which: int, tokens: tuple[int, int], cost: int) -> None:
        """Less is taken back where it was counted, more counts from now."""
        if not self.open:
            return
        each = self.open.pop(which % len(self.open))
        used = Used(sum(tokens), tokens[1], cost)
        self.workers[each.worker].settle(each.ticket, used)
        if each.ticket.plan is None:  # what nothing limits is counted nowhere
            for book, _ in each.parts:
                book.held.remove(each.ask)
            return
        for book, event in each.parts:
            more = {kind: max(0, amount - event.amounts[kind]) for kind, amount in kinds(used).items()}
            event.amounts |= {kind: min(amount, event.amounts[kind]) for kind, amount in kinds(used).items()}
            book.events.append(Event(self.clock.wall, **more))
            book.held.remove(each.ask)
            book.spent.append((self.clock.wall, cost))

    @rule(worker=st.integers(0, 1))
    def a_worker_is_killed(self, worker: int) -> None:
        """Its successor starts: requests of the dead are over, their money is held for five seconds."""
        self.workers[worker] = self._worker(worker)
        for each in [each for each in self.open if each.worker == worker]:
            self.open.remove(each)
            for book, _ in each.parts:
                book.held.remove(each.ask)
        self.clock.pass_(6 * SECOND)
        for book in self.books.values():
            self.workers[worker].charge(book.account, 0)

    @rule(ns=st.one_of(st.integers(0, 3 * SECOND), st.integers(0, 70 * SECOND), st.integers(0, 2 * HOUR)))
    def time_passes(self, ns: int) -> None:
        """A moment, a minute or hours."""
        if (self.clock.wall + ns - MIDNIGHT) // DAY < 10:  # within the month
            self.clock.pass_(ns)

    @rule()
    def a_night_passes(self) -> None:
        """Budgets of the day renew, the month goes on."""
        past = (self.clock.wall - MIDNIGHT) % DAY
        if (self.clock.wall - MIDNIGHT) // DAY < 9:
            self.clock.pass_(DAY - past)

    @invariant()
    def shows_the_same_and_no_limit_is_passed(self) -> None:
        """Every limit of every account, from either worker; only what a settlement added can be above a rate."""
        now = self.clock.wall
        for book in self.books.values():
            for shared in self.workers:
                for use in shared.usage(book.account):
                    assert use.used == book.use(use.name, now), (book.account.of, use.name)
                    if use.name in ("concurrency", "requests_per_minute", "requests_per_hour", "requests_per_day"):
                        assert use.used <= use.limit


Comparison.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestScopesAgainstTheModel = Comparison.TestCase
