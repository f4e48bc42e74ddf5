# SPDX-License-Identifier: Apache-2.0
"""What the suite of the counters asks of a backend under test, and the backends there are.

In: a directory. Out: workers and books over one set of counters. A new backend adds a class here and its name to BACKENDS.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import ONLOOKER, Ask, Busy, MappedCounters
from beffroi.gateway.quota.port import Books, Counters, Held
from tests.gateway.quota.support import HandClock

WORKERS = 4
TRIES = 2000


class Backend(Protocol):
    """Counters under test. Everything it made is gone after `close`."""

    def worker(self, number: int) -> Counters:
        """One of four workers; the same object each time, until it is killed."""
        ...

    def books(self) -> Books:
        """Control's view."""
        ...

    def know(self, *quotas: QuotaRecord) -> None:
        """Tell every worker all the quotas there are."""
        ...

    def pass_(self, seconds: float) -> None:
        """Time goes by, for all."""
        ...

    def set_wall(self, seconds: float) -> None:
        """The wall clock of all is set forward (or back) and the monotonic one is not."""
        ...

    def turn(self) -> None:
        """Let what is under way in the background happen; called between two tries."""
        ...

    def rest(self) -> None:
        """Wait until nothing is owed and no worker keeps more than it uses."""
        ...

    def kill(self, number: int) -> None:
        """A worker dies with all it held; its successor has started, and what was held for the dead has run out."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Mapped:
    """The memory-mapped file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "counters.bin"
        self.clock = HandClock()
        self._workers: dict[int, MappedCounters] = {}
        self._books: MappedCounters | None = None
        self._quotas: tuple[QuotaRecord, ...] = ()

    def worker(self, number: int) -> MappedCounters:
        """See `Backend`."""
        if number not in self._workers:
            made = self._workers[number] = MappedCounters(self.path, worker=number, workers=WORKERS, clock=self.clock)
            made.reset_worker(number)
            made.know(self._quotas)
        return self._workers[number]

    def books(self) -> MappedCounters:
        """See `Backend`."""
        if self._books is None:
            self._books = MappedCounters(self.path, worker=ONLOOKER, workers=WORKERS, clock=self.clock)
        return self._books

    def know(self, *quotas: QuotaRecord) -> None:
        """See `Backend`."""
        self._quotas = quotas
        for each in self._workers.values():
            each.know(quotas)

    def pass_(self, seconds: float) -> None:
        """See `Backend`."""
        self.clock.pass_(seconds * 1e9)

    def set_wall(self, seconds: float) -> None:
        """See `Backend`."""
        self.clock.wall += int(seconds * 1e9)

    def turn(self) -> None:
        """Nothing is in the background."""

    def rest(self) -> None:
        """See `Backend`."""
        for each in self._workers.values():
            assert each.pay() == 0

    def kill(self, number: int) -> None:
        """See `Backend`: its mapping is left as it is."""
        self._workers.pop(number)
        self.worker(number)
        self.pass_(5.0)

    def close(self) -> None:
        """See `Backend`."""
        for each in (*self._workers.values(), *([self._books] if self._books else [])):
            each.close()


BACKENDS: dict[str, Callable[[Path], Backend]] = {"mapped file": Mapped}


def key(slot: int = 0, *, organisation: str = "acme", project: str = "lab", **limits: object) -> KeyRecord:
    """A key with these limits of its own."""
    return KeyRecord(
        f"key_{slot}", f"public{slot}", b"", 1, slot, organisation, project, limits=Limits(**limits)  # type: ignore[arg-type]
    )  # fmt: skip


def take(
    backend: Backend, worker: int, record: KeyRecord, model: str = "m", user: str | None = None, ask: Ask | None = None
) -> Held:
    """Reserve as admit does: again while it is `Busy`."""
    for _ in range(TRIES):
        try:
            return backend.worker(worker).reserve(record, model, user, ask or Ask(0, 0, 0, 0))
        except Busy:
            backend.turn()
    raise AssertionError("busy for ever")


def admitted(
    backend: Backend, tries: int, *records: KeyRecord, ask: Ask | None = None, user: str | None = None
) -> list[tuple[int, Held]]:
    """What all workers, taking turns, get of so many tries, with the number of the worker."""
    got = []
    for each in range(tries):
        try:
            got.append((each % WORKERS, take(backend, each % WORKERS, records[each % len(records)], "m", user, ask)))
        except LimitExceeded:
            continue
    return got
