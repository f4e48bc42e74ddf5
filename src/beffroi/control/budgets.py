# SPDX-License-Identifier: Apache-2.0
"""Control's hand on the counters that the workers share: charges orphans, shows what is spent, makes good what was lost.

In: orphans that shipping closed, keys. Out: counters that agree with the ledger; `Spent` of each key that has a budget.
One object for the whole process: record locks belong to a process and end when any of its descriptors of the file closes.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine, func, select

from beffroi.control.rows import Recovered
from beffroi.core.clock import SystemClock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import KeyRecord
from beffroi.gateway.quota.counters import ONLOOKER, MappedCounters
from beffroi.gateway.quota.terms import Busy, LimitUse, Spent
from beffroi.store.engine import reading
from beffroi.store.tables import exchanges as e
from beffroi.telemetry import logs

WAITING = 100_000  # charges kept for keys whose lock is held; the oldest goes first
log = logs.Logger("control.budgets")


class Budgets:
    """The counters as control uses them; any thread may call.

    Args:
        data: the data directory; zone: of the calendar that budgets follow.

    Raises:
        CountersUnavailable: the file cannot be used.
    """

    def __init__(self, data: Path, *, workers: int, zone: str) -> None:
        self._lock = threading.Lock()
        self._counters = MappedCounters(
            data / "counters.bin", worker=ONLOOKER, workers=workers, clock=SystemClock(), zone=zone
        )
        self._waiting: deque[Recovered] = deque(maxlen=WAITING)

    def charge(self, orphan: Recovered) -> None:
        """Add an orphan's cost to what its key has spent; later, if the key's lock is held now."""
        self._waiting.append(orphan)
        self.settle()

    def settle(self) -> None:
        """Charge what waits."""
        with self._lock, suppress(Busy, CountersUnavailable):
            while self._waiting:
                orphan = self._waiting[0]
                self._counters.charge(orphan.key_slot, orphan.cost.total, at_ns=orphan.ended_ns)
                self._waiting.popleft()

    def begin(self, slot: int) -> None:
        """Make the slot of a new key as new, whatever a database that was restored since has left there.

        Raises:
            Busy, CountersUnavailable: it may not be used.
        """
        with self._lock:
            self._counters.clear(slot)

    def spent(self, keys: Iterable[KeyRecord]) -> dict[str, Spent]:
        """By key id, for those that have a budget."""
        with self._lock:
            return {key.id: self._counters.spent(key) for key in keys if _has_budget(key)}

    def usage(self, key: KeyRecord) -> tuple[LimitUse, ...]:
        """Every limit of a key, and what is used of it."""
        with self._lock:
            return self._counters.usage(key)

    def restore(self, engine: Engine, keys: Iterable[KeyRecord]) -> None:
        """Raise what each budget has spent to the ledger's sum: a power cut can take back what the counters last wrote."""
        keys = tuple(keys)
        # Keys that were rotated share a slot: what any of them spent, in or out of use by now, is spent of one budget.
        stands = {key.slot: key for key in keys if _has_budget(key) and not key.revoked}
        since: dict[int, dict[str, int]] = {}  # slots by key, by the start of their period: one query for each start
        with self._lock:
            for key in keys:
                if key.slot in stands:
                    start = self._counters.spent(stands[key.slot]).starts_ns or 0
                    since.setdefault(start, {})[key.id] = key.slot
        cost = e.c.input_nano + e.c.cached_nano + e.c.output_nano + e.c.reasoning_nano
        for start, slots in since.items():
            with reading(engine) as connection:
                query = select(e.c.key_id, func.sum(cost)).where(e.c.ended_ns >= start).group_by(e.c.key_id)
                sums = connection.execute(query).all()
            totals: Counter[int] = Counter()
            for key_id, total in sums:
                if key_id in slots:
                    totals[slots[key_id]] += int(total)
            for slot, total in totals.items():
                self._raise(stands[slot], total)

    def _raise(self, key: KeyRecord, total: int) -> None:
        try:
            with self._lock:
                self._counters.restore(key, total)
        except (Busy, CountersUnavailable) as error:
            log.error("a budget could not be compared with the ledger", key=key.id, reason=str(error))

    @contextmanager
    def still(self) -> Iterator[None]:
        """For as long as this lasts this process holds no lock of the file, so that it may open and close it once more."""
        with self._lock:
            yield

    def flush(self) -> None:
        """Have the changed counters written to the disk; blocks."""
        with self._lock:
            self._counters.flush()

    def close(self) -> None:
        """Charge what can be charged and give the file back."""
        self.settle()
        with self._lock:
            self._counters.close()


def _has_budget(key: KeyRecord) -> bool:
    return key.limits.hard_budget is not None or key.limits.soft_budget is not None
