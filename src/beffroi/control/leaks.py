# SPDX-License-Identifier: Apache-2.0
"""Keys that stand where they should not, and keys that fit a description: found, and revoked together.

In: a text (a paste, a dump, the report of a scanner), or criteria. Out: which keys of ours were in it, revoked; nothing of
the text is kept or logged. A key counts as ours only where its whole text fits the hash: knowing a public id, which may be
logged anywhere, revokes nothing.
"""

import asyncio
import hmac
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, or_

from beffroi.control import keyring
from beffroi.control.bus import elapsed_ms
from beffroi.control.fleet.agreement import unheard_of
from beffroi.control.keys import By, Keys
from beffroi.control.keyshapes import Word
from beffroi.control.tenancy import admin_keys as admin
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest, PermissionDenied
from beffroi.core.key import ADMIN, PREFIX, key_hash, public_id
from beffroi.store.administration import admin_keys, key_uses
from beffroi.store.tables import keys

MAX_TEXT = 8 << 20  # bytes of one text
MAX_FOUND = 10_000  # keys in one text that are looked up
MANY = 1_000  # keys revoked in one transaction
LEAKED = "leaked"
_SHAPE = re.compile(r"(?=(bfa?-[0-9A-Za-z]{12}-[0-9A-Za-z]{38}))")
Peppers = dict[int, bytes]
Revoked = tuple[Row[Any], list[Row[Any]]]


class LeakAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A text in which keys may stand."""

    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    dry_run: bool = False


class Criteria(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which keys; all that is named must fit, and something must be.

    Attributes:
        unused_since, created_before: Unix seconds; a key that was never used counts from its making.
    """

    project: Word | None = None
    owner: Word | None = None
    system: Word | None = None
    unused_since: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    created_before: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None


class CriteriaAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which keys are to be revoked. `dry_run`: only say which."""

    criteria: Criteria
    dry_run: bool = False
    why: Word = ""


class Gone(msgspec.Struct, frozen=True):
    """A key that was found.

    Attributes:
        kind: key or admin-key; was: active, expired, or revoked already.
        revoked: it is now; false in a dry run, and for an admin key that whoever asks may not revoke.
    """

    kind: str
    id: str
    public: str
    name: str
    organisation: str
    project: str
    was: str
    revoked: bool


class Swept(msgspec.Struct, frozen=True):
    """What was found and revoked.

    Attributes:
        shapes: texts in it with the form and the checksum of a key, those of others included.
        workers: how many refuse the keys; milliseconds: after which all did.
    """

    found: list[Gone]
    shapes: int
    dry_run: bool
    workers: int
    milliseconds: float


def candidates(text: str) -> dict[str, str]:
    """Every text with the form and the checksum of a key, each once → its public id.

    Zero bytes are overlooked: in a dump of UTF-16 they stand between the letters.

    Raises:
        BadRequest: too many.
    """
    found: dict[str, str] = {}
    for match in _SHAPE.finditer(text.replace("\0", "")):
        candidate = match[1]
        public = public_id(candidate, ADMIN if candidate.startswith(ADMIN) else PREFIX)
        if public is not None:
            found[candidate] = public
            if len(found) > MAX_FOUND:
                raise BadRequest(f"there are more than {MAX_FOUND} keys in this text; send it in parts", param="text")
    return found


def ours(scope: Scope, found: dict[str, str], peppers: Peppers) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Which of the candidates are keys that may be seen here: API keys, admin keys."""
    those: tuple[list[Row[Any]], list[Row[Any]]] = ([], [])
    for place, (prefix, table) in enumerate(((PREFIX, keys), (ADMIN, admin_keys))):
        texts = {public: text for text, public in found.items() if text.startswith(prefix)}
        for part in _parts(sorted(texts)):
            for row in scope.connection.execute(scope.select(table).where(table.c.public.in_(part))).all():
                pepper = peppers.get(row.pepper_id)
                if pepper is not None and hmac.compare_digest(key_hash(texts[row.public], pepper), row.hash):
                    those[place].append(row)
    return those


def revoke_found(
    scope: Scope, rows: tuple[list[Row[Any]], list[Row[Any]]], *, dry_run: bool
) -> tuple[list[Gone], list[Row[Any]]]:
    """Revoke what was found, each in its own organisation; those that a key was rotated from and that still work too."""
    gone: dict[str, Gone] = {}
    changed: list[Row[Any]] = []
    for row in rows[0]:
        changed += _revoke(scope, row, LEAKED, gone, dry_run=dry_run)
    now = time.time()
    for row in rows[1]:
        was = "revoked" if row.revoked_at is not None else "active" if row.expires_at > now else "expired"
        over = row.revoked_at is not None or (not dry_run and _revoke_admin(scope, row))
        gone[row.id] = Gone("admin-key", row.id, row.public, row.name, row.organisation, row.project, was, over)
    return list(gone.values()), changed


def _revoke_admin(scope: Scope, row: Row[Any]) -> bool:
    with scope.within(row.organisation) as there, suppress(PermissionDenied):
        admin.revoke(there, row.id)
        return True
    return False


def _revoke(scope: Scope, row: Row[Any], why: str, gone: dict[str, Gone], *, dry_run: bool) -> list[Row[Any]]:
    if row.id in gone:
        return []
    with scope.within(row.organisation) as there:
        now = time.time()
        before = [row, *(old for old in keyring.predecessors(there, row) if keyring.living(old, now))]
        for each in before:
            was = "revoked" if each.revoked else "active" if keyring.living(each, now) else "expired"
            gone.setdefault(
                each.id,
                Gone(
                    "key", each.id, each.public, each.name, each.organisation, each.project, was,
                    each.revoked or not dry_run,
                ),
            )  # fmt: skip
        if dry_run:
            return []
        return keyring.revoke_with_those_before(there, there.find(keys, row.id, "key"), why)[1]


def fitting(scope: Scope, criteria: Criteria) -> list[str]:
    """Ids of the living keys that fit.

    Raises:
        BadRequest: nothing is named: that would be every key.
    """
    if all(value is None for value in msgspec.structs.astuple(criteria)):
        raise BadRequest("say which keys: at least one criterion; all of them is never meant", param="criteria")
    now = int(time.time())
    query: Select[Any] = (
        scope.select(keys, keys.c.id)
        .outerjoin(key_uses, key_uses.c.key_id == keys.c.id)
        .where(keys.c.revoked.is_(False), keys.c.expires_at.is_(None) | (keys.c.expires_at > now))
    )
    for column, value in (
        (keys.c.project, criteria.project),
        (keys.c.owner, criteria.owner),
        (keys.c.system, criteria.system),
    ):
        if value is not None:
            query = query.where(column == value)
    if criteria.created_before is not None:
        query = query.where(keys.c.created_at < criteria.created_before)
    if criteria.unused_since is not None:
        never = key_uses.c.used_at.is_(None) & (keys.c.created_at < criteria.unused_since)
        query = query.where(or_(key_uses.c.used_at < criteria.unused_since, never))
    return list(scope.connection.execute(query.order_by(keys.c.id)).scalars())


def revoke_these(scope: Scope, ids: Sequence[str], why: str, *, dry_run: bool) -> tuple[list[Gone], list[Row[Any]]]:
    """Revoke keys by id; those that are gone meanwhile are left out."""
    gone: dict[str, Gone] = {}
    changed: list[Row[Any]] = []
    for row in scope.connection.execute(scope.select(keys).where(keys.c.id.in_(ids))).all():
        changed += _revoke(scope, row, why, gone, dry_run=dry_run)
    return list(gone.values()), changed


async def leaked(service: Keys, ask: LeakAsk, by: By) -> Swept:
    """Revoke every key of ours in a text; returns when every worker refuses them.

    Raises:
        BadRequest: too many keys. NotAcknowledged: a worker has not confirmed in time; they are revoked on disk.
    """
    started = time.monotonic()
    found = await asyncio.to_thread(candidates, ask.text)

    def work(scope: Scope) -> tuple[list[Gone], list[Row[Any]]]:
        return revoke_found(scope, ours(scope, found, service.peppers), dry_run=ask.dry_run)

    gone, revision = await service.act(by, work, urgent=True)
    await _heard(service, revision, gone)
    return Swept(gone, len(found), ask.dry_run, service.workers, elapsed_ms(started))


async def sweep(service: Keys, ask: CriteriaAsk, by: By) -> Swept:
    """Revoke the keys that fit criteria, a thousand in one transaction. Raises as `leaked`."""
    started = time.monotonic()
    ids = (await service.act(by, lambda scope: (fitting(scope, ask.criteria), [])))[0]
    gone: list[Gone] = []
    revision = 0
    for part in _parts(ids):
        work = partial(revoke_these, ids=part, why=ask.why, dry_run=ask.dry_run)
        some, revision = await service.act(by, work, urgent=True)
        gone += some
    await _heard(service, revision, gone)
    return Swept(gone, len(gone), ask.dry_run, service.workers, elapsed_ms(started))


async def _heard(service: Keys, revision: int, gone: list[Gone]) -> None:
    if not any(each.revoked for each in gone):
        return
    many = sum(each.revoked for each in gone)
    if missing := await service.hold(revision):
        raise service.unheard(f"{many} keys are revoked on disk", missing)
    late, fleet = await service.everywhere()
    if late:
        raise unheard_of(f"{many} keys are revoked in the database and on this machine", late, fleet)


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), MANY):
        yield names[start : start + MANY]
