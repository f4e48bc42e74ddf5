# SPDX-License-Identifier: Apache-2.0
"""AI systems: what an organisation does with models, for a purpose, and who answers for it. Keys belong to one.

In: a scope, what is asked, the configuration whose models are named. Out: the system as it is then. Blocking.
A model is a tool without a purpose; the system that uses it has one. They are kept apart, and what was served names both.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import Row, func

from beffroi.control.tenancy.organisations import ACTIVE
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import System, SystemAsk, SystemChange, changes, shown
from beffroi.core.errors import BadRequest, Conflict
from beffroi.core.ids import new_id
from beffroi.core.snapshot import Config
from beffroi.store.administration import ai_systems
from beffroi.store.engine import serialise
from beffroi.store.tables import keys

CALLED = "AI system"


def present(row: Row[Any]) -> System:
    """A row as it is shown."""
    found: System = shown(row, System)
    return found


def create(scope: Scope, ask: SystemAsk, config: Config) -> System:
    """Register one.

    Raises:
        Conflict: its name is taken. BadRequest: a model that there is not.
    """
    scope.need_one(Permission.SYSTEMS_WRITE)
    serialise(scope.connection)
    project = scope.project(ask.project)
    values = msgspec.to_builtins(ask) | {"project": project, "models": known(config, ask.models)}
    _must_be_free(scope, ask.name)
    identifier = new_id("sys")
    row = {"id": identifier, "created_at": int(time.time()), "managed_by": scope.keeper}
    scope.connection.execute(scope.insert(ai_systems).values(values | row))
    scope.record("system:create", identifier, after=values, project=project)
    return present(scope.find(ai_systems, identifier, CALLED))


def change(scope: Scope, identifier: str, ask: SystemChange, config: Config, *, if_match: int | None = None) -> System:
    """Say something else of it, or take it out of use. Raises as `create` and `Scope.revise`."""
    scope.need_one(Permission.SYSTEMS_WRITE)
    serialise(scope.connection)
    row = scope.find(ai_systems, identifier, CALLED)
    values = changes(ask)
    if isinstance(ask.models, list):
        values["models"] = known(config, ask.models)
    before = {name: getattr(row, name) for name in values}
    if values == before:
        scope.may_change(row, if_match=if_match)
        return present(row)
    if values.get("name", row.name) != row.name:
        _must_be_free(scope, values["name"], but=row.id)
    after = scope.revise(ai_systems, row, if_match=if_match, **values)
    scope.record("system:update", row.id, before, values, project=row.project)
    return present(after)


def remove(scope: Scope, identifier: str, *, if_match: int | None = None) -> None:
    """Remove one that no living key belongs to; what was served keeps its id.

    Raises:
        Conflict: keys belong to it.
    """
    scope.need_one(Permission.SYSTEMS_WRITE)
    serialise(scope.connection)
    row = scope.find(ai_systems, identifier, CALLED)
    scope.may_change(row, if_match=if_match)
    # Of the whole organisation, whoever asks: a key of another project may belong to it as well.
    mine = (keys.c.organisation == row.organisation, keys.c.system == row.id, keys.c.revoked.is_(False))
    count = scope.connection.scalar(func.count().select().select_from(keys).where(*mine))
    if count:
        raise Conflict(f"{count} keys belong to `{row.name}`; revoke them or give them to another system", param="id")
    scope.connection.execute(scope.delete(ai_systems).where(ai_systems.c.id == row.id))
    scope.record("system:delete", row.id, before={"name": row.name, "purpose": row.purpose}, project=row.project)


def usable(scope: Scope, identifier: str, project: str) -> str:
    """The id of a system that a key of a project may belong to; empty stays empty.

    Raises:
        ObjectNotFound: there is none. BadRequest: it is another project's, or out of use.
    """
    if not identifier:
        return ""
    table = ai_systems.c
    # A system of all projects may be used from each, also by who sees one project alone.
    shared = (table.organisation == scope.organisation, table.id == identifier, table.project == "")
    row = scope.connection.execute(ai_systems.select().where(*shared)).one_or_none()
    row = row or scope.find(ai_systems, identifier, CALLED)
    if row.project not in ("", project):
        raise BadRequest(f"the AI system `{row.name}` is of the project `{row.project}`", param="system")
    if row.state != ACTIVE:
        raise BadRequest(f"the AI system `{row.name}` is out of use", param="system")
    return str(row.id)


def known(config: Config, names: list[str]) -> list[str]:
    """Public ids of models named by any of their names.

    Raises:
        BadRequest: there is none of a name.
    """
    ids = {name: model.id for model in config.models for name in (model.id, *model.aliases)}
    if unknown := [name for name in names if name not in ids]:
        there = ", ".join(f"`{model.id}`" for model in config.models) or "none"
        raise BadRequest(f"there is no model `{unknown[0]}`; there are {there}", param="models")
    return sorted({ids[name] for name in names})


def _must_be_free(scope: Scope, name: str, *, but: str = "") -> None:
    table = ai_systems.c
    there = (table.organisation == scope.organisation, table.name == name, table.id != but)
    if scope.connection.scalar(func.count().select().select_from(ai_systems).where(*there)):
        raise Conflict(f"there is an AI system `{name}` already", param="name")
