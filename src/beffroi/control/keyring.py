# SPDX-License-Identifier: Apache-2.0
"""Keys as rows of the database: asked for, made, changed, succeeded, found. Blocking; whoever calls brings the scope.

In: a scope (a transaction of somebody in an organisation), and what is asked. Out: rows and their events; records as the
gateway knows them. A key that is rotated gets a successor with a row of its own and the *same slot*: both count in one set
of counters, so no rotation doubles a limit or a budget. A row names its predecessor in `rotated_from`; a key has one
successor at most.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from beffroi.control.keypolicy import addresses_of, end_of, policy_of
from beffroi.control.keyshapes import KeyAsk, KeyChange, changed_limits, networks
from beffroi.control.slots import next_slot
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest, KeyNotFound
from beffroi.core.ids import new_id
from beffroi.core.key import key_hash, new_key
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.store.administration import ai_systems
from beffroi.store.tables import DEFAULT, keys

Pepper = tuple[int, bytes]  # id, secret
SHOWN = ("public", "name", "models", "endpoints", "addresses", "system", "owner", "limits", "expires_at", "rotation")


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
        endpoints=None if row.endpoints is None else frozenset(row.endpoints),
        addresses=tuple(row.addresses),
        system=row.system,
    )


def make(scope: Scope, ask: KeyAsk, models: list[str] | None, pepper: Pepper) -> tuple[Row[Any], str]:
    """The row of a new key and its event; the second value is the key itself.

    Args:
        models: ids of models, checked against the configuration.

    Raises:
        BadRequest: a life that the policy does not allow, a network that is none, a project or AI system that there is not.
        PermissionDenied: the actor makes no keys, whatever else brought him here (a file, a user with a key).
    """
    scope.need(Permission.KEYS_WRITE)
    now, policy = int(time.time()), policy_of(scope)
    row = {
        **_secret(pepper),
        "name": ask.name,
        "models": models,
        "endpoints": None if ask.endpoints is None else sorted(set(ask.endpoints)),
        "addresses": addresses_of(policy, networks(ask.addresses)),
        "system": _system(scope, ask.system),
        "owner": ask.owner,
        "limits": msgspec.to_builtins(ask.limits.limits()),
        "expires_at": end_of(scope, policy, now, now, ask.expires_in_days, long_lived=ask.long_lived),
        "rotation": None if ask.rotation is None else msgspec.to_builtins(ask.rotation),
        "project": ask.project or scope.actor.project or DEFAULT,
        "slot": next_slot(scope),
    }
    return _insert(scope, row, now), row["text"]


def change(
    scope: Scope,
    row: Row[Any],
    asked: KeyChange,
    known: Callable[[list[str] | None], list[str] | None],
    if_match: int | None,
) -> Row[Any]:
    """Change a key; what it is then.

    Args:
        known: from names of models to ids.

    Raises:
        BadRequest: as `make`, or it is revoked. PreconditionFailed: another revision is there. Conflict: a file keeps it.
        PermissionDenied: as `make`.
    """
    scope.need(Permission.KEYS_WRITE)
    if row.revoked:
        raise BadRequest(f"{named(row)} is revoked; a new key can be made", param="id")
    now, said = int(time.time()), asked
    values: dict[str, Any] = {}
    if said.name is not UNSET:
        values["name"] = said.name
    if said.models is not UNSET:
        values["models"] = known(said.models)
    if said.endpoints is not UNSET:
        values["endpoints"] = None if said.endpoints is None else sorted(set(said.endpoints))
    if said.addresses is not UNSET:
        values["addresses"] = addresses_of(policy_of(scope), networks(said.addresses or []))
    if said.system is not UNSET:
        values["system"] = _system(scope, said.system or "")
    if said.owner is not UNSET:
        values["owner"] = said.owner or ""
    if said.limits is not UNSET:
        limits = changed_limits(msgspec.convert(row.limits, Limits), said.limits)
        values["limits"] = msgspec.to_builtins(limits)
    if said.expires_in_days is not UNSET:
        _require_no_end(scope, row)
        long_lived = said.long_lived or said.expires_in_days is None
        policy, since = policy_of(scope), row.created_at
        values["expires_at"] = end_of(scope, policy, since, now, said.expires_in_days, long_lived=long_lived)
    if said.rotation is not UNSET:
        values["rotation"] = None if said.rotation is None else msgspec.to_builtins(said.rotation)
    changed = {name: value for name, value in values.items() if value != getattr(row, name)}
    if not changed:
        scope.may_change(row, if_match=if_match)
        return row
    after = scope.revise(keys, row, if_match=if_match, **changed)
    before = {name: getattr(row, name) for name in changed}
    scope.record("key:update", row.id, before=before, after=changed, project=row.project)
    return after


def _require_no_end(scope: Scope, row: Row[Any]) -> None:
    if scope.connection.scalar(scope.select(keys, keys.c.id).where(keys.c.rotated_from == row.id)) is not None:
        raise BadRequest(
            f"{named(row)} was rotated and ends with its overlap; change its successor", param="expires_in_days"
        )


def _system(scope: Scope, system: str) -> str:
    if system:
        query = scope.select(ai_systems, ai_systems.c.id).where(ai_systems.c.id == system)
        if scope.connection.scalar(query) is None:
            raise BadRequest(f"there is no AI system `{system}`", param="system")
    return system


def successor_of(scope: Scope, row: Row[Any]) -> Row[Any] | None:
    """The key that a key was rotated to."""
    return scope.connection.execute(scope.select(keys).where(keys.c.rotated_from == row.id)).one_or_none()


def require_rotatable(scope: Scope, row: Row[Any]) -> None:
    """Refuse what can have no successor.

    Raises:
        BadRequest: it is revoked, or has a successor already.
    """
    if row.revoked:
        raise BadRequest(f"{named(row)} is revoked; make a new key with `beffroi keys create`", param="id")
    if (after := successor_of(scope, row)) is not None:
        raise BadRequest(f"{named(row)} was rotated already; rotate its successor, {named(after)}", param="id")


def succeed(scope: Scope, row: Row[Any], pepper: Pepper, now: int) -> tuple[Row[Any], str]:
    """Give a key a successor, which may do the same, shares its slot, and lives as long as it was to live in all.

    The key itself is left as it is. Raises as `require_rotatable`.
    """
    require_rotatable(scope, row)
    life = None if row.expires_at is None else row.expires_at - row.created_at
    values = row._asdict() | _secret(pepper)
    values |= {"expires_at": None if life is None else now + life, "revision": 0, "rotated_from": row.id}
    del values["organisation"]
    text = values["text"]
    return _insert(scope, values, now), text


def renew(scope: Scope, row: Row[Any], pepper: Pepper) -> tuple[Row[Any], str]:
    """Give a key that nobody has yet another secret: the text that was lost on its way opens nothing any more."""
    key = new_key(public=row.public)
    after = scope.revise(keys, row, anyone=True, hash=key_hash(key.text, pepper[1]), pepper_id=pepper[0])
    return after, key.text


def end(scope: Scope, row: Row[Any], at: int, after: str) -> Row[Any]:
    """Give a key that was rotated an end, or an earlier one; never a later one than it had.

    Args:
        after: the id of its successor.
    """
    ends = at if row.expires_at is None else min(row.expires_at, at)
    changed = scope.revise(keys, row, anyone=True, expires_at=ends)
    before, now = {"expires_at": row.expires_at}, {"expires_at": ends, "rotated_to": after}
    scope.record("key:rotate", row.id, before=before, after=now, project=row.project)
    return changed


def revoke(scope: Scope, row: Row[Any], now: int, why: str) -> Row[Any]:
    """Revoke a key, whoever keeps it: what has leaked does not wait for a file."""
    changed = scope.revise(keys, row, anyone=True, revoked=True, revoked_at=now, revoked_why=why)
    after = {"revoked": True} | ({"why": why} if why else {})
    scope.record("key:revoke", row.id, before={"revoked": False}, after=after, project=row.project)
    return changed


def revoke_with_those_before(scope: Scope, row: Row[Any], why: str) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Revoke a key and those that it was rotated from which are still accepted.

    Returns:
        Those that this act revoked (the key itself first, be it revoked already), and all that workers must know of: an
        earlier try may have failed before they did.

    Raises:
        PermissionDenied: as `make`.
    """
    scope.need(Permission.KEYS_WRITE)
    now = time.time()
    those = [row, *(old for old in predecessors(scope, row) if old.revoked or living(old, now))]
    told = [each if each.revoked else revoke(scope, each, int(now), why) for each in those]
    return [after for after, each in zip(told, those, strict=True) if each is row or not each.revoked], told


def _secret(pepper: Pepper) -> dict[str, Any]:
    """What is new in a new key, and its text."""
    key = new_key()
    hashed = key_hash(key.text, pepper[1])
    return {"id": new_id("key"), "public": key.public, "hash": hashed, "pepper_id": pepper[0], "text": key.text}


def _insert(scope: Scope, values: dict[str, Any], now: int) -> Row[Any]:
    row = {name: value for name, value in values.items() if name != "text"}
    row |= {
        "created_at": now,
        "created_by": scope.actor.id,
        "revoked": False,
        "managed_by": row.get("managed_by", scope.keeper),
    }
    try:
        made = scope.connection.execute(scope.insert(keys).values(**row).returning(keys)).one()
    except IntegrityError:
        raise BadRequest(
            f"there is no project `{row['project']}` in the organisation `{scope.organisation}`", param="project"
        ) from None
    origin = {"rotated_from": row["rotated_from"]} if row.get("rotated_from") else {}
    shown = {name: row[name] for name in SHOWN} | origin
    scope.record("key:create", row["id"], after=shown, project=row["project"])
    return made


def living(row: Row[Any], now: float) -> bool:
    """Whether workers accept the key."""
    return not row.revoked and (row.expires_at is None or row.expires_at > now)


def predecessors(scope: Scope, row: Row[Any]) -> list[Row[Any]]:
    """The keys that a key was rotated from, the youngest first."""
    found = []
    while row.rotated_from is not None:
        row = scope.find(keys, row.rotated_from, "key")
        found.append(row)
    return found


@contextmanager
def where(scope: Scope, reference: str) -> Iterator[tuple[Scope, Row[Any]]]:
    """A key that is to be acted on, and the scope of its organisation. Raises as `find`."""
    row = find(scope, reference)
    if scope.organisation != EVERY:
        yield scope, row
        return
    with scope.within(row.organisation) as there:
        yield there, row


def find(scope: Scope, reference: str) -> Row[Any]:
    """A key by its id, its public id, or its name.

    Of several with one name, one that is still accepted goes before those that are not, and a successor before the key
    that it was rotated from.

    Raises:
        KeyNotFound: there is none, or several are meant; the sentence says what is near.
    """
    run = scope.connection.execute
    for column in (keys.c.id, keys.c.public):
        if (row := run(scope.select(keys).where(column == reference)).one_or_none()) is not None:
            return row
    rows: Sequence[Row[Any]] = run(scope.select(keys).where(keys.c.name == reference)).all()
    if not rows:
        raise KeyNotFound(f"there is no key `{reference[:100]}`{_near(scope, reference)}", param="id")
    now = time.time()
    before = {row.rotated_from for row in rows}
    tests: tuple[Callable[[Row[Any]], bool], ...] = (lambda row: living(row, now), lambda row: row.id not in before)
    for test in tests:
        rows = [row for row in rows if test(row)] or rows
    if len(rows) > 1:
        those = ", ".join(f"{row.id} (bf-{row.public}-…)" for row in rows[:5])
        raise KeyNotFound(f"several keys are called `{reference[:100]}`; name one by its id: {those}", param="id")
    return rows[0]


def _near(scope: Scope, reference: str) -> str:
    names = set(scope.connection.execute(scope.select(keys, keys.c.name).limit(10_000)).scalars())
    near = get_close_matches(reference[:100], names, n=1)
    return f"; did you mean `{near[0]}`?" if near else "; `beffroi keys list` shows those there are"


def named(row: Row[Any]) -> str:
    """A key in a sentence."""
    return f"`{row.name}` ({row.id})"
