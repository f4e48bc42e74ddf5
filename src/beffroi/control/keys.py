# SPDX-License-Identifier: Apache-2.0
"""API keys: made, listed, revoked; peppers rotated. Every act is an event, on disk before it is told to anybody.

In: what the command line or the API asks. Out: rows, a delta on disk, and the acknowledgement of every worker.
Order of an act: rows and event in one transaction; the delta in `keys.log`, synced; the push. A crash in between is
made good at the next start, when the files are made to follow the database.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from beffroi.control import events
from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus, elapsed_ms
from beffroi.control.snapshots import KeyFiles, add_pepper
from beffroi.core.errors import BadRequest, KeyNotFound, NotAcknowledged
from beffroi.core.ids import new_id
from beffroi.core.key import key_hash, new_key
from beffroi.core.money import parse_nano
from beffroi.core.snapshot import Config, KeyDelta, KeyRecord, Limits
from beffroi.gateway.quota.terms import Spent
from beffroi.store.engine import reading
from beffroi.store.tables import DEFAULT, keys

ACKNOWLEDGE = 5.0  # seconds every worker gets
DAY = 86_400
YEAR = 365 * DAY
T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class LimitsAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Limits as people write them: budgets are amounts of money (`"10.50"`)."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    output_tokens_per_hour: Count | None = None
    output_tokens_per_day: Count | None = None
    concurrency: Count | None = None
    hard_budget: str | int | float | None = None
    soft_budget: str | int | float | None = None
    budget_period: str = "month"

    def limits(self) -> Limits:
        """As the gateway knows them.

        Raises:
            BadRequest: an amount that is none, or another period than day, month or total.
        """
        if self.budget_period not in ("day", "month", "total"):
            raise BadRequest(f"a budget is per day, month or total, not `{self.budget_period}`", param="budget_period")
        budgets = {}
        for name in ("hard_budget", "soft_budget"):
            value = getattr(self, name)
            try:
                budgets[name] = None if value is None else parse_nano(value)
            except ValueError as error:
                raise BadRequest(str(error), param=name) from None
        return Limits(**{**msgspec.structs.asdict(self), **budgets})


class KeyAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a new key is asked to be.

    Attributes:
        models: names or aliases it may use; None: all, those to come too.
        expires_in_days: None: after twelve months, or never for one that is `long_lived`.
        long_lived: allows more than twelve months.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
    models: list[str] | None = None
    limits: LimitsAsk = LimitsAsk()
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] | None = None
    long_lived: bool = False
    organisation: str = DEFAULT
    project: str = DEFAULT


class Created(msgspec.Struct, frozen=True):
    """A key just made; `key` is shown this once. `waiting`: workers that do not know it yet."""

    id: str
    public: str
    name: str
    key: str
    expires_at: int | None
    waiting: list[int]


class Revoked(msgspec.Struct, frozen=True):
    """A key that every worker refuses from now on. `cut`: open exchanges that were cut; None: they may finish."""

    id: str
    public: str
    name: str
    workers: int
    milliseconds: float
    cut: int | None


def key_record(row: Row[Any]) -> KeyRecord:
    """A row of `keys` as the gateway knows it."""
    return KeyRecord(
        id=row.id,
        public=row.public,
        hash=row.hash,
        pepper_id=row.pepper_id,
        slot=row.slot,
        organisation=row.organisation,
        project=row.project,
        name=row.name,
        models=None if row.models is None else frozenset(row.models),
        expires_at=row.expires_at,
        revoked=row.revoked,
        limits=msgspec.convert(row.limits, Limits),
    )


def load(engine: Engine) -> list[KeyRecord]:
    """Every key there is, revoked ones too."""
    with reading(engine) as connection:
        return [key_record(row) for row in connection.execute(select(keys).order_by(keys.c.slot))]


def make(
    connection: Connection, ask: KeyAsk, models: list[str] | None, pepper: tuple[int, bytes], *, actor: str
) -> tuple[KeyRecord, str]:
    """The row of a new key and its event; the second value is the key itself.

    Raises:
        BadRequest: more than twelve months for a key that is not long-lived.
    """
    now = int(time.time())
    lifetime = None if ask.expires_in_days is None else ask.expires_in_days * DAY
    if not ask.long_lived:
        if lifetime is not None and lifetime > YEAR + DAY:
            raise BadRequest(
                "a key lives twelve months at most, unless it is made as long-lived", param="expires_in_days"
            )
        lifetime = YEAR if lifetime is None else lifetime
    key = new_key()
    slot = connection.scalar(select(func.max(keys.c.slot)))
    record = KeyRecord(
        id=new_id("key"),
        public=key.public,
        hash=key_hash(key.text, pepper[1]),
        pepper_id=pepper[0],
        slot=0 if slot is None else slot + 1,
        organisation=ask.organisation,
        project=ask.project,
        name=ask.name,
        models=None if models is None else frozenset(models),
        expires_at=None if lifetime is None else now + lifetime,
        limits=ask.limits.limits(),
    )
    row = {field: getattr(record, field) for field in record.__struct_fields__}
    row |= {"models": models, "limits": msgspec.to_builtins(record.limits), "created_at": now, "created_by": actor}
    try:
        connection.execute(insert(keys).values(row))
    except IntegrityError:
        raise BadRequest(
            f"there is no project `{ask.project}` in an organisation `{ask.organisation}`", param="project"
        ) from None
    events.record(
        connection,
        actor=actor,
        action=f"{actor}:key:create",
        subject=record.id,
        after={name: row[name] for name in ("public", "name", "models", "limits", "expires_at")},
        organisation=record.organisation,
        project=record.project,
    )
    return record, key.text


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

    async def _act(self, act: Callable[[], tuple[T, KeyDelta | None]]) -> tuple[T, int]:
        """Run the blocking part of an act, send its delta; what it returned, and the revision workers must hold."""
        async with self._lock:
            result, delta = await asyncio.get_running_loop().run_in_executor(self._thread, act)
            if delta is not None:
                self._bus.send_delta(delta)
            return result, self._files.revision

    async def create(self, ask: KeyAsk, *, actor: str) -> Created:
        """Make a key. It works at once on every worker but those in `waiting`.

        Raises:
            BadRequest: an unknown model, too long a life, a limit that is none.
        """
        models = self._known(ask.models)

        def act() -> tuple[Created, KeyDelta]:
            newest = max(self._files.peppers)
            with self._engine.begin() as connection:
                record, text = make(connection, ask, models, (newest, self._files.peppers[newest]), actor=actor)
                self._budgets.begin(record.slot)
            delta = self._files.append(upsert=(record,))
            return Created(record.id, record.public, record.name, text, record.expires_at, []), delta

        created, revision = await self._act(act)
        return msgspec.structs.replace(created, waiting=await self._bus.hold_keys(revision, ACKNOWLEDGE))

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

        Args:
            cut: cut its open exchanges too.

        Raises:
            KeyNotFound: there is none, or several have that name.
            NotAcknowledged: a worker did not answer in time. The key is revoked on disk, so that it is refused by
                that worker too as soon as it is back.
        """
        started = time.monotonic()
        key, revision = await self._act(lambda: self._revoke(reference, actor))
        missing = await self._bus.hold_keys(revision, ACKNOWLEDGE)
        took = elapsed_ms(started)
        count, uncut = None, list[int]()
        if cut:  # on those that answer, whoever else does not
            count, uncut = await self._bus.cut(key.id, 1.0 if missing else ACKNOWLEDGE)
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
        return Revoked(key.id, key.public, key.name, self._bus.workers, took, count)

    def _revoke(self, reference: str, actor: str) -> tuple[KeyRecord, KeyDelta | None]:
        with self._engine.begin() as connection:
            record = _find(connection, reference)
            if not record.revoked:
                revoked = {"revoked": True, "revoked_at": int(time.time())}
                connection.execute(update(keys).where(keys.c.id == record.id).values(revoked))
                events.record(
                    connection,
                    actor=actor,
                    action=f"{actor}:key:revoke",
                    subject=record.id,
                    before={"revoked": False},
                    after={"revoked": True},
                    organisation=record.organisation,
                    project=record.project,
                )
        record = msgspec.structs.replace(record, revoked=True)
        # Revoked before, and the files know: nothing to tell. If an earlier try failed between the two, tell it now.
        if self._files.keys.get(record.id) == record:
            return record, None
        return record, self._files.append(upsert=(record,))

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
                rows = connection.execute(select(keys).order_by(keys.c.slot)).all()
            spent = self._budgets.spent(key_record(row) for row in rows)
            return [_shown(row, spent.get(row.id)) for row in rows]

        return await asyncio.get_running_loop().run_in_executor(self._thread, read)


def _slots(slots: list[int]) -> str:
    return ", ".join(f"w{slot:02d}" for slot in slots)


def _shown(row: Row[Any], spent: Spent | None) -> dict[str, Any]:
    shown = {name: value for name, value in row._asdict().items() if name not in ("hash", "pepper_id", "slot")}
    return shown | ({} if spent is None else {"spent": spent.spent, "reserved": spent.reserved})


def _find(connection: Connection, reference: str) -> KeyRecord:
    for column in (keys.c.id, keys.c.public, keys.c.name):
        found = connection.execute(select(keys).where(column == reference).limit(2)).all()
        if len(found) == 1:
            return key_record(found[0])
        if found:
            raise KeyNotFound(f"several keys are called `{reference}`; name one by its id", param="id")
    raise KeyNotFound(f"there is no key `{reference}`", param="id")
