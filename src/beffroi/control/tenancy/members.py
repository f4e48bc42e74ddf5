# SPDX-License-Identifier: Apache-2.0
"""Members and service accounts: people and programs that act in an organisation, each with a role, perhaps in one project.

In: a scope and what is asked. Out: the member or account as it is then. Blocking, in the scope's transaction.
Nobody gives, changes or takes away a role beyond his own, and the last owner of an organisation stays one.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import Row, Table, func

from beffroi.control.tenancy.granting import may_grant
from beffroi.control.tenancy.organisations import ACTIVE
from beffroi.control.tenancy.permissions import Permission, Role
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import (
    Account,
    AccountAsk,
    AccountChange,
    Member,
    MemberAsk,
    MemberChange,
    changes,
    shown,
)
from beffroi.core.errors import Conflict
from beffroi.core.ids import new_id
from beffroi.store.administration import members, service_accounts
from beffroi.store.engine import serialise


class Kind(msgspec.Struct, frozen=True):
    """What differs between the two. `unique`: the column that one organisation has once (a member: in each project)."""

    table: Table
    called: str
    word: str
    prefix: str
    unique: str
    needs: Permission
    shape: type[Any]

    def present(self, row: Row[Any]) -> Any:
        """A row as it is shown."""
        return shown(row, self.shape)


MEMBER = Kind(members, "member", "member", "mem", "email", Permission.MEMBERS_WRITE, Member)
ACCOUNT = Kind(
    service_accounts,
    "service account",
    "service-account",
    "sva",
    "name",
    Permission.SERVICE_ACCOUNTS_WRITE,
    Account,
)


def create(scope: Scope, ask: MemberAsk | AccountAsk) -> Any:
    """Add one.

    Raises:
        Conflict: the address is a member there already, or the name is taken. PermissionDenied: a role beyond the
            actor's own.
    """
    kind = MEMBER if isinstance(ask, MemberAsk) else ACCOUNT
    scope.need_one(kind.needs)
    serialise(scope.connection)
    project = scope.project(ask.project)
    may_grant(scope, ask.role, project)
    values = msgspec.to_builtins(ask) | {"project": project}
    if isinstance(ask, MemberAsk):
        values["email"] = ask.email.lower()
    _must_be_free(scope, kind, values[kind.unique], project)
    identifier = new_id(kind.prefix)
    row = {"id": identifier, "created_at": int(time.time()), "managed_by": scope.keeper}
    scope.connection.execute(scope.insert(kind.table).values(values | row))
    scope.record(f"{kind.word}:create", identifier, after=values, project=project)
    return kind.present(scope.find(kind.table, identifier, kind.called))


def _must_be_free(scope: Scope, kind: Kind, value: str, project: str, *, but: str = "") -> None:
    """Names of accounts are taken by those of every project, so the wall of a project says no more than that."""
    table = kind.table
    there = (table.c.organisation == scope.organisation, table.c[kind.unique] == value, table.c.id != but)
    query = func.count().select().select_from(table).where(*there)
    if kind is MEMBER:
        query = query.where(table.c.project == project)
    if scope.connection.scalar(query):
        raise Conflict(f"there is a {kind.called} `{value}` already", param=kind.unique)


def change(scope: Scope, identifier: str, ask: MemberChange | AccountChange, *, if_match: int | None = None) -> Any:
    """Rename one, give it another role, suspend or resume it. Raises as `create` and `Scope.revise`."""
    kind = MEMBER if isinstance(ask, MemberChange) else ACCOUNT
    scope.need_one(kind.needs)
    serialise(scope.connection)
    row = scope.find(kind.table, identifier, kind.called)
    may_grant(scope, Role(row.role), row.project)
    values = changes(ask)
    if "role" in values:
        may_grant(scope, Role(values["role"]), row.project)
    before = {name: getattr(row, name) for name in values}
    if values == before:
        scope.may_change(row, if_match=if_match)
        return kind.present(row)
    if kind is ACCOUNT and values.get("name", row.name) != row.name:
        _must_be_free(scope, kind, values["name"], row.project, but=row.id)
    after = scope.revise(kind.table, row, if_match=if_match, **values)
    _must_leave_an_owner(scope, kind, row)
    scope.record(f"{kind.word}:update", row.id, before, values, project=row.project)
    return kind.present(after)


def remove(scope: Scope, kind: Kind, identifier: str, *, if_match: int | None = None) -> None:
    """Remove one; admin keys that act as it are refused from then on. Raises as `change`."""
    scope.need_one(kind.needs)
    serialise(scope.connection)
    row = scope.find(kind.table, identifier, kind.called)
    may_grant(scope, Role(row.role), row.project)
    scope.may_change(row, if_match=if_match)
    scope.connection.execute(scope.delete(kind.table).where(kind.table.c.id == row.id))
    _must_leave_an_owner(scope, kind, row)
    before = {kind.unique: getattr(row, kind.unique), "role": row.role}
    scope.record(f"{kind.word}:delete", row.id, before=before, project=row.project)


def _must_leave_an_owner(scope: Scope, kind: Kind, row: Row[Any]) -> None:
    """An operator may leave none: he can make another."""
    if kind is not MEMBER or row.role != Role.OWNER or row.project or scope.actor.role == Role.OPERATOR:
        return
    owners = scope.select(members, func.count()).where(
        members.c.role == Role.OWNER, members.c.project == "", members.c.state == ACTIVE
    )
    if not scope.connection.scalar(owners):
        raise Conflict(f"`{row.email}` is the last owner; make somebody else one first", param="role")
