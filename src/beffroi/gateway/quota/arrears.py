# SPDX-License-Identifier: Apache-2.0
"""What still has to be written: settlements that met a held lock, and what dead workers held.

In: amounts owed per slot, columns of the dead. Out: the same, in the shared words, as soon as the slot's lock is free.
Bounded: amounts are added up per slot, not listed.
"""

from contextlib import suppress

from beffroi.core.errors import CountersUnavailable
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.layout import (
    BOUND,
    ESTIMATE,
    MONTH_SPENT,
    ORPHAN_BOUND,
    ORPHAN_ESTIMATE,
    ORPHAN_UNTIL,
    OUTPUT,
    REQUESTS,
    RUNNING,
    SPENT,
    TICK_NS,
    TOKENS,
    WORD,
)
from beffroi.gateway.quota.memory import CounterFile
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import Busy, Owed, Ticket

ORPHAN_TICKS = 5_000_000_000 // TICK_NS


class Arrears:
    """One process's arrears."""

    def __init__(self, file: CounterFile, table: Table, worker: int) -> None:
        self._file = file
        self._table = table
        self._worker = worker
        self._owed: dict[int, Owed] = {}
        self._orphans: dict[tuple[int, int], Owed] = {}

    def __len__(self) -> int:
        return len(self._owed) + len(self._orphans)

    def add(self, slot: int, ticket: Ticket, tokens: int, output: int, cost: int) -> None:
        """A settlement that met a held lock."""
        owed = self._of(slot)
        owed.bound += ticket.bound
        owed.estimate += ticket.estimate
        owed.running += 1
        owed.cost += cost
        # What was estimated too high stays in the windows until it slides out.
        owed.tokens += max(0, tokens - ticket.tokens)
        owed.output += max(0, output - ticket.output)

    def add_local(self, slot: int, tokens: int, output: int, cost: int) -> None:
        """A request that this process admitted alone: the shared windows have not seen it yet."""
        owed = self._of(slot)
        owed.requests += 1
        owed.tokens += tokens
        owed.output += output
        owed.cost += cost

    def pay(self, patience: float) -> None:
        """Write what can be written; waits up to `patience` seconds for each lock."""
        for slot in tuple(self._owed):
            with suppress(Busy, CountersUnavailable):
                self._pay(slot, self._owed[slot], patience)
                del self._owed[slot]
        for (worker, slot), dead in tuple(self._orphans.items()):
            with suppress(Busy, CountersUnavailable):
                self._bury(worker, slot, dead, patience)
                del self._orphans[worker, slot]

    def find_orphans(self, worker: int) -> None:
        """Note everything in a dead worker's columns; its successor must not have reserved anything yet."""
        words = self._table.words
        for block in self._file.used_blocks():
            start = layout.block_start(block) + worker * layout.WORKER_WORDS
            cells = words[start : start + layout.WORKER_WORDS].tolist()
            if not any(cells):
                continue
            for index in range(layout.BLOCK):
                bound, estimate, running, _ = cells[index * layout.COLUMN_WORDS : (index + 1) * layout.COLUMN_WORDS]
                if bound or estimate or running:
                    self._orphans[worker, block * layout.BLOCK + index] = Owed(bound, estimate, running)

    def _of(self, slot: int) -> Owed:
        owed = self._owed.get(slot)
        if owed is None:
            owed = self._owed[slot] = Owed()
        return owed

    def _pay(self, slot: int, owed: Owed, patience: float) -> None:
        base, column = layout.region_of(slot), layout.column_of(slot, self._worker)
        with self._file.held(base * WORD, patience):
            self._table.advance(base, self._table.kind(base), self._table.time.tick())
            words = self._table.words
            for field, value in (
                (SPENT, owed.cost),
                (MONTH_SPENT, owed.cost),
                (REQUESTS, owed.requests),
                (TOKENS, owed.tokens),
                (OUTPUT, owed.output),
                (BOUND, -owed.bound),
                (ESTIMATE, -owed.estimate),
                (RUNNING, -owed.running),
            ):
                words[base + field] += value
            for field, value in enumerate((owed.bound, owed.estimate, owed.running)):
                if value:
                    words[column + field] -= value

    def _bury(self, worker: int, slot: int, dead: Owed, patience: float) -> None:
        """Move what a dead worker held for a slot out of its column: money to the orphans, the rest to nobody."""
        base, column = layout.region_of(slot), layout.column_of(slot, worker)
        with self._file.held(base * WORD, patience):
            tick = self._table.advance(base, self._table.kind(base), self._table.time.tick())
            words = self._table.words
            if dead.bound or dead.estimate:
                words[base + ORPHAN_BOUND] += dead.bound
                words[base + ORPHAN_ESTIMATE] += dead.estimate
                words[base + ORPHAN_UNTIL] = tick + ORPHAN_TICKS
            for field, value in enumerate((dead.bound, dead.estimate, dead.running)):
                words[column + field] -= value
            self._table.sum_up(base)
