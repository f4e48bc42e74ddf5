# SPDX-License-Identifier: Apache-2.0
"""One counters file as one process uses it: the mapping, the arithmetic over it, what it owes and what it gathers.

In: slots, settlements. Out: regions ready for use, sums written under their locks.
"""

from beffroi.core.errors import CountersUnavailable
from beffroi.core.kernel import lockf
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.arrears import Arrears
from beffroi.gateway.quota.layout import WORD
from beffroi.gateway.quota.memory import LOCK, UNLOCK, CounterFile
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import Busy, Plan, Ticket, plan_of
from beffroi.gateway.quota.timebase import Timebase
from beffroi.gateway.quota.windows import WINDOWS, limits_of

PATIENCE = 0.020
Settled = tuple[Plan, Ticket, int, int, int]  # tokens, output, cost


class Ground:
    """One file of one process; `worker` below 0 only looks and charges."""

    def __init__(self, file: CounterFile, time: Timebase, worker: int) -> None:
        self.file = file
        self.table = Table(file.words, file.buffer, time)
        self.arrears = Arrears(file, self.table, worker)
        self.settled: dict[int, list[Settled]] = {}  # by slot, of this turn of the loop
        self._worker = worker
        self._prepared: set[int] = set()

    def remap(self) -> None:
        """Map all of the file as it is now."""
        self.file.remap()
        self.table.words, self.table.buffer = self.file.words, self.file.buffer

    def cover(self, slot: int) -> None:
        """Map far enough for a slot; the file grows if need be."""
        if slot >= self.file.slots:
            self.file.cover(slot)
            self.table.words, self.table.buffer = self.file.words, self.file.buffer

    def known(self, slot: int) -> int | None:
        """The region of a slot that has ever been used; maps what others have grown."""
        if not self.file.reaches(slot):
            return None
        self.cover(slot)
        base = layout.region_of(slot)
        return base if self.table.words[base + layout.READY] else None

    def prepare(self, slot: int) -> int:
        """Map, allocate and mark a slot's region."""
        self.cover(slot)
        base = layout.region_of(slot)
        if not self.table.words[base + layout.READY]:
            self.file.allocate_region(slot)
            self.table.words[base + layout.READY] = 1
        return base

    def plan(self, account: Account, slot: int, place: tuple[int, int] = (0, 0)) -> Plan:
        """The plan of an account whose counters lie in `slot`, with disk space for all that it will write."""
        base = self.prepare(slot)
        block = slot // layout.BLOCK
        if block not in self._prepared:
            self.file.allocate_columns(block, self._worker)
            self._prepared.add(block)
        plan = plan_of(account, self.table, base, layout.column_of(slot, self._worker), slot, self.file, place)
        if any(
            limit is not None and window.bit for window, limit in zip(WINDOWS, limits_of(account.limits), strict=True)
        ):
            self.file.allocate_extended(slot)
        return plan

    def unlimited(self, account: Account) -> Plan:
        """The plan of an account that has no limit: it has no counters."""
        return plan_of(account, self.table, 0, 0)

    def write_back(self) -> None:
        """Write the settlements that were gathered, one lock per slot."""
        settled, self.settled = self.settled, {}
        fd, table = self.file.fd, self.table
        for slot, entries in settled.items():
            at = entries[0][0].at
            try:
                try:
                    lockf(fd, LOCK, 1, at)
                except OSError:
                    self.file.wait(at)
            except (Busy, CountersUnavailable):
                for _, ticket, tokens, output, cost in entries:
                    self.arrears.add(slot, ticket, tokens, output, cost)
                continue
            try:
                for plan, ticket, tokens, output, cost in entries:
                    table.give(plan, ticket, tokens, output, cost)
            finally:
                lockf(fd, UNLOCK, 1, at)

    def blank(self, slot: int) -> None:
        """Make a region as new; its slot's lock is held."""
        base, words = layout.region_of(slot), self.table.words
        for start, end, step in layout.columns_at(base):
            for word in range(start, end, step):
                if words[word]:  # a column nobody used has no disk space yet
                    words[word] = 0
        for word in range(base, base + layout.PAGE_WORDS):
            if word != base + layout.READY:
                words[word] = 0

    def lock(self, slot: int) -> int:
        """Byte of a slot's lock."""
        return layout.region_of(slot) * WORD

    def close(self) -> None:
        """Write what is owed and unmap."""
        self.write_back()
        self.arrears.pay(0.0)
        self.file.close()
