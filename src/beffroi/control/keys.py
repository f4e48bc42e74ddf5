# SPDX-License-Identifier: Apache-2.0
"""API keys: made, listed, shown, revoked, rotated; peppers rotated. Every act is an event, on disk before it is told.

In: what the command line or the API asks. Out: rows, a delta on disk, and the acknowledgement of every worker.
Order of an act: rows and event in one transaction; the delta in `keys.log`, synced; the push. A crash in between is
made good at the next start, when the files are made to follow the database.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Engine, Row, select, update

from beffroi.control import events, keyring
from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus, elapsed_ms
from beffroi.control.keyring import KeyAsk, key_record, living
from beffroi.control.snapshots import KeyFiles, add_pepper
from beffroi.control.tenancy.organisations import closed
from beffroi.core.errors import BadRequest, NotAcknowledged
from beffroi.core.snapshot import Config, KeyDelta, KeyRecord
from beffroi.gateway.quota.terms import Spent
from beffroi.store.engine import reading
from beffroi.store.tables import keys

ACKNOWLEDGE = 5.0  # seconds every worker gets
T = TypeVar("T")


class Created(msgspec.Struct, frozen=True):
    """A key just made; `key` is shown this once. `waiting`: workers that do not know it yet."""

    id: str
    public: str
    name: str
    key: str
    expires_at: int | None
    waiting: list[int]


class Revoked(msgspec.Struct, frozen=True):
    """A key that every worker refuses from now on.

    Attributes:
        also: ids of keys that it was rotated from and that were still accepted; they are refused with it.
        cut: open exchanges that were cut; None: they may finish.
    """

    id: str
    public: str
    name: str
    workers: int
    milliseconds: float
    cut: int | None
    also: list[str]


class Rotated(msgspec.Struct, frozen=True):
    """A successor just made; `key` is shown this once. The old key is refused from `old_expires_at` on.

    Attributes:
        waiting: workers that know neither the new key nor the old one's end yet.
    """

    id: str
    public: str
    name: str
    key: str
    expires_at: int | None
    rotated_from: str
    old_public: str
    old_expires_at: int
    waiting: list[int]


class Keys:
    """The service. One act at a time: they are rare, and their order is the order of revisions.

    Args:
        engine: the database; thread: the one thread that blocks on it.
        config: gives the config in force, against which model names are checked.
    """

    def __init__(
        self,
        engine: Engine,
        thread: ThreadPoolExecutor,
        files: KeyFiles,
        bus: Bus,
        data: Path,
        config: Callable[[], Config],
        budgets: Budgets,
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._files = files
        self._bus = bus
        self._data = data
        self._config = config
        self._budgets = budgets
        self._lock = asyncio.Lock()
        self._owed: dict[str, KeyRecord] = {}  # in the database, and not in the files yet: the disk did not take them

    async def _act(self, act: Callable[[], tuple[T, KeyDelta | None]]) -> tuple[T, int]:
        """Run the blocking part of an act, send its delta; what it returned, and the revision workers must hold."""
        async with self._lock:
            await self._catch_up()
            result, delta = await self._read(act)
            if delta is not None:
                self._bus.send_delta(delta)
            return result, self._files.revision

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

    async def create(self, ask: KeyAsk, *, actor: str) -> Created:
        """Make a key. It works at once on every worker but those in `waiting`.

        Raises:
            BadRequest: an unknown model, too long a life, a limit that is none.
        """
        models = self._known(ask.models)

        def act() -> tuple[Created, KeyDelta]:
            with self._engine.begin() as connection:
                record, text = keyring.make(connection, ask, models, self._pepper(), actor=actor)
                self._budgets.begin(record.slot)
            delta = self._tell(record)
            return Created(record.id, record.public, record.name, text, record.expires_at, []), delta

        created, revision = await self._act(act)
        return msgspec.structs.replace(created, waiting=await self._bus.hold_keys(revision, ACKNOWLEDGE))

    async def follow_tenants(self) -> list[int]:
        """Tell workers which tenants are suspended, as the database has it; the workers that have not confirmed it.

        Asked again it makes good what an earlier time could not tell, because the disk was full or control ended.
        """

        def act() -> tuple[None, KeyDelta | None]:
            with reading(self._engine) as connection:
                found = closed(connection)
            return None, None if found == self._files.closed else self._files.append(closed=found)

        _, revision = await self._act(act)
        return await self._bus.hold_keys(revision, ACKNOWLEDGE)

    @property
    def peppers(self) -> dict[int, bytes]:
        """The secrets that hashes are made with, by id."""
        return dict(self._files.peppers)

    def _pepper(self) -> keyring.Pepper:
        newest = max(self._files.peppers)
        return newest, self._files.peppers[newest]

    def _known(self, names: list[str] | None) -> list[str] | None:
        if names is None:
            return None
        ids = {name: model.id for model in self._config().models for name in (model.id, *model.aliases)}
        if unknown := [name for name in names if name not in ids]:
            there = ", ".join(f"`{model.id}`" for model in self._config().models) or "none"
            raise BadRequest(f"there is no model `{unknown[0]}`; there are {there}", param="models")
        return sorted({ids[name] for name in names})

    async def revoke(self, reference: str, *, actor: str, cut: bool = False) -> Revoked:
        """Revoke a key, named by its id, its public id or its name; returns when every worker refuses it.

        Keys that it was rotated from and that are still accepted go with it; revoking one of those alone leaves it.

        Args:
            cut: cut its open exchanges too.

        Raises:
            KeyNotFound: there is none, or several have that name.
            NotAcknowledged: a worker did not answer in time. The key is revoked on disk, so that it is refused by
                that worker too as soon as it is back.
        """
        started = time.monotonic()
        (key, *also), revision = await self._act(lambda: self._revoke(reference, actor))
        missing = await self._bus.hold_keys(revision, ACKNOWLEDGE)
        took = elapsed_ms(started)
        count: int | None = None
        uncut: list[int] = []
        if cut:  # on those that answer, whoever else does not
            count = 0
            for each in (key, *also):
                ended, silent = await self._bus.cut(each.id, 1.0 if missing else ACKNOWLEDGE)
                count, uncut = count + ended, sorted({*uncut, *silent})
        if missing:
            raise NotAcknowledged(
                f"{key.id} is revoked on disk, but {len(missing)} of {self._bus.workers} workers ({_slots(missing)}) have "
                f"not confirmed it within {ACKNOWLEDGE:.0f} s; they may still honour it until they are back or restarted",
                retry_after=1,
            )
        if uncut:
            raise NotAcknowledged(
                f"all workers refuse {key.id}, but {_slots(uncut)} did not confirm within {ACKNOWLEDGE:.0f} s that its "
                "open requests were cut; they may still run",
                retry_after=1,
            )
        return Revoked(key.id, key.public, key.name, self._bus.workers, took, count, [each.id for each in also])

    def _revoke(self, reference: str, actor: str) -> tuple[list[KeyRecord], KeyDelta | None]:
        now = time.time()
        with self._engine.begin() as connection:
            row = keyring.find(connection, reference)
            # Those revoked already are in the list as well: an earlier try may have failed before the files knew.
            those = [row, *(old for old in keyring.predecessors(connection, row) if old.revoked or living(old, now))]
            for each in those:
                if each.revoked:
                    continue
                revoked = {"revoked": True, "revoked_at": int(now)}
                connection.execute(update(keys).where(keys.c.id == each.id).values(revoked))
                events.record(
                    connection,
                    actor=actor,
                    action=f"{actor}:key:revoke",
                    subject=each.id,
                    before={"revoked": False},
                    after={"revoked": True},
                    organisation=each.organisation,
                    project=each.project,
                )
        records = [msgspec.structs.replace(key_record(each), revoked=True) for each in those]
        untold = tuple(record for record in records if self._files.keys.get(record.id) != record)
        now_revoked = [record for record, each in zip(records, those, strict=True) if each is row or not each.revoked]
        return now_revoked, self._tell(*untold) if untold else None

    async def rotate(self, reference: str, overlap: int, *, actor: str) -> Rotated:
        """Make a successor of a key; the old one is accepted for `overlap` seconds more, 0: refused at once.

        The end of the old key is its expiry, on disk before this returns and enforced by each worker alone, whether
        control runs or not. Raises as `keyring.succeed`.
        """

        def act() -> tuple[Rotated, KeyDelta]:
            with self._engine.begin() as connection:
                old, new, text = keyring.succeed(connection, reference, overlap, self._pepper(), actor=actor)
            delta = self._tell(old, new)
            ends = old.expires_at or 0
            made = Rotated(new.id, new.public, new.name, text, new.expires_at, old.id, old.public, ends, [])
            return made, delta

        rotated, revision = await self._act(act)
        return msgspec.structs.replace(rotated, waiting=await self._bus.hold_keys(revision, ACKNOWLEDGE))

    async def rotate_pepper(self, *, actor: str) -> tuple[int, list[int]]:
        """Make a new pepper for the keys to come; its id, and the workers that do not know it yet."""

        def act() -> tuple[int, KeyDelta]:
            peppers = add_pepper(self._data, self._files.peppers)
            newest = max(peppers)
            with self._engine.begin() as connection:
                events.record(connection, actor=actor, action=f"{actor}:pepper:rotate", subject=str(newest))
            return newest, self._files.append(peppers={newest: peppers[newest]})

        newest, revision = await self._act(act)
        return newest, await self._bus.hold_keys(revision, ACKNOWLEDGE)

    async def list(self) -> list[dict[str, Any]]:
        """Every key, newest last, without its hash; `spent` and `reserved` (nano-units) for those with a budget."""

        def read() -> list[dict[str, Any]]:
            with reading(self._engine) as connection:
                rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).all()
            spent = self._budgets.spent(key_record(row) for row in rows)
            after = {row.rotated_from: row.id for row in rows}
            return [_shown(row, after.get(row.id), spent.get(row.id)) for row in rows]

        return await self._read(read)

    async def show(self, reference: str) -> dict[str, Any]:
        """One key as `list` has it, and in `use` what is used of each of its limits, its predecessors' use included.

        Raises:
            KeyNotFound: there is none, or several have that name.
        """

        def read() -> dict[str, Any]:
            with reading(self._engine) as connection:
                row = keyring.find(connection, reference)
                after = connection.scalar(select(keys.c.id).where(keys.c.rotated_from == row.id))
            record = key_record(row)
            shown = _shown(row, after, self._budgets.spent([record]).get(row.id))
            return shown | {"use": [msgspec.to_builtins(use) for use in self._budgets.usage(record)]}

        return await self._read(read)

    def name(self, key_id: str) -> str:
        """What a key is called; its id where it is not known."""
        record = self._files.keys.get(key_id)
        return key_id if record is None else record.name

    async def ids(self, reference: str) -> frozenset[str]:
        """The keys that a filter means: one by its id or public id, or all of a name. Raises as `show`."""

        def read() -> frozenset[str]:
            with reading(self._engine) as connection:
                those = connection.execute(select(keys.c.id).where(keys.c.name == reference)).scalars().all()
                return frozenset(those or (keyring.find(connection, reference).id,))

        return await self._read(read)

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)


def _slots(slots: list[int]) -> str:
    return ", ".join(f"w{slot:02d}" for slot in slots)


def _shown(row: Row[Any], after: str | None, spent: Spent | None) -> dict[str, Any]:
    shown = {name: value for name, value in row._asdict().items() if name not in ("hash", "pepper_id", "slot")}
    shown |= {"rotated_to": after, "state": _state(row, after)}
    return shown | ({} if spent is None else {"spent": spent.spent, "reserved": spent.reserved})


def _state(row: Row[Any], after: str | None) -> str:
    """`active`; `rotated`: accepted until its end, beside its successor; `expired`; `revoked`."""
    if row.revoked:
        return "revoked"
    if not living(row, time.time()):
        return "expired"
    return "active" if after is None else "rotated"
