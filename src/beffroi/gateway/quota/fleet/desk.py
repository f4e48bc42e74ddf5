# SPDX-License-Identifier: Apache-2.0
"""Who speaks with the centre, and when: one pipeline at a time, with all that is needed, returned and owed by then.

In: leases that need room, have some to return or owe something. Out: leases filled, words noted.
A scope is in one call at a time, so that what is said of it is always said of what the last answer left.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis import RedisError

from beffroi.core.clock import Clock
from beffroi.core.ids import new_id
from beffroi.gateway.quota.fleet.centre import Away, Centre
from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.lanes import Lanes
from beffroi.gateway.quota.fleet.lease import Lease, needs_of
from beffroi.gateway.quota.fleet.wire import Answer, Names, decode, encode, script
from beffroi.gateway.quota.terms import Ask
from beffroi.telemetry import logs
from beffroi.telemetry.metrics import FleetMetrics

BEAT_NS = 5_000_000_000
TOUCH_NS = 20_000_000_000  # what is held is said again, so that it outlives its time to live
IDLE_MS = 600_000
TOGETHER = 32  # scopes told of in one call
SOON_S = 0.005
_log = logs.Logger("beffroi.fleet")


class Desk:
    """One worker's.

    Attributes:
        workers: of the whole fleet, as the centre last counted them.
        heard_ns: when it last answered (monotonic).
    """

    def __init__(
        self,
        centre: Centre,
        names: Names,
        time: HouseTime,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        lanes: Lanes,
        metrics: FleetMetrics,
        *,
        holder: str,
    ) -> None:
        self._centre, self._names, self._time, self._clock, self._loop = centre, names, time, clock, loop
        self._lanes, self._metrics, self._holder = lanes, metrics, holder
        self._epoch = ""
        self._fresh = new_id("epo")
        self._known = False
        self._number = 0
        self._waiting: dict[int, tuple[tuple[Lease, ...], Ask]] = {}
        self._syncs: dict[Lease, None] = {}
        self._active: dict[Lease, None] = {}
        self._beat = False
        self._runs: asyncio.Task[None] | None = None
        self._kicked = False
        self._beat_at = self._touch_at = 0
        self._periods: dict[int, int] = {}
        self.workers = 1
        self.heard_ns = 0

    # what is asked of it ------------------------------------------------------------------------------------------

    def ask(self, leases: tuple[Lease, ...], ask: Ask) -> None:
        """A request waits for room in these."""
        self._waiting[id(ask)] = (leases, ask)
        for lease in leases:
            lease.unit = ask
            self._active[lease] = None
        self._kick()

    def refill(self, lease: Lease) -> None:
        """A lease runs low: more of it, if there is plenty."""
        self._active[lease] = None
        if not lease.tight and not lease.busy and self._centre.up:
            self._syncs[lease] = None
            self._kick()

    def used(self, lease: Lease) -> None:
        """Something was taken off the fast path."""
        self._active[lease] = None

    def settled(self, lease: Lease) -> None:
        """A request is over; what it leaves free goes back at once where somebody may want it."""
        self._active[lease] = None
        if lease.tight and self._centre.up:
            self._syncs[lease] = None
            self._kick()

    def recall(self, lease: Lease) -> None:
        """Another worker looks for room here."""
        lease.tight = True
        if lease.holds():
            self._syncs[lease] = None
            self._kick()

    def came(self) -> None:
        """The centre answers again: all that is used and owed is said."""
        self._beat = True
        for lease in self._lanes.leases.values():
            if lease.owes() or lease.in_use() or lease.holds():
                self._syncs[lease] = None
        self._kick()

    def upkeep(self, *, trusted: bool) -> None:
        """See `FleetCounters.upkeep`; `trusted`: leases of hard budgets may still be used."""
        now = self._clock.mono_ns()
        self._turn()
        if not trusted:
            for lease in self._lanes.leases.values():
                if lease.hard and lease.bound > 0:
                    lease.held[1] -= lease.bound
                    lease.bound = 0
        for lease in tuple(self._active):
            self._mind(lease)
        if now >= self._touch_at:
            self._touch_at = now + TOUCH_NS
            for lease in self._lanes.leases.values():
                if lease.in_use():
                    self._syncs[lease] = None
            self.spare(IDLE_MS)
        if now >= self._beat_at:
            self._beat_at, self._beat = now + BEAT_NS, True
        self._kick()

    def _mind(self, lease: Lease) -> None:
        lease.pulse()
        holds = lease.holds()
        if not holds and not lease.owes() and lease.rate < 0.01:
            del self._active[lease]
        if lease.busy:
            return
        if lease.owes() or (holds and (lease.tight or self._surplus(lease))):
            self._syncs[lease] = None

    @staticmethod
    def _surplus(lease: Lease) -> bool:
        wanted, unit = lease.wanted(), needs_of(lease.unit)
        return any(
            limited and left > (2 * wanted + 1) * need
            for limited, left, need in zip(lease.limited(), lease.free(), unit, strict=True)
        ) or (wanted < 1 and lease.rate < 0.5)

    def _turn(self) -> None:
        """Money spent before midnight is money of the day before, whenever the centre hears of it."""
        for kind in (1, 2, 3):
            number, before = self._time.period(kind).number, self._periods.get(kind)
            if before is not None and before != number:
                for lease in self._lanes.leases.values():
                    if lease.cost and kind in lease.rule.kinds:
                        lease.turn(self._periods)
            self._periods[kind] = number

    def spare(self, idle_ms: int) -> None:
        """Forget leases that hold and owe nothing and were not used for so long."""
        now = self._time.now()
        for lease in tuple(self._lanes.leases.values()):
            if now - lease.seen_ms >= idle_ms and lease not in self._active and not lease.in_use() and not lease.owes():
                self._lanes.drop(lease)

    # the conversation ---------------------------------------------------------------------------------------------

    def _kick(self) -> None:
        if not self._kicked and self._centre.up and (self._runs is None or self._runs.done()):
            self._kicked = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._kicked = False
        if self._runs is None or self._runs.done():
            self._runs = self._loop.create_task(self._run())

    async def _run(self) -> None:
        while self._centre.up and (self._waiting or self._syncs or self._beat):
            calls = self._calls()
            if not calls:
                return
            with suppress(Away):
                await self._talk(calls)

    async def _talk(self, calls: list[tuple[list[Lease], list[Any]]]) -> None:
        try:
            answers = await self._centre.run([self._call(*call) for call in calls])
        except Away:
            for leases, _ in calls:
                for lease in leases:
                    lease.lost()
                    if lease.owes():
                        self._syncs[lease] = None
            raise
        self.heard_ns = self._clock.mono_ns()
        for (leases, _), raw in zip(calls, answers, strict=True):
            self._hear(leases, decode(raw))

    def _calls(self) -> list[tuple[list[Lease], list[Any]]]:
        """All that there is to say now."""
        waiting, self._waiting = self._waiting, {}
        syncs, self._syncs = self._syncs, {}
        calls: list[tuple[list[Lease], list[Any]]] = []
        if self._beat:
            self._beat = False
            calls.append(([], []))
        all_of: dict[Lease, list[Ask]] = {}
        for leases, ask in waiting.values():
            for lease in leases:
                all_of.setdefault(lease, []).append(ask)
        chosen: set[Lease] = set()
        for leases, ask in waiting.values():
            lacking = [lease for lease in leases if not lease.fits(ask)]
            if lacking and chosen.isdisjoint(lacking):
                chosen.update(lacking)
                lines = [self._line(lease, ask, all_of[lease], lease.wanted()) for lease in lacking]
                calls.append((lacking, lines))
        rest = [lease for lease in syncs if lease not in chosen]
        for start in range(0, len(rest), TOGETHER):
            some = rest[start : start + TOGETHER]
            calls.append((some, [self._return(lease) for lease in some]))
        return calls

    def _return(self, lease: Lease) -> list[Any]:
        """Keep what is likely to be used, give up the rest, or ask for more ahead of need."""
        wanted = lease.wanted()
        if lease.tight or self._surplus(lease):
            lease.give_up(wanted)
        return self._line(lease, None, [], wanted)

    def _line(self, lease: Lease, ask: Ask | None, waiting: list[Ask], ahead: int) -> list[Any]:
        self._number += 1
        return lease.line(ask, waiting, ahead, self._number, self._time, self._epoch)

    def _call(self, leases: Iterable[Lease], lines: list[Any]) -> tuple[list[str], bytes]:
        names = self._names
        keys = [names.house, names.alive]
        for lease in leases:
            keys += (lease.scope, names.holders(lease.scope))
        time = self._time
        told = [
            self._holder, self._epoch, time.estimate(), time.drift, self._fresh, int(self._known), names.recall, lines,
        ]  # fmt: skip
        self._metrics.leases += len(lines)
        return keys, encode(told)

    def _hear(self, leases: list[Lease], answer: Answer) -> None:
        self._time.hear(answer.now, answer.drift)
        self.workers = max(1, answer.alive)
        self._metrics.workers = self.workers
        if answer.again or answer.epoch != self._epoch:
            self._join(answer)
        self._known = True
        if answer.again:
            for lease in leases:
                lease.lost()
            return
        now = self._clock.mono_ns()
        for lease, told in zip(leases, answer.scopes, strict=True):
            lease.take(told, self._time, now, self._epoch)
            if lease.tight and lease.holds():
                self._loop.call_later(SOON_S, self._give_back, lease)

    def _join(self, answer: Answer) -> None:
        """The centre does not know us, or has lost what it knew: what every lease holds and saw is said once more."""
        if self._epoch and answer.epoch != self._epoch:
            self._metrics.lost += 1
            _log.error("limits_state_lost")
        if answer.epoch == self._fresh:
            self._fresh = new_id("epo")  # the next one must be told from this one
        self._epoch = answer.epoch
        for lease in self._lanes.leases.values():
            if lease.joined:
                lease.joined = False
                self._syncs[lease] = None

    def _give_back(self, lease: Lease) -> None:
        if lease.tight and not lease.busy and lease.holds():
            self._syncs[lease] = None
            self._kick()

    def calm(self) -> None:
        """See `FleetCounters.calm`."""
        for lease in self._lanes.leases.values():
            if lease.owes() or lease.holds():
                lease.tight = True
                self._syncs[lease] = None
        self._kick()

    def talking(self) -> bool:
        """See `FleetCounters.talking`."""
        busy = self._kicked or (self._runs is not None and not self._runs.done())
        return self._centre.up and (busy or bool(self._syncs or self._waiting or self._beat))

    def leave(self) -> None:
        """Say the last word over a connection of its own; blocks for a second at most."""
        leases = [lease for lease in self._lanes.leases.values() if lease.owes() or lease.holds() or lease.in_use()]
        if not self._centre.up:
            return
        for lease in leases:
            lease.tight = True
        lines = [self._return(lease) for lease in leases]
        text, _ = script("lease")
        with suppress(RedisError, OSError), self._centre.blocking() as client:
            for start in range(0, len(leases), TOGETHER):
                keys, told = self._call(leases[start : start + TOGETHER], lines[start : start + TOGETHER])
                client.eval(text, len(keys), *keys, told)
            client.hdel(self._names.alive, self._holder)
