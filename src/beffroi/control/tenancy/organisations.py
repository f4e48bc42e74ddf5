# SPDX-License-Identifier: Apache-2.0
"""Organisations: made, renamed, given a policy, suspended and resumed; and which tenants gateways refuse.

In: a scope and what is asked. Out: the organisation as it is then. Blocking, in the scope's transaction.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.control.tenancy.shapes import Organisation, OrganisationAsk, OrganisationChange, Policy, changes, shown
from beffroi.core.errors import Conflict, PermissionDenied
from beffroi.core.ids import new_id
from beffroi.store.engine import serialise
from beffroi.store.tables import organisations, projects

CALLED = "organisation"
ACTIVE, SUSPENDED = "active", "suspended"


def present(row: Row[Any]) -> Organisation:
    """A row as it is shown."""
    found: Organisation = shown(row, Organisation)
    return found


def create(scope: Scope, ask: OrganisationAsk) -> Organisation:
    """Make one. The scope is one of all organisations.

    Raises:
        Conflict: its id is taken.
    """
    scope.need(Permission.INSTALLATION_WRITE)
    if scope.organisation != EVERY:
        raise PermissionDenied("an organisation is made by an operator, in the organisation `*`")
    serialise(scope.connection)
    identifier = ask.id or new_id("org")
    if scope.connection.scalar(select(organisations.c.id).where(organisations.c.id == identifier)) is not None:
        raise Conflict(f"there is an organisation `{identifier}` already", param="id")
    policy = msgspec.to_builtins(ask.policy.checked())
    scope.connection.execute(
        scope.insert(organisations, identifier).values(
            id=identifier, name=ask.name, created_at=int(time.time()), policy=policy, managed_by=scope.keeper
        )
    )
    with scope.within(identifier) as inner:
        inner.record("organisation:create", identifier, after={"name": ask.name, "policy": policy})
        return present(inner.find(organisations, identifier, CALLED))


def change(scope: Scope, identifier: str, ask: OrganisationChange, *, if_match: int | None = None) -> Organisation:
    """Rename it, or give it another policy. Raises as `Scope.revise`."""
    scope.need_one(Permission.ORGANISATION_WRITE)
    row = scope.find(organisations, identifier, CALLED)
    values = changes(ask)
    if isinstance(ask.policy, Policy):
        values["policy"] = msgspec.to_builtins(ask.policy.checked())
    before = {name: getattr(row, name) for name in values}
    if values == before:
        scope.may_change(row, if_match=if_match)
        return present(row)
    after = scope.revise(organisations, row, if_match=if_match, **values)
    scope.record("organisation:update", row.id, before, values)
    return present(after)


def suspend(scope: Scope, identifier: str, *, if_match: int | None = None) -> Organisation:
    """Have every gateway refuse its keys, once workers are told (`Keys.follow_tenants`)."""
    return _turn(scope, identifier, SUSPENDED, if_match)


def resume(scope: Scope, identifier: str, *, if_match: int | None = None) -> Organisation:
    """Serve it again."""
    return _turn(scope, identifier, ACTIVE, if_match)


def _turn(scope: Scope, identifier: str, state: str, if_match: int | None) -> Organisation:
    scope.need_one(Permission.INSTALLATION_WRITE)
    row = scope.find(organisations, identifier, CALLED)
    scope.may_change(row, if_match=if_match, anyone=True)
    if row.state == state:  # asked again, because an earlier answer was lost or a worker had not confirmed
        return present(row)
    after = scope.revise(organisations, row, anyone=True, state=state)
    verb = "suspend" if state == SUSPENDED else "resume"
    scope.record(f"organisation:{verb}", row.id, {"state": row.state}, {"state": state})
    return present(after)


def policy(scope: Scope) -> Policy:
    """What the keys of the scope's organisation must obey."""
    row = scope.find(organisations, scope.organisation, CALLED)
    return msgspec.convert(row.policy, Policy)


def closed(connection: Connection) -> frozenset[str]:
    """Which tenants gateways refuse: `organisation`, or `organisation/project`. Of the whole house: not for pages."""
    whole = connection.execute(select(organisations.c.id).where(organisations.c.state != ACTIVE)).scalars()
    parts = connection.execute(select(projects.c.organisation, projects.c.id).where(projects.c.state != ACTIVE))
    return frozenset(whole) | frozenset(f"{row.organisation}/{row.id}" for row in parts)
