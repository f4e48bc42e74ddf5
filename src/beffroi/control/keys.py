# SPDX-License-Identifier: Apache-2.0
"""API keys: made, changed, listed, shown, revoked, rotated; peppers rotated. Every act is an event, on disk before it is told.

In: what the command line or the API asks. Out: rows, a delta on disk, and the acknowledgement of every worker.
Order of an act: rows and event in one transaction; the delta in `keys.log`, synced; the push. A crash in between is
made good at the next start, when the files are made to follow the database; what the disk did not take, within a second.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Engine, Row, Select

from beffroi.control import events, keyring
from beffroi.control.acts import ACKNOWLEDGE, Acts, By, slots_of
from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus, elapsed_ms
from beffroi.control.fleet import sharing
from beffroi.control.fleet.agreement import unheard_of
from beffroi.control.keyring import key_record, living
from beffroi.control.keyshapes import Created, Key, KeyAsk, KeyChange, Revoked, RotateAsk, Rotated
from beffroi.control.rotation import byhand
from beffroi.control.rotation.shapes import Schedule
from beffroi.control.rotation.stores.choose import NO_STORES, Stores
from beffroi.control.snapshots import KeyFiles, add_pepper
from beffroi.control.tenancy.scope import Scope, looking
from beffroi.core.errors import BadRequest, NotAcknowledged
from beffroi.core.snapshot import Config, KeyDelta
from beffroi.gateway.quota.terms import Spent
from beffroi.store.administration import key_uses
from beffroi.store.tables import keys

__all__ = ["By", "Keys"]


class Keys(Acts):
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
        stores: Stores = NO_STORES,
    ) -> None:
        super().__init__(engine, thread, files, bus, budgets)
        self._data = data
        self._config = config
        self._stores = stores

    async def create(self, ask: KeyAsk, by: By) -> Created:
        """Make a key. It works at once on every worker but those in `waiting`. Raises as `keyring.make`."""
        models = self.known(ask.models)

        def work(scope: Scope) -> tuple[Created, list[Row[Any]]]:
            self._require_store(scope, ask.rotation)
            row, text = keyring.make(scope, ask, models, self.pepper())
            self._budgets.begin(row.slot)
            return Created(row.id, row.public, row.name, text, row.expires_at, []), [row]

        created, revision = await self.act(by, work)
        return msgspec.structs.replace(created, waiting=await self.hold(revision))

    async def change(self, reference: str, asked: KeyChange, by: By, if_match: int | None) -> Key:
        """Change a key; what it is then, and the workers that do not know yet. Raises as `keyring.change`."""

        def work(scope: Scope) -> tuple[Key, list[Row[Any]]]:
            with keyring.where(scope, reference) as (there, row):
                self._require_store(there, None if asked.rotation is UNSET else asked.rotation)
                after = keyring.change(there, row, asked, self.known, if_match)
                return self._shown(there, [after])[0], [after]

        shown, revision = await self.act(by, work)
        waiting = await self.hold(revision)
        await self.fill_budgets()
        return msgspec.structs.replace(shown, waiting=waiting)

    def _require_store(self, scope: Scope, schedule: Schedule | None) -> None:
        if schedule is not None and schedule.delivery.store:
            to = schedule.delivery
            if why := self._stores.refusal(to.store, scope.organisation, to.path, to.field):
                raise BadRequest(why, param="rotation")

    def known(self, names: list[str] | None) -> list[str] | None:
        """From names and aliases of models to ids.

        Raises:
            BadRequest: there is no such model.
        """
        if names is None:
            return None
        ids = {name: model.id for model in self._config().models for name in (model.id, *model.aliases)}
        if unknown := [name for name in names if name not in ids]:
            there = ", ".join(f"`{model.id}`" for model in self._config().models) or "none"
            raise BadRequest(f"there is no model `{unknown[0]}`; there are {there}", param="models")
        return sorted({ids[name] for name in names})

    async def revoke(self, reference: str, by: By, *, cut: bool = False, why: str = "") -> Revoked:
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

        def work(scope: Scope) -> tuple[list[Row[Any]], list[Row[Any]]]:
            with keyring.where(scope, reference) as (there, row):
                return keyring.revoke_with_those_before(there, row, why)

        (key, *also), revision = await self.act(by, work, urgent=True)
        missing = await self.hold(revision)
        late, fleet = await self.everywhere()
        took = elapsed_ms(started)
        count: int | None = None
        uncut: list[int] = []
        if cut:  # on those that answer, whoever else does not
            count = 0
            for each in (key, *also):
                ended, silent = await self._bus.cut(each.id, 1.0 if missing else ACKNOWLEDGE)
                count, uncut = count + ended, sorted({*uncut, *silent})
        if missing:
            raise self.unheard(f"{key.id} is revoked on disk", missing)
        if late:
            raise unheard_of(f"{key.id} is revoked in the database and on this machine", late, fleet)
        if uncut:
            raise NotAcknowledged(
                f"all workers refuse {key.id}, but {slots_of(uncut)} did not confirm within {ACKNOWLEDGE:.0f} s that its "
                "open requests were cut; they may still run",
                retry_after=1,
            )
        return Revoked(key.id, key.public, key.name, self._bus.workers, took, count, [each.id for each in also], fleet)

    async def rotate(self, reference: str, ask: RotateAsk, by: By) -> Rotated:
        """Make a successor of a key; the old one is accepted for `overlap_seconds` more, 0: refused at once.

        The end of the old key is its expiry, on disk before this returns and enforced by each worker alone, whether
        control runs or not. Raises as `byhand.rotate`.
        """

        def work(scope: Scope) -> tuple[Rotated, list[Row[Any]]]:
            if (again := byhand.claimed(scope, ask)) is not None:
                return again
            with keyring.where(scope, reference) as (there, row):
                return byhand.rotate(there, row, ask, self.pepper())

        rotated, revision = await self.act(by, work)
        return msgspec.structs.replace(rotated, waiting=await self.hold(revision))

    async def rotate_pepper(self, by: By) -> tuple[int, list[int]]:
        """Make a new pepper for the keys to come; its id, and the workers that do not know it yet."""

        def run() -> tuple[int, KeyDelta]:
            with self.engine.begin() as connection:
                if self.shared is None:
                    peppers = add_pepper(self._data, self._files.peppers)
                    newest = max(peppers)
                    secret = peppers[newest]
                else:
                    newest, secret = sharing.add_pepper(connection, self.shared)
                action = f"{by.actor.door}:pepper:rotate"
                events.record(connection, actor=by.actor.id, action=action, subject=str(newest))
            return newest, self._files.append(peppers={newest: secret})

        async with self._turns.take():
            await self._catch_up()
            newest, delta = await self._read(run)
            self._bus.send_delta(delta)
            revision = self._files.revision
        return newest, await self.hold(revision)

    async def listed(
        self, by: By, window: Callable[[Select[Any]], Select[Any]]
    ) -> tuple[Sequence[Row[Any]], Callable[[Row[Any]], Key]]:
        """Keys without their hashes; `spent` and `reserved` (nano-units) for those with a budget.

        Args:
            window: narrows and orders the query.

        Returns:
            The rows, and what makes of one what is shown.
        """

        def read() -> tuple[Sequence[Row[Any]], dict[str, Key]]:
            with looking(self.engine, by.actor, by.organisation) as scope:
                rows = scope.connection.execute(window(scope.select(keys))).all()
                return rows, {shown.id: shown for shown in self._shown(scope, rows)}

        rows, shown = await self._read(read)
        return rows, lambda row: shown[row.id]

    async def show(self, reference: str, by: By) -> Key:
        """One key as `listed` has it, and in `use` what is used of each of its limits, its predecessors' use included.

        Raises:
            KeyNotFound: there is none, or several have that name.
        """

        def read() -> Key:
            with looking(self.engine, by.actor, by.organisation) as scope:
                row = keyring.find(scope, reference)
                shown = self._shown(scope, [row])[0]
            return msgspec.structs.replace(shown, use=list(self._budgets.usage(key_record(row))))

        return await self._read(read)

    def _shown(self, scope: Scope, rows: Sequence[Row[Any]]) -> list[Key]:
        ids = [row.id for row in rows]
        spent = self._budgets.spent(key_record(row) for row in rows)
        run = scope.connection.execute
        after = {
            row.rotated_from: row.id
            for row in run(scope.select(keys, keys.c.id, keys.c.rotated_from).where(keys.c.rotated_from.in_(ids)))
        }
        used = {row.key_id: row.used_at for row in run(scope.select(key_uses).where(key_uses.c.key_id.in_(ids)))}
        return [_shown(row, after.get(row.id), used.get(row.id), spent.get(row.id)) for row in rows]


def _shown(row: Row[Any], after: str | None, used: int | None, spent: Spent | None) -> Key:
    kept = {name: getattr(row, name) for name in Key.__struct_fields__ if name in row._fields}
    if row.rotation is not None:
        kept["rotation"] = msgspec.convert(row.rotation, Schedule)
    if spent is not None:
        kept |= {"spent": spent.spent, "reserved": spent.reserved}
    return Key(**kept, rotated_to=after, state=_state(row, after), used_at=used)


def _state(row: Row[Any], after: str | None) -> str:
    """`active`; `rotated`: accepted until its end, beside its successor; `expired`; `revoked`."""
    if row.revoked:
        return "revoked"
    if not living(row, time.time()):
        return "expired"
    return "active" if after is None else "rotated"
