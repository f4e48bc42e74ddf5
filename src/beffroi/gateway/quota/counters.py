# SPDX-License-Identifier: Apache-2.0
"""Admit and settle against counters that all processes of this machine share, exactly.

In: keys, what requests ask and use. Out: tickets, refusals, and what each limit shows now.
Each operation holds one record lock on the key's slot for a few microseconds. No lease: the last unit of a limit can be
taken by any worker, and what a settlement returns can be taken by any worker at once (docs/adr/0002-exact-counters.md).
"""

from collections.abc import Callable
from fcntl import lockf
from pathlib import Path

from beffroi.core.clock import Clock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import KeyRecord
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.arrears import Arrears
from beffroi.gateway.quota.calendar import KINDS, Calendar
from beffroi.gateway.quota.layout import SPENT, WORD
from beffroi.gateway.quota.local import LocalLimits
from beffroi.gateway.quota.memory import LOCK, UNLOCK, CounterFile, boot_identity
from beffroi.gateway.quota.standing import spent_of, usage_of
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import (
    MONEY_CAP,
    NO_TICKET,
    TOKEN_CAP,
    Ask,
    Busy,
    LimitUse,
    Plan,
    Spent,
    Ticket,
    Used,
    limited,
    plan_of,
)
from beffroi.gateway.quota.timebase import Timebase

ONLOOKER = -1
PATIENCE = 0.020
PLANS = 1 << 16
PAY_EVERY_NS = 10_000_000


class MappedCounters:
    """The counters of one process.

    Args:
        path: the file, made if it is not there.
        worker: this worker's number, 0 to 63; `ONLOOKER` for control, which charges and looks but admits nothing.
        workers: how many workers there are.
        clock: wall and monotonic time.
        zone: time zone of the money periods.
        boot: identity of this boot of the machine; None: the system's.

    Raises:
        CountersUnavailable: the file cannot be used.
        ValueError: an unknown zone, or a worker number out of range.
    """

    def __init__(
        self,
        path: Path,
        *,
        worker: int,
        workers: int,
        clock: Clock,
        zone: str = "Europe/Paris",
        boot: tuple[int, int] | None = None,
    ) -> None:
        if not ONLOOKER <= worker < layout.WORKERS or not 1 <= workers <= layout.WORKERS:
            raise ValueError(f"worker {worker} of {workers}: there can be {layout.WORKERS} at most")
        calendar = Calendar(zone)
        self._file = CounterFile(path, clock, boot_identity() if boot is None else boot)
        self._time = Timebase(self._file.header, clock, calendar)
        self._table = Table(self._file.words, self._file.buffer, self._time)
        self._worker = worker
        self._workers = workers
        self._fd = self._file.fd
        self._plans: dict[int, Plan] = {}
        self._prepared: set[int] = set()
        self._arrears = Arrears(self._file, self._table, worker)
        self._settled: dict[int, list[tuple[Plan, Ticket, int, int, int]]] = {}  # by slot, of this turn of the loop
        self._gathers = False
        self._pay_at = 0
        self._local = LocalLimits(self._time, workers)
        if worker >= 0:
            self._file.header[layout.SEEN + worker] = 1

    def reserve(self, key: KeyRecord, ask: Ask) -> Ticket:
        """Admit a request under every limit of its key, or under none.

        Raises:
            LimitExceeded, BudgetExceeded: `limit` names it, `retry_after` says when a retry can succeed.
            Busy: another process has held the key's lock for 50 µs.
            CountersUnavailable: the file cannot be used.
        """
        plan = self._plans.get(key.slot)
        if plan is None or plan.key is not key:
            plan = self._plan(key)
        if not plan.limited:
            return NO_TICKET
        if not 0 <= ask.tokens | ask.output <= TOKEN_CAP or not 0 <= ask.bound | ask.estimate <= MONEY_CAP:
            ask = _capped(ask)
        if self._arrears:
            self._pay_some()
        fd, at = self._fd, plan.at
        try:
            lockf(fd, LOCK, 1, at)
        except OSError:
            self._file.wait(at)
        try:
            return self._table.take(plan, ask)
        finally:
            lockf(fd, UNLOCK, 1, at)

    def settle(self, ticket: Ticket, used: Used) -> None:
        """Put what was used in the place of what was held; a ticket already settled is left alone. Never raises.

        What cannot be written because the lock is held is kept, added up per key, and written at the next chance.
        """
        plan = ticket.plan
        if not ticket.open or plan is None:
            return
        ticket.open = False
        tokens, output, cost = used.tokens, used.output, used.cost
        if not 0 <= tokens | output <= TOKEN_CAP or not 0 <= cost <= MONEY_CAP:
            tokens, output, cost = _cap(tokens, TOKEN_CAP), _cap(output, TOKEN_CAP), _cap(cost, MONEY_CAP)
        if ticket.local:
            self._local.settle(plan, ticket, tokens, output)
            if self._known(plan.key.slot):
                self._arrears.add_local(plan.key.slot, tokens, output, cost)
            return
        self._settled.setdefault(plan.key.slot, []).append((plan, ticket, tokens, output, cost))
        if not self._gathers:
            self.write_back()

    def gather(self) -> Callable[[], None]:
        """From now on write the settlements of one turn of a loop together, one lock per key.

        Whoever asks for this calls what it returns at the end of each turn, before anybody can hear of a settlement.
        """
        self._gathers = True
        return self.write_back

    def write_back(self) -> None:
        """Write the settlements that were gathered."""
        if not self._settled:
            return
        settled, self._settled = self._settled, {}
        fd = self._fd
        for slot, entries in settled.items():
            at = entries[0][0].at
            try:
                try:
                    lockf(fd, LOCK, 1, at)
                except OSError:
                    self._file.wait(at)
            except (Busy, CountersUnavailable):
                for _, ticket, tokens, output, cost in entries:
                    self._arrears.add(slot, ticket, tokens, output, cost)
                continue
            try:
                for plan, ticket, tokens, output, cost in entries:
                    self._table.give(plan, ticket, tokens, output, cost)
            finally:
                lockf(fd, UNLOCK, 1, at)

    def reserve_alone(self, key: KeyRecord, ask: Ask) -> Ticket:
        """The failure matrix, for a key whose lock stayed held for 20 ms: this process decides with its own share.

        Rates and concurrency are open at limit ÷ workers (at least one), a soft budget is open, a hard one closed.
        What is used reaches the shared counters when they can be reached again.

        Raises:
            CountersUnavailable: the key has a hard budget.
            LimitExceeded: this process's share is used up.
        """
        return self._local.reserve(key, ask)

    def pay(self) -> int:
        """Write what settlements had to keep back; how many keys still wait. A timer of the worker calls it."""
        self._arrears.pay(0.0)
        return len(self._arrears)

    def reset_worker(self, worker: int) -> None:
        """At a worker's start: give back what its dead predecessor held.

        Concurrency is free at once. Money stays held for five seconds, in which control charges what the orphans cost
        (`charge`); then it is free too. Worker 0 also clears the columns of workers that no longer exist.
        """
        self._file.remap()
        self._table.words, self._table.buffer = self._file.words, self._file.buffer
        self._arrears.find_orphans(worker)
        if worker == 0:
            seen = self._file.header
            for gone in range(self._workers, layout.WORKERS):
                if seen[layout.SEEN + gone]:
                    self._arrears.find_orphans(gone)
                    seen[layout.SEEN + gone] = 0
        self._arrears.pay(PATIENCE)  # where a frozen process holds a lock, the next `pay` tries again

    def charge(self, slot: int, nano: int, *, at_ns: int | None = None) -> None:
        """Add a cost that no ticket covers (an orphan billed after a crash) to what a key has spent.

        Args:
            at_ns: Unix nanoseconds of the request; one before the current period changes nothing.

        Raises:
            Busy: the lock stayed held for 20 ms; charge again later.
        """
        if not self._known(slot):
            return
        base = layout.region_of(slot)
        with self._file.held(base * WORD, PATIENCE):
            tick = self._table.advance(base, self._table.kind(base), self._time.tick())
            if at_ns is None or at_ns >= self._time.period(self._table.kind(base), tick).start_ns:
                self._table.words[base + SPENT] += _cap(nano, MONEY_CAP)

    def restore(self, key: KeyRecord, nano: int) -> None:
        """Raise what a key has spent in its current period to the ledger's sum (a new budget, a lost file).

        Raises:
            Busy: as `charge`.
        """
        base, kind = self._prepare(key.slot), KINDS[key.limits.budget_period]
        with self._file.held(base * WORD, PATIENCE):
            tick = self._table.advance(base, kind, self._time.tick())
            self._table.turn(base, kind, tick)
            if self._table.words[base + SPENT] < nano:
                self._table.words[base + SPENT] = _cap(nano, MONEY_CAP << 8)

    def clear(self, slot: int) -> None:
        """Make a slot as new, before control gives it to a key for the first time.

        Raises:
            Busy: as `charge`.
        """
        self._plans.pop(slot, None)
        if not self._known(slot):
            return
        base = layout.region_of(slot)
        words = self._table.words
        with self._file.held(base * WORD, PATIENCE):
            for start, end, step in layout.columns_at(base):
                for word in range(start, end, step):
                    if words[word]:  # a column nobody used has no disk space yet
                        words[word] = 0
            for word in range(base, base + layout.PAGE_WORDS):
                if word != base + layout.READY:
                    words[word] = 0

    def spent(self, key: KeyRecord) -> Spent:
        """A key's money in the current period. Reads only, waits for nobody."""
        return spent_of(self._table, key, self._known(key.slot))

    def usage(self, key: KeyRecord) -> tuple[LimitUse, ...]:
        """Every limit that a key has, as it stands now. Reads only, waits for nobody."""
        return usage_of(self._table, key, self._known(key.slot))

    def flush(self) -> None:
        """Write changed pages to the disk; blocks, so control calls it off its loop."""
        self._file.flush()

    def close(self) -> None:
        """Write what is owed and unmap."""
        self.write_back()
        self.pay()
        self._file.close()

    def _plan(self, key: KeyRecord) -> Plan:
        slot = key.slot
        if len(self._plans) >= PLANS:
            self._plans.clear()
        if not limited(key.limits):
            plan = Plan(key, False, (0,) * 9, 0, 0)
        elif self._worker == ONLOOKER:
            raise ValueError("an onlooker admits nothing")
        else:
            base = self._prepare(slot)
            block = slot // layout.BLOCK
            if block not in self._prepared:
                self._file.allocate_columns(block, self._worker)
                self._prepared.add(block)
            plan = plan_of(key, base, layout.column_of(slot, self._worker))
        self._plans[slot] = plan
        return plan

    def _prepare(self, slot: int) -> int:
        """Map, allocate and mark a slot's region."""
        self._cover(slot)
        base = layout.region_of(slot)
        if not self._table.words[base + layout.READY]:
            self._file.allocate_region(slot)
            self._table.words[base + layout.READY] = 1
        return base

    def _cover(self, slot: int) -> None:
        self._file.cover(slot)
        self._table.words, self._table.buffer = self._file.words, self._file.buffer

    def _known(self, slot: int) -> bool:
        """Whether a slot has ever been used; maps what others have grown."""
        if not self._file.reaches(slot):
            return False
        self._cover(slot)
        return bool(self._table.words[layout.region_of(slot) + layout.READY])

    def _pay_some(self) -> None:
        now = self._time.mono()
        if now >= self._pay_at:
            self._pay_at = now + PAY_EVERY_NS
            self._arrears.pay(0.0)


def _cap(value: int, cap: int) -> int:
    return min(max(value, 0), cap)


def _capped(ask: Ask) -> Ask:
    """A count or a price beyond reason; a hard budget is smaller than the cap, so it refuses what was capped."""
    return Ask(
        tokens=_cap(ask.tokens, TOKEN_CAP),
        output=_cap(ask.output, TOKEN_CAP),
        bound=_cap(ask.bound, MONEY_CAP),
        estimate=_cap(ask.estimate, MONEY_CAP),
    )
