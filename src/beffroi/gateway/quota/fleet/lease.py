# SPDX-License-Identifier: Apache-2.0
"""What one worker has been lent of one scope, and what it has to tell the centre about it.

In: asks and settlements. Out: the lines of `lease.lua` for this scope, and room that a request takes without asking.
Free room is a plain integer for each quantity; what is not limited has a great deal of it. What is lent less what is free
is in use, so nothing is counted twice. Nothing that was used is forgotten before the centre has said that it knows.
"""

from typing import Any

from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.share import LocalShare
from beffroi.gateway.quota.fleet.wire import BOUND, ESTIMATE, INPUT, MINUTE_MS, OUTPUT, TOKENS, Rule, Told
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.terms import Ask

PLENTY = 1 << 48
AHEAD_S = 0.5  # how far ahead of need room is lent
LOOK_S = 0.25  # between two looks at how fast it goes
SLOT_MS = 250
POOL = 4  # where running, bound and estimate stand beside the four quantities


class Lease:
    """One scope on one worker.

    Attributes:
        requests … estimate: free room, taken from on the fast path.
        total: reservations from it; at `refill_at` more is asked for.
        room: what the tightest limit on requests per minute had left at the centre; None: it has none.
        tight: somebody may want what is returned here, so it is returned at once.
        word: the centre's last refusal, `word_at` when it came (monotonic ns), `sure` whether nobody else can have it back.
        busy: a call that names this scope is under way.
        joined: the centre has heard of this worker's share of this scope, in this epoch.
    """

    __slots__ = (
        "_looked", "_told", "account", "back_ms", "back_output", "back_tokens", "bound", "busy", "cost", "dirty",
        "epoch", "estimate", "hard", "held", "input", "joined", "lent", "local", "money", "most", "notes",
        "output", "past", "rate", "refill_at", "requests", "room", "rule", "running", "scope", "seen", "seen_ms",
        "sending", "soft", "sums", "sure", "tight", "tokens", "total", "unit", "word", "word_at",
    )  # fmt: skip

    def __init__(self, scope: str, account: Account, rule: Rule) -> None:
        self.scope, self.account, self.rule = scope, account, rule
        _, self.hard, self.soft = rule.pools
        self.money = self.hard or self.soft
        self.requests, self.tokens, self.input, self.output = (0 if limited else PLENTY for limited in rule.rates)
        self.running, self.bound, self.estimate = (0 if limited else PLENTY for limited in rule.pools)
        self.lent = [0] * 4
        self.held = [0] * 3
        self.total = self._told = self._looked = 0
        self.refill_at, self.rate = 1, 0.0
        self.most = rule.limits.requests_per_minute
        self.room = 0
        self.notes: dict[tuple[int, int], int] = {}
        self.back_ms = self.back_tokens = self.back_output = 0
        self.dirty = False
        self.cost = 0
        self.past: list[tuple[int, list[int]]] = []
        self.sending: tuple[int, list[Any], list[Any]] = (0, [], [])
        self.sums: dict[str, int] = {}
        self.seen: dict[int, int] = {}
        self.seen_ms = 0
        self.epoch = ""  # in which sums and money were seen
        self.tight = True
        self.busy = self.joined = False
        self.unit: Ask | None = None
        self.word: list[tuple[str, int, int, int, int, int]] = []
        self.word_at = 0
        self.sure = True
        self.local: LocalShare | None = None

    def free(self) -> tuple[int, ...]:
        """Free room of the seven quantities."""
        return self.requests, self.tokens, self.input, self.output, self.running, self.bound, self.estimate

    def set_free(self, free: "list[int] | tuple[int, ...]") -> None:
        """The same, set."""
        (self.requests, self.tokens, self.input, self.output, self.running, self.bound, self.estimate) = free

    def limited(self) -> tuple[bool, ...]:
        """Which of the seven are limited."""
        return (*self.rule.rates, *self.rule.pools)

    def change(self, account: Account, rule: Rule) -> None:
        """Other limits from now on: what is used counts on from where it was."""
        self.gather(0)
        free, before = list(self.free()), self.limited()
        self.account, self.rule = account, rule
        _, self.hard, self.soft = rule.pools
        self.money = self.hard or self.soft
        for at, (was, now) in enumerate(zip(before, self.limited(), strict=True)):
            if was == now:
                continue
            if at < POOL:
                free[at] = 0 if now else PLENTY
            elif now:  # what is in use must be lent
                free[at] -= PLENTY
                self.held[at - POOL] = 0
            else:
                free[at] += PLENTY - self.held[at - POOL]
                self.held[at - POOL] = 0
        self.set_free(free)
        self.most = rule.limits.requests_per_minute
        self.word, self.tight, self.local = [], True, None

    def fits(self, ask: Ask) -> bool:
        """Whether a request can be taken from what is free."""
        return (
            self.requests >= 1
            and self.tokens >= ask.tokens
            and self.input >= ask.tokens - ask.output
            and self.output >= ask.output
            and self.running >= 1
            and self.bound >= ask.bound
            and self.estimate >= ask.estimate
        )

    def note(self, quantity: int, at_ms: int, amount: int) -> None:
        """Something was used that was not lent, or (negative) lent in vain, at a moment of house time."""
        place = (quantity, at_ms - at_ms % SLOT_MS)
        self.notes[place] = self.notes.get(place, 0) + amount

    def gather(self, at_ms: int) -> None:
        """Note what was given back for one moment, and begin to add up what is for another."""
        if self.back_tokens or self.back_output:
            _, tokens, inputs, outputs = self.rule.rates
            for limited, quantity, amount in (
                (tokens, TOKENS, self.back_tokens),
                (inputs, INPUT, self.back_tokens - self.back_output),
                (outputs, OUTPUT, self.back_output),
            ):
                if limited and amount:
                    self.note(quantity, self.back_ms, amount)
        self.back_ms, self.back_tokens, self.back_output = at_ms, 0, 0

    def turn(self, before: dict[int, int]) -> None:
        """A money period has ended; `before`: the numbers that were. What was spent until now was spent in them."""
        if self.cost:
            self.past.append((self.cost, [before[kind] for kind in self.rule.kinds]))
            self.cost = 0

    def owes(self) -> bool:
        """Whether the centre has not heard all."""
        return bool(
            self.notes
            or self.back_tokens
            or self.back_output
            or self.cost
            or self.past
            or self.sending[1]
            or self.sending[2]
        )

    def in_use(self) -> bool:
        """Whether requests that this scope limits are in progress."""
        free = self.free()[POOL:]
        return any(
            (held - left if limited else PLENTY - left) > 0
            for limited, left, held in zip(self.rule.pools, free, self.held, strict=True)
        )

    def holds(self) -> bool:
        """Whether it has room that nobody uses."""
        return any(limited and left > 0 for limited, left in zip(self.limited(), self.free(), strict=True))

    def give_up(self, keep: int) -> None:
        """Free room beyond `keep` requests is no longer ours: the next line says so."""
        unit, free = needs_of(self.unit), list(self.free())
        for at, limited in enumerate(self.limited()):
            extra = free[at] - keep * unit[at] if limited else 0
            if extra > 0:
                free[at] -= extra
                if at < POOL:
                    self.lent[at] -= extra
                else:
                    self.held[at - POOL] -= extra
        self.set_free(free)

    def pulse(self) -> None:
        """Look how fast it goes; called every `LOOK_S`."""
        lately = self.total - self._looked
        self.rate = (self.rate + lately / LOOK_S) / 2
        self._looked = self.total
        if not lately:
            self._told = self.total

    def wanted(self) -> int:
        """For how many requests room should be at hand; part of one is of no use."""
        return 0 if self.tight else int(max(self.rate * AHEAD_S, 2.0 * (self.total - self._told)))

    def line(
        self, need: Ask | None, waiting: "list[Ask]", ahead: int, number: int, time: HouseTime, epoch: str
    ) -> list[Any]:
        """What the script is told; the lease is busy until `take` or `lost`."""
        rule, limited = self.rule, self.limited()
        self.dirty = False
        self.gather(self.back_ms)
        if not (self.sending[1] or self.sending[2]):
            costs = [[period, nano, 0] for nano, periods in self.past for period in periods]
            costs += [[time.period(kind).number, self.cost, 1] for kind in rule.kinds if self.cost]
            total_cost = self.cost + sum(nano for nano, _ in self.past)
            self.held[BOUND] -= total_cost if rule.pools[BOUND] else 0
            self.held[ESTIMATE] -= total_cost if rule.pools[ESTIMATE] else 0
            notes = [[quantity + 1, at, amount] for (quantity, at), amount in self.notes.items() if amount]
            self.sending = (number, notes, costs)
            self.notes, self.past, self.cost = {}, [], 0
        needs = needs_of(need) if need is not None else (0,) * 7
        free, unit = self.free(), needs_of(self.unit)
        total = [0] * 7
        for each in waiting:
            for at, amount in enumerate(needs_of(each)):
                total[at] += amount
        ask = [0] * 7
        wait = [0] * 7
        more = [0] * 7
        must = [0] * 3
        for at, is_limited in enumerate(limited):
            if not is_limited:
                continue
            spare = max(0, free[at])
            ask[at] = max(0, needs[at] - spare)
            wait[at] = max(ask[at], total[at] - spare)
            more[at] = max(0, ahead * unit[at] - max(0, spare - max(needs[at], total[at])))
            if at >= POOL:
                must[at - POOL] = self.held[at - POOL] - min(0, free[at])
        joins = False if self.joined else self._joins(time, epoch)
        self.busy, self._told = True, self.total
        month = time.period(2).number if rule.month else 0
        budget = rule.budget_kind
        return [
            rule.told, rule.pool_limits, [0 if budget is None else time.period(budget).number, month],
            self.sending[0], self.sending[1], self.sending[2],
            self.lent, ask[:4], wait[:4], more[:4], must, ask[4:], wait[4:], more[4:], joins, rule.life_ms,
        ]  # fmt: skip

    def likely_sums(self, now_ms: int, workers: int) -> dict[str, int]:
        """What the centre's sums are now, if the others went on as this worker did since it last heard."""
        age_s, unit = min(1.0, (now_ms - self.seen_ms) / 1000), needs_of(self.unit)
        meanwhile = max(self.rate * age_s, self.total - self._told) * (workers - 1)
        return {
            window.code: self.sums.get(window.code, 0) + int(meanwhile * unit[window.quantity])
            for window, _ in self.rule.windows
        }

    def _joins(self, time: HouseTime, epoch: str) -> list[Any]:
        """What we last saw of the sums, for a centre that has lost them; older sums have slid out in part."""
        if self.epoch in ("", epoch):
            return [[], []]
        age = time.now() - self.seen_ms
        sums = []
        for window, _ in self.rule.windows:
            left = 1.0 - age / window.length_ms if window.length_ms != MINUTE_MS else float(age < window.length_ms)
            if left > 0 and (lump := int(self.sums.get(window.code, 0) * left)) > 0:
                sums.append([window.code, lump])
        return [[[period, nano] for period, nano in self.seen.items()], sums]

    def take(self, told: Told, time: HouseTime, mono_ns: int, epoch: str) -> None:
        """The script's answer."""
        self.busy, self.joined = False, True
        self.sending = (self.sending[0], [], [])
        free, rule = list(self.free()), self.rule
        for at, limited in enumerate(rule.rates):
            if limited:
                free[at] += told.lent[at] - self.lent[at]
            self.lent[at] = told.lent[at]
        for at, limited in enumerate(rule.pools):
            if limited:
                free[POOL + at] += told.held[at] - self.held[at]
                self.held[at] = told.held[at]
        self.set_free(free)
        self.sums = dict(zip((window.code for window, _ in rule.windows), told.sums, strict=False))
        self.seen, self.seen_ms, self.epoch = dict(told.spent), time.now(), epoch
        if self.most is not None:
            self.room = max(0, self.most - self.sums.get("rm", 0))
        unit = needs_of(self.unit)
        self.tight = any(0 <= share < max(1, need) for share, need in zip(told.share, unit, strict=True))
        at_hand = min(
            (left // max(1, need) for left, need, limited in zip(free, unit, self.limited(), strict=True) if limited),
            default=PLENTY,
        )
        self.refill_at = self.total + max(1, at_hand // 2)
        if told.refused:
            self.sure = not told.others or mono_ns - self.word_at < 25_000_000
            self.word, self.word_at = told.refused, mono_ns
        else:
            self.word = []

    def lost(self) -> None:
        """No answer came: what was under way may have happened or not, and is said again next time."""
        self.busy = False


def needs_of(ask: Ask | None) -> tuple[int, ...]:
    """What a request needs of the seven quantities."""
    if ask is None:
        return (1, 0, 0, 0, 1, 0, 0)
    return (1, ask.tokens, ask.tokens - ask.output, ask.output, 1, ask.bound, ask.estimate)
