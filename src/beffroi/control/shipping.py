# SPDX-License-Identifier: Apache-2.0
"""Shipping: takes the journal of all workers into the ledger, exactly once, and settles what the dead left open.

In: segments under the journal directory. Out: rows and new places in one SQL transaction; segments deleted once shipped.
Runs in a thread of its own and may be killed anywhere: what is not committed is read again, what is committed is not.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control import segments as files
from beffroi.control.events import record as record_event
from beffroi.control.gather import Gatherer, Haul
from beffroi.control.places import Place, forget_places, load_open, load_places
from beffroi.control.rows import Key, Open, Recovered
from beffroi.control.segments import Found
from beffroi.control.uses import Uses
from beffroi.control.writing import writer
from beffroi.core.clock import Clock, SystemClock
from beffroi.store.engine import reading
from beffroi.telemetry import logs

log = logs.Logger("control.shipping")
# Seconds between looks. A transaction costs about a millisecond of CPU however little is in it, so looking more often
# would only spend more; whoever needs the ledger to be current now asks for it (`caught_up`).
_BUSY, _IDLE, _FAILED = 0.2, 0.5, 1.0
_ROLL_CALL = 1.0  # seconds between looks for dead writers
_PATIENCE = 5.0  # seconds after which a record that does not read on is reported, its writer living or not


class Progress(msgspec.Struct, frozen=True):
    """How shipping stands.

    Attributes:
        lag_bytes: read from the journal and not yet committed; 0 once a look has taken in everything.
        lag_seconds: since the start of the last look that took in everything.
        records: shipped since this process started.
        fault: why shipping does not get on; empty: it does.
    """

    lag_bytes: int
    lag_seconds: float
    records: int
    fault: str


class Shipper:
    """One per control process.

    Args:
        engine: the ledger's database, its schema up to date.
        directory: the journal directory.
        replica: whose it is, where several ship into one database: nobody touches what another has open.
        charge: told of each orphan that was closed, after its row is committed (at most once: a crash between the two
            leaves the counters of its key a little low, never the ledger).
        settled: told of each batch of rows of `exchanges`, after they are committed.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        *,
        replica: str = "",
        charge: Callable[[Recovered], None] | None = None,
        settled: Callable[[list[tuple[Any, ...]]], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._charge = charge
        self._settled = settled
        self._clock = clock or SystemClock()
        self._uses = Uses(engine)
        self._replica = replica
        self._writer = writer(engine, replica)
        self._loaded = False
        self._places: dict[str, Place] = {}
        self._open: dict[Key, Open] = {}
        self._dead: set[str] = set()
        self._roll_called = 0.0
        self._suspected: dict[str, tuple[int, float]] = {}
        self._gone: list[str] = []  # places whose files were deleted
        self._records = 0
        self._behind = 0
        self._fault = ""
        self._looks = 0
        self._complete = 0  # the newest look that took in everything
        self._complete_at = time.monotonic()
        self._wake = threading.Event()
        self._still = threading.Lock()  # held through each look
        self._stop = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ship from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="shipping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """One last look, then end the thread. Blocks."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def living(self, worker: int, boot: str) -> None:
        """Boot `boot` has started in slot `worker`, so its predecessor there is dead: look for the dead now."""
        log.debug("roll call", worker=worker, boot=boot)
        self._roll_called = 0.0
        self._wake.set()

    def progress(self) -> Progress:
        """For `/metrics` and `/readyz`."""
        fault = self._fault
        if not fault and self._thread is not None and not self._thread.is_alive() and not self._stop:
            fault = "the shipping thread has ended"
        return Progress(self._behind, time.monotonic() - self._complete_at, self._records, fault)

    @property
    def complete_at(self) -> float | None:
        """When the last look that took in everything began (`time.monotonic()`); None: there was none yet."""
        return self._complete_at if self._complete else None

    @contextmanager
    def still(self) -> Iterator[None]:
        """For as long as this lasts no row is shipped, no place moves and no segment goes; waits for the look in progress."""
        with self._still:
            yield

    async def caught_up(self, timeout: float = 30.0) -> None:
        """Return once everything written before this call is in the ledger.

        Raises:
            TimeoutError: it is not within `timeout` seconds.
        """
        asked = self._looks
        async with asyncio.timeout(timeout):
            while self._complete <= asked:
                self._wake.set()
                await asyncio.sleep(0.02)

    def _run(self) -> None:
        while not self._stop:
            pause = self._try()
            self._wake.wait(pause)
            self._wake.clear()
        self._try()

    def _try(self) -> float:
        try:
            with self._still:
                return _BUSY if self.step() else _IDLE
        except (SQLAlchemyError, OSError) as error:
            self._fault = f"{type(error).__name__}: {error}".splitlines()[0]
            log.error("shipping failed, it will be tried again", reason=self._fault)
            self._loaded = False  # what was committed is for the database to say
            self._uses.forget()
            return _FAILED

    def step(self) -> int:
        """Take in all that is there now; how many records it was. For tests and for the thread.

        Raises:
            SQLAlchemyError, OSError: nothing was lost; the next step reads it again.
        """
        self._looks += 1
        look, begun, shipped = self._looks, time.monotonic(), 0
        self._load()
        gatherer = Gatherer(self._places, self._open)
        while True:
            self._call_roll()
            boots = files.find(self._directory)
            haul = gatherer.gather(boots, self._dead.__contains__)
            if haul:
                self._behind = haul.bytes
                self._commit(haul)
                shipped += haul.records
            if not haul.more:
                break
        self._delete(found for segments in boots.values() for found in segments)
        self._fault = self._suspicion(gatherer.suspects)
        self._behind = 0
        self._complete, self._complete_at = look, begun
        return shipped

    def _load(self) -> None:
        if not self._loaded:
            with reading(self._engine) as connection:
                self._open = load_open(connection, self._replica)
                self._places = load_places(connection, self._replica)
            self._loaded = True

    def _call_roll(self) -> None:
        """Find out who is dead. Their segments are listed only after this, or one that they began last could be missed."""
        now = time.monotonic()
        if now - self._roll_called < _ROLL_CALL:
            return
        self._roll_called = now
        boots = files.find(self._directory)
        self._dead = {boot for boot, found in boots.items() if boot in self._dead or not files.is_alive(found)}

    def _commit(self, haul: Haul) -> None:
        gone, now = self._gone, self._clock.wall_ns()
        with self._engine.begin() as connection:
            duplicates = self._writer.write(connection, haul.batch)
            self._uses.write(connection, haul.batch.settled)
            if haul.places:
                self._writer.save_places(connection, list(haul.places.values()), now)
            if gone:
                forget_places(connection, gone)
            for note in haul.notes:
                record_event(connection, actor="control", action=note.action, subject=note.subject, after=note.detail)
            if duplicates:
                detail = {"settlements": duplicates}
                action = "journal:settlement:duplicate"
                record_event(connection, actor="control", action=action, subject="journal", after=detail)
        self._gone = []
        self._records += haul.records
        self._places.update(haul.places)
        for key in gone:
            self._places.pop(key, None)
        for closed in haul.batch.closed:
            self._open.pop(closed, None)
        self._open.update(haul.batch.opened)
        self._open.update(haul.batch.moved)
        if self._settled is not None:
            self._settled(haul.batch.settled)
        if self._charge is not None:
            for recovered in haul.recovered:
                self._charge(recovered)

    def _delete(self, segments: Iterable[Found]) -> None:
        """Remove the files that are shipped; of their places only the newest of each boot is remembered."""
        newest: dict[str, int] = {}
        for place in self._places.values():
            newest[place.boot] = max(place.segment, newest.get(place.boot, 0))
        for found in segments:
            known = self._places.get(found.key)
            # One that is forgotten was shipped: a power cut brought its file back.
            if known.finished if known else found.number < newest.get(found.boot, 0):
                found.path.unlink(missing_ok=True)
        self._gone = [
            place.key for place in self._places.values() if place.finished and place.segment < newest[place.boot]
        ]

    def _suspicion(self, suspects: dict[str, tuple[int, str]]) -> str:
        now = time.monotonic()
        since = {
            key: self._suspected[key] if self._suspected.get(key, (-1, 0.0))[0] == offset else (offset, now)
            for key, (offset, _) in suspects.items()
        }
        self._suspected = since
        stuck = [key for key, (_, at) in since.items() if now - at > _PATIENCE]
        return "; ".join(f"{key} does not read on at byte {since[key][0]}: {suspects[key][1]}" for key in stuck)
