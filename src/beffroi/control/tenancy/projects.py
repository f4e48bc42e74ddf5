# SPDX-License-Identifier: Apache-2.0
"""Projects of an organisation: made, renamed, suspended and resumed, removed while nothing is in them.

In: a scope and what is asked. Out: the project as it is then. Blocking, in the scope's transaction.
"""

import time
from typing import Any

from sqlalchemy import Row, Table, func

from beffroi.control.tenancy.organisations import ACTIVE, SUSPENDED
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import Project, ProjectAsk, ProjectChange, changes, shown
from beffroi.core.errors import Conflict, PermissionDenied
from beffroi.core.ids import new_id
from beffroi.store import administration as a
from beffroi.store.engine import serialise
from beffroi.store.tables import keys, projects

CALLED = "project"
INSIDE: tuple[tuple[Table, str], ...] = (
    (keys, "API keys"),
    (a.members, "members"),
    (a.service_accounts, "service accounts"),
    (a.ai_systems, "AI systems"),
    (a.admin_keys, "admin keys"),
    (a.quotas, "quotas"),
)


def present(row: Row[Any]) -> Project:
    """A row as it is shown."""
    found: Project = shown(row, Project)
    return found


def create(scope: Scope, ask: ProjectAsk) -> Project:
    """Make one.

    Raises:
        Conflict: its id is taken in this organisation.
    """
    scope.need_one(Permission.PROJECTS_WRITE)
    if scope.actor.project:
        raise PermissionDenied(f"{scope.actor.name} acts in one project; projects are made by who acts in all")
    serialise(scope.connection)
    identifier = ask.id or new_id("prj")
    if scope.connection.scalar(scope.select(projects, projects.c.id).where(projects.c.id == identifier)) is not None:
        raise Conflict(f"there is a project `{identifier}` in `{scope.organisation}` already", param="id")
    row = {"id": identifier, "name": ask.name, "created_at": int(time.time()), "managed_by": scope.keeper}
    scope.connection.execute(scope.insert(projects).values(row))
    scope.record("project:create", identifier, after={"name": ask.name}, project=identifier)
    return present(scope.find(projects, identifier, CALLED))


def change(scope: Scope, identifier: str, ask: ProjectChange, *, if_match: int | None = None) -> Project:
    """Rename it. Raises as `Scope.revise`."""
    scope.need_one(Permission.PROJECTS_WRITE)
    row = scope.find(projects, identifier, CALLED)
    values = changes(ask)
    before = {name: getattr(row, name) for name in values}
    if values == before:
        scope.may_change(row, if_match=if_match)
        return present(row)
    after = scope.revise(projects, row, if_match=if_match, **values)
    scope.record("project:update", row.id, before, values, project=row.id)
    return present(after)


def suspend(scope: Scope, identifier: str, *, if_match: int | None = None) -> Project:
    """Have every gateway refuse its keys, once workers are told (`Keys.follow_tenants`)."""
    return _turn(scope, identifier, SUSPENDED, if_match)


def resume(scope: Scope, identifier: str, *, if_match: int | None = None) -> Project:
    """Serve it again."""
    return _turn(scope, identifier, ACTIVE, if_match)


def _turn(scope: Scope, identifier: str, state: str, if_match: int | None) -> Project:
    scope.need_one(Permission.PROJECTS_WRITE)
    row = scope.find(projects, identifier, CALLED)
    scope.may_change(row, if_match=if_match, anyone=True)
    if row.state == state:
        return present(row)
    after = scope.revise(projects, row, anyone=True, state=state)
    verb = "suspend" if state == SUSPENDED else "resume"
    scope.record(f"project:{verb}", row.id, {"state": row.state}, {"state": state}, project=row.id)
    return present(after)


def remove(scope: Scope, identifier: str, *, if_match: int | None = None) -> None:
    """Remove an empty one.

    Raises:
        Conflict: something is in it still, or was: keys stay after their revocation, as records name them.
    """
    scope.need_one(Permission.PROJECTS_WRITE)
    serialise(scope.connection)
    row = scope.find(projects, identifier, CALLED)
    scope.may_change(row, if_match=if_match)
    for table, called in INSIDE:
        inside = scope.select(table, func.count()).where(table.c.project == row.id)
        if count := scope.connection.scalar(inside.where(table.c.organisation == row.organisation)):
            raise Conflict(f"the project `{row.id}` has {called} ({count}); suspend it instead", param="id")
    statement = scope.delete(projects).where(projects.c.id == row.id, projects.c.organisation == row.organisation)
    scope.connection.execute(statement)
    scope.record("project:delete", row.id, before={"name": row.name}, project=row.id)
