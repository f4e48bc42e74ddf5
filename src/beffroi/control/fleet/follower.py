# SPDX-License-Identifier: Apache-2.0
"""Follows the list of changes: what anybody changed, on any machine, is on this machine's disk and workers soon after.

In: the database, told when something changed (LISTEN) and asked four times a second all the same. Out: deltas in the key
files and on the bus; this replica's row, which says what all of its workers hold; whether every replica holds a change.
An act of this machine has told its own workers already: what is found unchanged then costs a look.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from beffroi.control.bus import Bus
from beffroi.control.fleet import replicas
from beffroi.control.fleet.replicas import Replica
from beffroi.control.fleet.table import Known, everything, newest, prune, since
from beffroi.control.snapshots import KeyFiles
from beffroi.core.snapshot import KeyDelta, KeyRecord
from beffroi.store.engine import glancing, reading
from beffroi.store.vault import Vault, VaultError
from beffroi.telemetry import logs

log = logs.Logger("control.fleet")
POLL = 0.25  # seconds between two looks when nothing is heard
BEAT = 2.0  # seconds after which a replica says that it is there, whatever changes
GATHER = 0.02  # seconds between two looks when one change follows the other
HOLD = 5.0  # seconds that workers get to take a change before the next look
KEEP = 100_000  # changes kept for those who were away
PRUNE = 300.0
FRESH = 0.01  # seconds for which the rows of the others are shown again to the next who waits
T = TypeVar("T")
Turn = Callable[[], AbstractAsyncContextManager[Any]]


class Follower:
    """One per control process. All methods run on the loop.

    Args:
        acts: the one thread in which keys change; reads: threads that wait for the database.
        turn: held while the files change, as every act holds it.
        vault: of a fleet; None: one machine with its SQLite, which nobody else waits for.
        place: the number of the newest change that `files` have; 0: not known.
        enter: makes this replica's row anew, should somebody have struck it off.
        trusted: seconds for which a replica that is silent may still serve.
    """

    def __init__(
        self,
        engine: Engine,
        files: KeyFiles,
        bus: Bus,
        *,
        acts: Executor,
        reads: Executor,
        turn: Turn,
        place: int,
        vault: Vault | None = None,
        replica: str = "",
        trusted: float = 0.0,
        enter: Callable[[Connection], None] = lambda _connection: None,
    ) -> None:
        self._engine = engine
        self._files = files
        self._bus = bus
        self._acts = acts
        self._reads = reads
        self._turn = turn
        self._vault = vault
        self._replica = replica
        self._trusted = trusted
        self._enter = enter
        self._place = place
        self._held = 0  # the newest change that all workers here hold
        self._told = 0.0
        self._pruned = time.monotonic()
        self._heard = asyncio.Event()
        self._told_of = False  # that something has changed: nobody need ask first
        self._confirmed = asyncio.Event()  # set for a moment: whoever waits then looks
        self._others: tuple[float, list[Replica]] = (0.0, [])
        self._asking = asyncio.Lock()
        self.synced_at: float | None = None  # `time.monotonic()` when this last knew to have everything
        self.fault = ""

    @property
    def place(self) -> int:
        """The number of the newest change that the files have."""
        return self._place

    def hear(self, channel: str) -> None:
        """Something was announced; on the loop."""
        if channel == "beffroi":
            self._heard.set()
        else:
            self._others = (0.0, [])
            self._confirmed.set()
            self._confirmed.clear()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            begun = time.monotonic()
            try:
                await self.step()
                self.fault = ""
            except (SQLAlchemyError, OSError, VaultError) as error:
                fault = f"{type(error).__name__}: {error}".splitlines()[0]
                if fault != self.fault:
                    log.error("changes of keys cannot be followed, it will be tried again", reason=fault)
                self.fault = fault
            self._told_of = False
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), POLL)
                self._told_of = True
                if time.monotonic() - begun < GATHER:  # in a rush of acts one look is for several
                    await asyncio.sleep(GATHER)
            self._heard.clear()

    async def step(self) -> None:
        """One look: take what is new, and say what is held."""
        begun = time.monotonic()
        number = -1 if self._told_of else await self._ask(lambda: self._look(newest))
        if number != self._place:
            async with self._turn():
                delta, number = await asyncio.get_running_loop().run_in_executor(self._acts, self._take)
                if delta is not None:
                    self._bus.send_delta(delta)
                self._place = number
        self.synced_at = begun
        held = self._held
        if self._held != self._place and not await self._bus.hold_keys(self._files.revision, HOLD):
            held = number
        if self._vault is not None and (held != self._held or time.monotonic() - self._told > BEAT):
            await self._report(held)
        self._held = held
        if time.monotonic() - self._pruned > PRUNE:
            self._pruned = time.monotonic()
            await self._ask(lambda: self._write(lambda connection: prune(connection, KEEP)))

    async def _report(self, held: int) -> None:
        try:
            await self._ask(lambda: self._write(lambda connection: replicas.report(connection, self._replica, held)))
        except NoResultFound:
            log.warning("this replica was struck off while it runs; it enters again", replica=self._replica)
            await self._ask(lambda: self._write(self._enter))
        self._told = time.monotonic()

    def _take(self) -> tuple[KeyDelta | None, int]:
        """Bring the files to what the database has. In the thread of acts."""
        with reading(self._engine) as connection:
            known = since(connection, self._place, self._vault) if self._place else everything(connection, self._vault)
        return self._append(known), known.number

    def _append(self, known: Known) -> KeyDelta | None:
        files = self._files
        upsert = [key for key in known.keys if files.keys.get(key.id) != key]
        lost = set(known.lost)
        gone = {each for each in known.gone if each in files.quotas}
        if known.whole:
            lost |= files.keys.keys() - {key.id for key in known.keys}
            gone |= files.quotas.keys() - {quota.id for quota in known.quotas}
        upsert += [_dead(files.keys[each]) for each in lost if each in files.keys and not files.keys[each].revoked]
        quotas = [quota for quota in known.quotas if files.quotas.get(quota.id) != quota]
        closed = None if known.closed == files.closed else known.closed
        peppers = {each: secret for each, secret in (known.peppers or {}).items() if files.peppers.get(each) != secret}
        if not (upsert or gone or quotas or peppers or closed is not None):
            return None
        return files.append(
            upsert=tuple(upsert),
            peppers=peppers,
            quotas=tuple(quotas),
            remove_quotas=tuple(sorted(gone)),
            closed=closed,
        )

    async def everywhere(self, timeout: float) -> tuple[list[Replica], int]:
        """Wait until every replica's workers hold all that is committed now.

        Args:
            timeout: seconds.

        Returns:
            Those that have not said so in time, and how many replicas there are. One that is silent counts for as long as
            its workers may believe their keys without it.
        """
        if self._vault is None:
            return [], 1
        number = await self._ask(lambda: self._look(newest))
        self._heard.set()
        deadline = time.monotonic() + timeout
        while True:
            fleet = await self.fleet()
            behind = [one for one in fleet if one.keys < number]
            left = deadline - time.monotonic()
            if not behind or left <= 0:
                return behind, len(fleet)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._confirmed.wait(), min(left, 0.1))

    async def fleet(self) -> list[Replica]:
        """Every replica that may serve now, this one too."""
        async with self._asking:
            at, found = self._others
            if time.monotonic() - at > FRESH:
                found = await self._ask(lambda: self._look(lambda c: replicas.everybody(c, self._trusted)))
                self._others = (time.monotonic(), found)
            return found

    def _look(self, ask: Callable[[Any], T]) -> T:
        """One statement."""
        with glancing(self._engine) as connection:
            return ask(connection)

    def _write(self, act: Callable[[Any], None]) -> None:
        with self._engine.begin() as connection:
            act(connection)

    async def _ask(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, call)


def _dead(key: KeyRecord) -> KeyRecord:
    return msgspec.structs.replace(key, revoked=True)
