# SPDX-License-Identifier: Apache-2.0
"""Plans and applies within one process, on a real database: what the service does, without the doors around it.

In: an engine. Out: `Ground`.
"""

import time
from typing import Any

from sqlalchemy import Engine

from beffroi.control.declare import service
from beffroi.control.declare.diff import APPLY
from beffroi.control.declare.export import export
from beffroi.control.declare.making import Work
from beffroi.control.declare.shapes import Applied, ApplyAsk, PlanAsk, PlanShown
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import EVERY, Actor, Scope, acting, looking
from beffroi.core.snapshot import Config, EngineSpec, ModelSpec, Settings, Target
from beffroi.store import tables as t
from beffroi.store.vault import Vault

ZONE = "Europe/Paris"
OPERATOR = Actor("cli", "cli", Role.OPERATOR, EVERY, door=APPLY)
CONFIG = Config(
    1,
    Settings(time_zone=ZONE),
    (EngineSpec("gpu", "http://127.0.0.1:1"),),
    (
        ModelSpec("small", (Target("gpu", "s"),), aliases=("chat",)),
        ModelSpec("large", (Target("gpu", "l"),)),
    ),
)  # fmt: skip


class Ground:
    """A database, and somebody who applies documents to it."""

    def __init__(self, engine: Engine, vault: Vault, actor: Actor = OPERATOR) -> None:
        self.engine, self.vault, self.actor = engine, vault, actor

    def plan(self, document: Any, *, prune: bool = False, adopt: bool = False) -> PlanShown:
        with looking(self.engine, self.actor, self.actor.organisation) as scope:
            return service.plan(scope, PlanAsk(document, prune, adopt), CONFIG, int(time.time())).shown

    def apply(self, document: Any, *, prune: bool = False, adopt: bool = False, base: str | None = None) -> Applied:
        with acting(self.engine, self.actor, self.actor.organisation) as scope:
            keeper = Scope(scope.connection, self.actor, scope.organisation, keeper=APPLY)
            work = Work(
                config=CONFIG, pepper=(1, bytes(32)), known=known, begin=lambda slot: None, vault=self.vault,
                now=int(time.time()),
            )  # fmt: skip
            return service.apply(keeper, ApplyAsk(document, prune, adopt, base), work)

    def export(self, organisation: str = EVERY) -> dict[str, Any]:
        with looking(self.engine, self.actor, organisation) as scope:
            return export(scope, ZONE, int(time.time()))

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table of tenants."""
        with self.engine.connect() as connection:
            return {
                name: sorted((tuple(map(repr, row)) for row in connection.execute(table.select())), key=repr)
                for name, table in t.metadata.tables.items()
            }


def known(names: list[str] | None) -> list[str] | None:
    """From names of models to their ids."""
    ids = {name: model.id for model in CONFIG.models for name in (model.id, *model.aliases)}
    return None if names is None else sorted({ids[name] for name in names})
