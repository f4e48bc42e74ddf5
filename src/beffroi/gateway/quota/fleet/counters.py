# SPDX-License-Identifier: Apache-2.0
"""The counters of one worker of a fleet: what it has been lent is taken without asking, at the edge the centre decides.

In: keys, models, end users, asks. Out: tickets; `Busy` while the centre is asked; its refusals. While the centre is away the
failure matrix decides (docs/explanation/when-a-part-fails.md): rates open at limit ÷ workers, soft budgets open, hard budgets
closed after what this worker still holds of them.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

from beffroi.core.clock import Clock
from beffroi.core.snapshot import KeyDelta, KeyRecord, QuotaRecord
from beffroi.gateway.quota.fleet.alone import admit_alone
from beffroi.gateway.quota.fleet.centre import Centre
from beffroi.gateway.quota.fleet.desk import Desk
from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.lanes import Lanes
from beffroi.gateway.quota.fleet.lease import LOOK_S, Lease
from beffroi.gateway.quota.fleet.refusals import Found, refusal
from beffroi.gateway.quota.fleet.ticket import FleetTicket, take, tightest
from beffroi.gateway.quota.fleet.wire import INPUT, OUTPUT, REQUESTS, TOKENS, Names
from beffroi.gateway.quota.port import Held, Needs
from beffroi.gateway.quota.terms import MONEY_CAP, TOKEN_CAP, Ask, Busy, Used, cap, capped
from beffroi.telemetry.metrics import FleetMetrics

WORD_NS = 10_000_000  # for so long the centre's word holds for others who ask the same
RETURN_NS = 4_000_000  # for so long those who were called have time to return what they do not use
TRUST_NS = 30_000_000_000  # for so long a hard budget's lease may be used while nobody answers; the centre waits 45 s


class FleetCounters:
    """See `port.Counters`.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with name and password if it wants them.
        prefix: of this installation; two that share one Valkey have different ones.
        metrics: counted into.

    Raises:
        ValueError: an unknown zone, an address that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        clock: Clock,
        zone: str,
        loop: asyncio.AbstractEventLoop,
        metrics: FleetMetrics | None = None,
    ) -> None:
        self.metrics = metrics or FleetMetrics()
        self._clock = clock
        self._loop = loop
        self._time = HouseTime(clock, zone)
        names = Names(prefix)
        self._lanes = Lanes(names, lambda: self._desk.spare(0))
        self._known = self._lanes.known
        self._centre = Centre(url, names, self._came, self._recalled, self.metrics)
        self._desk = Desk(
            self._centre, names, self._time, clock, loop, self._lanes, self.metrics, holder=os.urandom(8).hex()
        )
        self._now_ms = self._time.now()
        self._look()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Connect; needs a running loop. Until the centre answers, the failure matrix decides."""
        self._centre.start()
        self._timer = self._loop.call_later(LOOK_S, self._tick)

    def know(self, quotas: Iterable[QuotaRecord]) -> None:
        """See `port.Counters`."""
        self._lanes.know(quotas)

    def learn(self, delta: KeyDelta) -> None:
        """See `port.Counters`."""
        self._lanes.learn(delta)

    def needs(self, key: KeyRecord, model: str) -> Needs:
        """See `port.Counters`."""
        return self._lanes.lane(key, model).needs

    def reserve(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """See `port.Counters`."""
        lane = self._known.get((key.slot, model))
        if lane is None or lane.key is not key or self._lanes.wall_s >= lane.until:
            lane = self._lanes.lane(key, model)
        leases = lane.leases if not lane.each else self._lanes.of_end_user(lane, end_user)
        tokens, output, bound, estimate = ask.tokens, ask.output, ask.bound, ask.estimate
        if not 0 <= tokens | output <= TOKEN_CAP or not 0 <= bound | estimate <= MONEY_CAP:
            ask = capped(ask)
            tokens, output, bound, estimate = ask.tokens, ask.output, ask.bound, ask.estimate
        inputs = tokens - output
        for lease in leases:
            if (
                lease.requests < 1
                or lease.tokens < tokens
                or lease.input < inputs
                or lease.output < output
                or lease.running < 1
                or lease.bound < bound
                or lease.estimate < estimate
            ):
                return self._ask(leases, ask)
        limit, remaining = None, 0
        for lease in leases:
            left = lease.requests = lease.requests - 1
            lease.tokens -= tokens
            lease.input -= inputs
            lease.output -= output
            lease.running -= 1
            lease.bound -= bound
            lease.estimate -= estimate
            total = lease.total = lease.total + 1
            if total >= lease.refill_at:
                lease.unit = ask
                self._desk.refill(lease)
            most = lease.most
            if most is not None and (limit is None or lease.room + left < remaining):
                limit, remaining = most, lease.room + left
        return FleetTicket(leases, ask, self._now_ms, limit, remaining)

    def settle(self, ticket: Any, used: Used) -> None:
        """See `port.Counters`."""
        if not ticket.open:
            return
        ticket.open = False
        if ticket.rest:
            for part in ticket.rest:
                self.settle(part, used)
        ask = ticket.ask
        tokens, output, cost = used.tokens, used.output, used.cost
        if not 0 <= tokens | output <= TOKEN_CAP or not 0 <= cost <= MONEY_CAP:
            tokens, output, cost = cap(tokens, TOKEN_CAP), cap(output, TOKEN_CAP), cap(cost, MONEY_CAP)
        more, more_output = tokens - ask.tokens, output - ask.output
        bound, estimate, at_ms = ask.bound, ask.estimate, ticket.at_ms
        for lease in ticket.leases:
            lease.running += 1
            lease.bound += bound - cost if lease.hard else bound
            lease.estimate += estimate - cost if lease.soft else estimate
            if lease.money:
                lease.cost += cost
            if more or more_output:
                if more_output <= 0 and more <= more_output and lease.back_ms == at_ms and lease.local is None:
                    lease.back_tokens += more  # the common case: all less than estimated, admitted with those before it
                    lease.back_output += more_output
                else:
                    self._differs(lease, ticket, more, more_output)
            if not lease.dirty:
                lease.dirty = True
                self._desk.settled(lease)

    def move(self, ticket: Any, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """See `port.Counters`."""
        lane = self._lanes.lane(key, model)
        leases = self._lanes.of_end_user(lane, end_user)
        held = {lease for part in (ticket, *ticket.rest) for lease in part.leases}
        fresh = tuple(lease for lease in leases if lease not in held)
        if not all(lease.fits(ask) for lease in fresh):
            self._ask(fresh, ask)  # raises, or has taken it alone
        else:
            for lease in fresh:
                take(lease, ask)
                self._desk.used(lease)
        kept: list[FleetTicket] = [FleetTicket(fresh, ask, self._now_ms, None, 0)]
        for part in (ticket, *ticket.rest):
            gone = tuple(lease for lease in part.leases if lease not in leases)
            for lease in gone:
                if lease.rule.rates[REQUESTS]:  # no request of these was made after all
                    lease.note(REQUESTS, part.at_ms, -1)
            self.settle(FleetTicket(gone, part.ask, part.at_ms, None, 0, part.open), Used(0, 0, 0))
            stays = tuple(lease for lease in part.leases if lease in leases)
            kept.append(FleetTicket(stays, part.ask, part.at_ms, None, 0, part.open))
            part.open = False
        limit, remaining = tightest(leases)
        first, *others = kept
        return FleetTicket(first.leases, ask, first.at_ms, limit, remaining, rest=tuple(others))

    def reserve_alone(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Held:
        """See `port.Counters`; a word of the centre that came meanwhile goes before."""
        lane = self._lanes.lane(key, model)
        leases = self._lanes.of_end_user(lane, end_user)
        if found := self._words(leases, ask, 5 * WORD_NS):
            raise refusal(found, self._time)
        return self._alone(leases, ask)

    def gather(self) -> Callable[[], None]:
        """See `port.Counters`: a settlement is noted at once and told with the next call, so there is nothing to end a turn with."""
        return _nothing

    def pay(self) -> int:
        """See `port.Counters`: a timer of its own does the upkeep."""
        return sum(1 for lease in self._lanes.leases.values() if lease.owes())

    def calm(self) -> None:
        """Return all that nobody uses and say all that is owed, as soon as may be."""
        self._desk.calm()

    def talking(self) -> bool:
        """Whether something is under way to the centre, or about to be."""
        return self._desk.talking()

    def house_ms(self) -> int:
        """House time, as this worker has it."""
        return self._time.now()

    def scopes(self) -> int:
        """How many scopes this worker keeps in memory."""
        return len(self._lanes.leases)

    async def ready(self, seconds: float) -> bool:
        """Wait for the centre's first word, so long at most; whether it came."""
        return await self._centre.heard(seconds)

    def close(self) -> None:
        """See `port.Counters`; blocks for a second at most."""
        if self._timer is not None:
            self._timer.cancel()
        self._desk.leave()

    async def stop(self) -> None:
        """End the connections; after `close`."""
        await self._centre.stop()

    def silence(self) -> None:
        """Die: nothing more is said, as after a kill."""
        if self._timer is not None:
            self._timer.cancel()
        self._centre.silence()

    def _ask(self, leases: tuple[Lease, ...], ask: Ask) -> FleetTicket:
        """There is not enough at hand.

        Raises:
            Busy: the centre is being asked.
            LimitExceeded: it has said no.
        """
        if not self._centre.up:
            return self._alone(leases, ask)
        if found := self._words(leases, ask, WORD_NS):
            now = self._clock.mono_ns()
            if all(lease.sure for lease, _ in found):
                raise refusal(found, self._time)
            if any(now - lease.word_at < RETURN_NS for lease, _ in found):
                raise Busy  # others were asked to return what they do not use
        self._desk.ask(leases, ask)
        raise Busy

    def _words(self, leases: tuple[Lease, ...], ask: Ask, age_ns: int) -> list[tuple[Lease, Found]]:
        """The centre's refusals that hold for this ask too."""
        now = self._clock.mono_ns()
        return [
            (lease, each)
            for lease in leases
            if lease.word and now - lease.word_at <= age_ns and not lease.fits(ask)
            for each in lease.word
            if _need_of(ask, each[0]) >= each[3]
        ]

    def _alone(self, leases: tuple[Lease, ...], ask: Ask) -> FleetTicket:
        """The failure matrix."""
        ticket = admit_alone(leases, ask, self._time, max(1, self._desk.workers))
        for lease in leases:
            self._desk.used(lease)
        self.metrics.alone += 1
        return ticket

    def _differs(self, lease: Lease, ticket: FleetTicket, more: int, more_output: int) -> None:
        """Less than was estimated is given back to the moment it was taken; more counts from now."""
        lease.gather(ticket.at_ms)
        _, tokens, inputs, outputs = lease.rule.rates
        for limited, quantity, amount in (
            (tokens, TOKENS, more), (inputs, INPUT, more - more_output), (outputs, OUTPUT, more_output),
        ):  # fmt: skip
            if limited and amount:
                lease.note(quantity, ticket.at_ms if amount < 0 else self._now_ms, amount)
                if lease.local is not None:
                    lease.local.use(quantity, amount, self._time.now())

    def _look(self) -> None:
        self._now_ms = self._time.now()
        self._lanes.wall_s = self._time.wall_ns() // 1_000_000_000

    def _tick(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._tick)
        self.upkeep()

    def upkeep(self) -> None:
        """Four times a second: what is old is returned, what is used fast is lent ahead, what is owed is told."""
        self._look()
        trusted = self._centre.up or self._clock.mono_ns() - self._desk.heard_ns < TRUST_NS
        self._desk.upkeep(trusted=trusted)

    def _came(self) -> None:
        for lease in self._lanes.leases.values():
            lease.local = None
        self._desk.came()

    def _recalled(self, scope: str) -> None:
        lease = self._lanes.leases.get(scope)
        if lease is not None:
            self._desk.recall(lease)


def _nothing() -> None:
    pass


def _need_of(ask: Ask, code: str) -> int:
    """How much of what a refusal is about a request needs."""
    if (code[0] == "r" and code != "rebuilding") or code == "concurrency":
        return 1
    if code in ("hard_budget", "monthly_cap", "rebuilding"):
        return ask.bound
    if code == "soft_budget":
        return ask.estimate
    return {"t": ask.tokens, "i": ask.tokens - ask.output}.get(code[0], ask.output)
