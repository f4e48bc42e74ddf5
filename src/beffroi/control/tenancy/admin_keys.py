# SPDX-License-Identifier: Apache-2.0
"""Keys to the administration (`bfa-…`): made, revoked, and what a caller is who shows one.

In: a scope and what is asked; the text of a key. Out: the key, shown this once; an `Actor`. Blocking but for `authenticate_admin`.
Stored is a keyed hash, as of API keys and with the same peppers: a copy of the database opens nothing.
"""

import hmac
import time
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Engine, Row, Select, bindparam, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.tenancy.granting import may_grant
from beffroi.control.tenancy.members import ACCOUNT, MEMBER
from beffroi.control.tenancy.organisations import ACTIVE
from beffroi.control.tenancy.permissions import READS, Permission, Role, allowed
from beffroi.control.tenancy.scope import CONTROL, EVERY, Actor, Scope, acting
from beffroi.control.tenancy.shapes import AdminKey, AdminKeyAsk, NewAdminKey, shown
from beffroi.core.errors import AuthenticationError, BadRequest
from beffroi.core.ids import new_id
from beffroi.core.key import ADMIN, key_hash, new_key, public_id
from beffroi.store.administration import admin_keys, members, service_accounts
from beffroi.store.engine import glancing
from beffroi.store.tables import organisations, projects
from beffroi.telemetry import logs

if TYPE_CHECKING:
    from beffroi.control.house import House

CALLED = "admin key"
DAY = 86_400
NOTED = 60  # seconds for which a later use of a key is not noted again
REFUSED = "this is no admin key that is good here"
log = logs.Logger("control.admin_keys")
Peppers = dict[int, bytes]


def present(row: Row[Any]) -> AdminKey:
    """A row as it is shown."""
    found: AdminKey = shown(row, AdminKey, state=_state(row))
    return found


def _state(row: Row[Any]) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "active" if row.expires_at > time.time() else "expired"


def create(scope: Scope, ask: AdminKeyAsk, peppers: Peppers) -> NewAdminKey:
    """Make one.

    Raises:
        PermissionDenied: a role beyond the actor's own. BadRequest: a scope that the role has not.
        ObjectNotFound: no such project, or nobody of that id to act as.
    """
    scope.need(Permission.ADMIN_KEYS_WRITE)
    project = scope.project(ask.project) if scope.organisation != EVERY else ""
    only = None if ask.scopes is None else frozenset(ask.scopes)
    _require_principal(scope, ask, project)
    if only is not None and (beyond := only - allowed(ask.role, narrowed=bool(project))):
        raise BadRequest(f"{ask.role} has no permission `{min(beyond)}` to give", param="scopes")
    may_grant(scope, ask.role, project, only)
    newest = max(peppers)
    key, now = new_key(ADMIN), int(time.time())
    identifier = new_id("adk")
    values = {
        "id": identifier,
        "project": project,
        "principal": ask.principal,
        "role": ask.role,
        "name": ask.name,
        "scopes": None if only is None else sorted(only),
        "expires_at": now + ask.expires_in_days * DAY,
    }
    secret = {"public": key.public, "hash": key_hash(key.text, peppers[newest]), "pepper_id": newest}
    made = {"created_at": now, "created_by": scope.actor.id}
    scope.connection.execute(scope.insert(admin_keys, EVERY).values(values | secret | made))
    scope.record("admin-key:create", identifier, after=values | {"public": key.public}, project=project)
    there = present(scope.find(admin_keys, identifier, CALLED))
    return NewAdminKey(**msgspec.structs.asdict(there), key=key.text)


def _require_principal(scope: Scope, ask: AdminKeyAsk, project: str) -> None:
    if not ask.principal:
        return
    if scope.organisation == EVERY:
        raise BadRequest("a key of the whole installation acts as nobody else", param="principal")
    kind = MEMBER if ask.principal.startswith(MEMBER.prefix) else ACCOUNT
    row = scope.find(kind.table, ask.principal, kind.called)
    if row.project not in ("", project):
        raise BadRequest(f"`{row.id}` acts in the project `{row.project}` alone; so must its key", param="project")


def revoke(scope: Scope, identifier: str, *, if_match: int | None = None) -> AdminKey:
    """Refuse one from now on; again without effect.

    Raises:
        PermissionDenied: it may do more than the actor.
    """
    scope.need(Permission.ADMIN_KEYS_WRITE)
    row = scope.find(admin_keys, identifier, CALLED)
    only = None if row.scopes is None else frozenset(map(Permission, row.scopes))
    if scope.actor.id != row.id:  # anybody may give up his own
        may_grant(scope, Role(row.role), row.project, only)
    if row.revoked_at is not None:
        return present(row)
    after = scope.revise(admin_keys, row, if_match=if_match, revoked_at=int(time.time()))
    scope.record("admin-key:revoke", row.id, {"state": _state(row)}, {"state": "revoked"}, project=row.project)
    return present(after)


async def authenticate_admin(house: "House", text: str, address: str) -> Actor:
    """Who shows an admin key; its last use is noted, once a minute at most.

    Args:
        address: whence, for the log.

    Raises:
        AuthenticationError: it is unknown, expired or revoked, or who it acts as is gone. The answer does not say which.
    """
    peppers = house.keys.peppers
    row_id, actor, used_at = await house.blocking(lambda: _recognise(house.engine, text, peppers, address))
    if time.time() - used_at > NOTED:
        try:
            await house.writing(lambda: _note(house.engine, row_id))
        except SQLAlchemyError as error:  # whoever may act is not kept from it by a note
            log.warning("the use of an admin key could not be noted", key=row_id, reason=type(error).__name__)
    return actor


def _known() -> Select[Any]:
    """A key by its public part, with what decides whether it is good; made once: this is asked at every call."""
    k, m, s_, o, p = admin_keys.c, members.c, service_accounts.c, organisations.c, projects.c
    return (
        select(
            admin_keys,
            *(func.coalesce(m[name], s_[name]).label(f"principal_{name}") for name in ("state", "role", "project")),
            o.state.label("organisation_state"),
            p.state.label("project_state"),
        )
        .select_from(
            admin_keys.outerjoin(members, (m.id == k.principal) & (m.organisation == k.organisation))
            .outerjoin(service_accounts, (s_.id == k.principal) & (s_.organisation == k.organisation))
            .outerjoin(organisations, o.id == k.organisation)
            .outerjoin(projects, (p.organisation == k.organisation) & (p.id == k.project))
        )
        .where(k.public == bindparam("public"))
    )


_KNOWN = _known()


def _recognise(engine: Engine, text: str, peppers: Peppers, address: str) -> tuple[str, Actor, int]:
    public = public_id(text, ADMIN)
    if public is None:
        raise AuthenticationError(REFUSED)
    with glancing(engine) as connection:
        row = connection.execute(_KNOWN, {"public": public}).one_or_none()
    pepper = next(iter(peppers.values())) if row is None else peppers.get(row.pepper_id, b"\0" * 32)
    same = hmac.compare_digest(key_hash(text, pepper), b"" if row is None else row.hash)
    actor = _actor(row) if row is not None and same and _state(row) == "active" else None
    if row is None or actor is None:
        log.warning("an admin key was refused", public=public, address=address)
        raise AuthenticationError(REFUSED)
    return row.id, actor, row.used_at or 0


def _actor(row: Row[Any]) -> Actor | None:
    """What the key is now: not more than its principal is now; while its organisation is suspended it only reads."""
    role, only = Role(row.role), None if row.scopes is None else frozenset(map(Permission, row.scopes))
    limits = [] if only is None else [only]
    if row.principal:
        if row.principal_state != ACTIVE or row.principal_project not in ("", row.project):
            return None
        limits.append(allowed(Role(row.principal_role), narrowed=bool(row.principal_project)))
    if row.organisation != EVERY and {row.organisation_state, row.project_state} - {ACTIVE, None}:
        limits.append(READS)
    return Actor(
        row.id,
        row.name,
        role,
        row.organisation,
        row.project,
        door="api",
        only=frozenset.intersection(*limits) if limits else None,
    )


def _note(engine: Engine, row_id: str) -> None:
    now = int(time.time())
    with acting(engine, CONTROL, EVERY) as scope:
        table = admin_keys.c
        stale = or_(table.used_at.is_(None), table.used_at < now - NOTED)
        scope.connection.execute(scope.update(admin_keys).where(table.id == row_id, stale).values(used_at=now))
