# SPDX-License-Identifier: Apache-2.0
"""Keys as rows of the database: asked for, made, succeeded, found. Blocking; whoever calls brings the transaction.

In: a connection, and what somebody asks. Out: rows and their events; records as the gateway knows them.
A key that is rotated gets a successor with a row of its own and the *same slot*: both count in one set of counters, so
no rotation doubles a limit or a budget. A row names its predecessor in `rotated_from`; a key has one successor at most.
"""

import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from beffroi.control import events
from beffroi.core.errors import BadRequest, KeyNotFound
from beffroi.core.ids import new_id
from beffroi.core.key import key_hash, new_key
from beffroi.core.money import parse_nano
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.store.engine import reading
from beffroi.store.tables import DEFAULT, keys

DAY = 86_400
YEAR = 365 * DAY
OVERLAP = DAY  # seconds for which a key that was rotated is still accepted, unless told otherwise
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
Pepper = tuple[int, bytes]  # id, secret


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


class RotateAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Body of a rotation; for `overlap_seconds` the old key is still accepted beside the new one."""

    overlap_seconds: Annotated[int, msgspec.Meta(ge=0, le=30 * DAY)] = OVERLAP


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
    connection: Connection, ask: KeyAsk, models: list[str] | None, pepper: Pepper, *, actor: str
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
    slot = connection.scalar(select(func.max(keys.c.slot)))
    fresh, text = _secret(pepper)
    record = KeyRecord(
        **fresh,
        slot=0 if slot is None else slot + 1,
        organisation=ask.organisation,
        project=ask.project,
        name=ask.name,
        models=None if models is None else frozenset(models),
        expires_at=None if lifetime is None else now + lifetime,
        limits=ask.limits.limits(),
    )
    try:
        _insert(connection, record, now, actor)
    except IntegrityError:
        raise BadRequest(
            f"there is no project `{ask.project}` in an organisation `{ask.organisation}`", param="project"
        ) from None
    return record, text


def succeed(
    connection: Connection, reference: str, overlap: int, pepper: Pepper, *, actor: str
) -> tuple[KeyRecord, KeyRecord, str]:
    """Give a key a successor, and the key itself an end `overlap` seconds from now, or earlier if it had one.

    The successor lives as long from now on as the old key was to live in all.

    Returns:
        The old key, the new key, and the new key's text.

    Raises:
        KeyNotFound: there is no such key.
        BadRequest: it is revoked, or has a successor already.
    """
    row = find(connection, reference)
    if row.revoked:
        raise BadRequest(f"{_named(row)} is revoked; make a new key with `beffroi keys create`", param="id")
    after = connection.execute(select(keys).where(keys.c.rotated_from == row.id)).one_or_none()
    if after is not None:
        raise BadRequest(f"{_named(row)} was rotated already; rotate its successor, {_named(after)}", param="id")
    now = int(time.time())
    old = key_record(row)
    ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
    life = None if old.expires_at is None else old.expires_at - row.created_at
    fresh, text = _secret(pepper)
    new = msgspec.structs.replace(old, **fresh, expires_at=None if life is None else now + life)
    connection.execute(update(keys).where(keys.c.id == old.id).values(expires_at=ends))
    events.record(
        connection,
        actor=actor,
        action=f"{actor}:key:rotate",
        subject=old.id,
        before={"expires_at": old.expires_at},
        after={"expires_at": ends, "rotated_to": new.id},
        organisation=old.organisation,
        project=old.project,
    )
    _insert(connection, new, now, actor, rotated_from=old.id)
    return msgspec.structs.replace(old, expires_at=ends), new, text


def _secret(pepper: Pepper) -> tuple[dict[str, Any], str]:
    """What is new in a new key, and its text."""
    key = new_key()
    fields = {"id": new_id("key"), "public": key.public, "hash": key_hash(key.text, pepper[1]), "pepper_id": pepper[0]}
    return fields, key.text


def _insert(
    connection: Connection, record: KeyRecord, now: int, actor: str, *, rotated_from: str | None = None
) -> None:
    row = {field: getattr(record, field) for field in record.__struct_fields__}
    models = None if record.models is None else sorted(record.models)
    row |= {"models": models, "limits": msgspec.to_builtins(record.limits), "created_at": now, "created_by": actor}
    connection.execute(insert(keys).values(row | {"rotated_from": rotated_from}))
    shown = {name: row[name] for name in ("public", "name", "models", "limits", "expires_at")}
    events.record(
        connection,
        actor=actor,
        action=f"{actor}:key:create",
        subject=record.id,
        after=shown | ({} if rotated_from is None else {"rotated_from": rotated_from}),
        organisation=record.organisation,
        project=record.project,
    )


def living(row: Row[Any], now: float) -> bool:
    """Whether workers accept the key."""
    return not row.revoked and (row.expires_at is None or row.expires_at > now)


def predecessors(connection: Connection, row: Row[Any]) -> list[Row[Any]]:
    """The keys that a key was rotated from, the youngest first."""
    found = []
    while row.rotated_from is not None:
        row = connection.execute(select(keys).where(keys.c.id == row.rotated_from)).one()
        found.append(row)
    return found


def find(connection: Connection, reference: str) -> Row[Any]:
    """A key by its id, its public id, or its name.

    Of several with one name, one that is still accepted goes before those that are not, and a successor before the key
    that it was rotated from.

    Raises:
        KeyNotFound: there is none, or several are meant; the sentence says what is near.
    """
    for column in (keys.c.id, keys.c.public):
        if (row := connection.execute(select(keys).where(column == reference)).one_or_none()) is not None:
            return row
    rows: Sequence[Row[Any]] = connection.execute(select(keys).where(keys.c.name == reference)).all()
    if not rows:
        raise KeyNotFound(f"there is no key `{reference}`{_near(connection, reference)}", param="id")
    now = time.time()
    before = {row.rotated_from for row in rows}
    tests: tuple[Callable[[Row[Any]], bool], ...] = (lambda row: living(row, now), lambda row: row.id not in before)
    for test in tests:
        rows = [row for row in rows if test(row)] or rows
    if len(rows) > 1:
        those = ", ".join(f"{row.id} (bf-{row.public}-…)" for row in rows[:5])
        raise KeyNotFound(f"several keys are called `{reference}`; name one by its id: {those}", param="id")
    return rows[0]


def _near(connection: Connection, reference: str) -> str:
    names = set(connection.execute(select(keys.c.name)).scalars())
    near = get_close_matches(reference, names, n=1)
    return f"; did you mean `{near[0]}`?" if near else "; `beffroi keys list` shows those there are"


def _named(row: Row[Any]) -> str:
    return f"`{row.name}` ({row.id})"
