# SPDX-License-Identifier: Apache-2.0
"""Acts that change what workers know: one at a time, on disk before they are told, acknowledged by every worker.

In: the blocking part of an act. Out: rows committed, a delta in `keys.log`, the push. A crash in between is made good at
the next start, when the files are made to follow the database; what the disk did not take, within a second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, Row

from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus
from beffroi.control.fleet.follower import Follower
from beffroi.control.fleet.replicas import Replica
from beffroi.control.keyring import Pepper, key_record
from beffroi.control.quotas.compiling import records
from beffroi.control.snapshots import KeyFiles
from beffroi.control.tenancy.organisations import closed
from beffroi.control.tenancy.scope import CONTROL, EVERY, Actor, Scope, acting, looking
from beffroi.control.turns import Turns
from beffroi.core.errors import NotAcknowledged
from beffroi.core.snapshot import KeyDelta, KeyRecord, QuotaRecord
from beffroi.gateway.quota.terms import has_money
from beffroi.store.engine import reading
from beffroi.store.vault import Vault
from beffroi.telemetry import logs

ACKNOWLEDGE = 5.0  # seconds every worker gets
CATCH_UP = 1.0  # seconds between two tries to tell what the disk did not take
log = logs.Logger("control.keys")
T = TypeVar("T")
Keep = Callable[[Connection, Any], None]


async def _at_once() -> None:
    """Nothing is on its way."""


class By(NamedTuple):
    """Who asks, in which organisation (`*`: the operator, wherever the key is).

    Attributes:
        keep: remembers the answer in the transaction of the act, for one who repeats it.
    """

    actor: Actor
    organisation: str
    keep: Keep | None = None


class Acts:
    """What changes the key table of the workers.

    Args:
        engine: the database; thread: the one thread that blocks on it.
    """

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor, files: KeyFiles, bus: Bus, budgets: Budgets) -> None:
        self.engine = engine
        self._thread = thread
        self._files = files
        self._bus = bus
        self._budgets = budgets
        self._turns = Turns()
        self.current_ledger: Callable[[], Awaitable[None]] = _at_once  # waits for what is on its way; `process` sets it
        self.follower: Follower | None = None
        self.shared: Vault | None = None  # of a fleet, whose peppers are in its database
        self._quotas_behind = False  # what the files have of quotas is not what the database has
        self._new_budgets: set[str] = set()  # keys whose budget was not compared with the ledger since it was given
        self._owed: dict[str, KeyRecord] = {}  # in the database, and not in the files yet: the disk did not take them

    async def act(
        self, by: By, work: Callable[[Scope], tuple[T, Sequence[Row[Any]]]], *, urgent: bool = False
    ) -> tuple[T, int]:
        """Run the blocking part of an act in a transaction, and tell the keys that it changed.

        Args:
            work: gives its result, and the rows of `keys` as they are now.
            urgent: goes before every act that is not.

        Returns:
            The result, and the revision that workers must hold.
        """

        def run() -> tuple[T, KeyDelta | None]:
            with acting(self.engine, by.actor, by.organisation) as scope:
                result, rows = work(scope)
                if by.keep is not None:
                    by.keep(scope.connection, result)
            # One that is known so already is told again where the files lag: an earlier try may have failed before they knew.
            records = [record for row in rows if self._files.keys.get((record := key_record(row)).id) != record]
            for record in records:
                before = self._files.keys.get(record.id)
                if before is not None and has_money(record.limits) and _money(before) != _money(record):
                    self._new_budgets.add(record.id)
            return result, self._tell(*records) if records else None

        async with self._turns.take(urgent=urgent):
            await self._catch_up()
            result, delta = await self._read(run)
            if delta is not None:
                self._bus.send_delta(delta)
            return result, self._files.revision

    def turn(self) -> AbstractAsyncContextManager[None]:
        """The turn of whoever else changes what workers know, before every act that waits."""
        return self._turns.take(urgent=True)

    async def keep_up(self) -> None:
        """Tell what the disk did not take as soon as it takes it, whether anybody asks for anything or not."""
        while True:
            await asyncio.sleep(CATCH_UP)
            if self._owed:
                try:
                    async with self._turns.take(urgent=True):
                        await self._catch_up()
                except OSError as error:
                    log.error(
                        "workers do not know yet of keys that have changed", keys=len(self._owed), reason=str(error)
                    )

    async def _catch_up(self) -> None:
        """Tell what an act before this one could not, or refuse this one: files that lag must not lag further."""
        if self._owed:
            self._bus.send_delta(await self._read(self._tell))

    def _tell(self, *records: KeyRecord) -> KeyDelta:
        """Write keys into the files; what the disk does not take is owed."""
        self._owed |= {record.id: record for record in records}
        delta = self._files.append(upsert=tuple(self._owed.values()))
        self._owed.clear()
        return delta

    @property
    def workers(self) -> int:
        """How many workers there are to be."""
        return self._bus.workers

    async def hold(self, revision: int) -> list[int]:
        """Wait for every worker to hold a revision; the slots of those that do not in time."""
        return await self._bus.hold_keys(revision, ACKNOWLEDGE)

    async def follow_quotas(self, only: Sequence[str] | None = None) -> list[int]:
        """Tell workers of these quotas as the database has them, of all without a name; the workers that lack it still.

        What a budget that is new finds spent in the ledger counts against it. Asked again, as `follow_tenants`.
        """
        if only is not None and not only:
            return []
        changed: list[QuotaRecord] = []

        def run() -> KeyDelta | None:
            with looking(self.engine, CONTROL, EVERY) as scope:
                there = {quota.id: quota for quota in records(scope, only)}
            known = self._files.quotas
            asked = known.keys() | there.keys() if only is None else set(only)
            self._quotas_behind = True
            changed.extend(quota for quota in there.values() if known.get(quota.id) != quota)
            gone = tuple(quota for quota in asked if quota in known and quota not in there)
            delta = None
            if changed or gone:
                self._budgets.follow(changed, gone)
                delta = self._files.append(quotas=tuple(changed), remove_quotas=gone)
            self._quotas_behind = False
            return delta

        async with self._turns.take(urgent=True):
            await self._catch_up()
            if (delta := await self._read(run)) is not None:
                self._bus.send_delta(delta)
            revision = self._files.revision
        waiting = await self.hold(revision)
        if changed:
            # What was served before workers knew of it is in the ledger alone, once that has what is on its way.
            await self.current_ledger()
            everyone = tuple(self._files.keys.values())
            await self._read(lambda: self._budgets.restore(self.engine, everyone, changed))
        return waiting

    async def fill_budgets(self) -> None:
        """Have what keys spent before they were given a budget count against it, as for quotas; after workers know of it."""
        if not self._new_budgets:
            return
        those, self._new_budgets = frozenset(self._new_budgets), set()
        await self.current_ledger()
        everyone = tuple(self._files.keys.values())
        await self._read(lambda: self._budgets.restore(self.engine, everyone, (), those))

    async def catch_up_quotas(self) -> None:
        """Tell what an earlier `follow_quotas` could not, because the disk was full."""
        if self._quotas_behind:
            await self.follow_quotas()

    async def follow_tenants(self) -> list[int]:
        """Tell workers which tenants are suspended, as the database has it; the workers that have not confirmed it.

        Asked again it makes good what an earlier time could not tell, because the disk was full or control ended.
        """

        def run() -> KeyDelta | None:
            with reading(self.engine) as connection:
                found = closed(connection)
            return None if found == self._files.closed else self._files.append(closed=found)

        async with self._turns.take(urgent=True):
            await self._catch_up()
            if (delta := await self._read(run)) is not None:
                self._bus.send_delta(delta)
            revision = self._files.revision
        return await self.hold(revision)

    def pepper(self) -> Pepper:
        """The newest pepper: that of keys to come."""
        newest = max(self._files.peppers)
        return newest, self._files.peppers[newest]

    @property
    def peppers(self) -> dict[int, bytes]:
        """All peppers, by id."""
        return self._files.peppers

    def unheard(self, done: str, missing: list[int]) -> NotAcknowledged:
        """What is said when a revocation is on disk and not on every worker."""
        return NotAcknowledged(
            f"{done}, but {len(missing)} of {self._bus.workers} workers ({slots_of(missing)}) have "
            f"not confirmed it within {ACKNOWLEDGE:.0f} s; they may still honour it until they are back or restarted",
            retry_after=1,
        )

    async def everywhere(self) -> tuple[list[Replica], int]:
        """Those of the fleet that have not confirmed what is committed by now, and how many it has."""
        return ([], 1) if self.follower is None else await self.follower.everywhere(ACKNOWLEDGE)

    def name(self, key_id: str) -> str:
        """What a key is called; its id where it is not known."""
        record = self._files.keys.get(key_id)
        return key_id if record is None else record.name

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)


def _money(key: KeyRecord) -> tuple[object, ...]:
    limits = key.limits
    return limits.hard_budget, limits.soft_budget, limits.monthly_cap, limits.budget_period


def slots_of(slots: list[int]) -> str:
    """Workers by name."""
    return ", ".join(f"w{slot:02d}" for slot in slots)
