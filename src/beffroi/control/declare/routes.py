# SPDX-License-Identifier: Apache-2.0
"""Operations of plans: `/plan`, `/apply`, `/export`.

In: calls. Out: what `service` answers; gateways told of keys, suspended tenants and quotas once it is done.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control.api.operation import Call, Operation
from beffroi.control.declare import service
from beffroi.control.declare.diff import APPLY
from beffroi.control.declare.export import export
from beffroi.control.declare.making import Work
from beffroi.control.declare.shapes import Applied, ApplyAsk, Exported, PlanAsk, PlanShown
from beffroi.control.keys import By
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope, looking

MOST = 4 << 20  # bytes of a document


async def plan(call: Call) -> PlanShown:
    """What an `apply` of the document would change."""
    config = call.house.config

    def ask() -> PlanShown:
        with looking(call.house.engine, call.actor, call.actor.organisation) as scope:
            return service.plan(scope, call.ask, config, int(time.time())).shown

    return await call.house.blocking(ask)


async def apply(call: Call) -> Applied:
    """Make tenants what the document declares: all of it or nothing."""
    house = call.house
    actor = msgspec.structs.replace(call.actor, door=APPLY)
    keys = house.keys

    quotas: list[str] = []

    def run(scope: Scope) -> tuple[Applied, list[Row[Any]]]:
        work = Work(
            config=house.config,
            pepper=keys.pepper(),
            known=keys.known,
            begin=house.budgets.begin,
            vault=house.vault,
            now=int(time.time()),
        )
        keeper = Scope(scope.connection, actor, scope.organisation, keeper=APPLY)
        done = service.apply(keeper, call.ask, work)
        quotas.extend(work.quotas)
        return done, work.rows

    applied, revision = await keys.act(By(actor, actor.organisation, call.keep), run)
    waiting = {*await keys.hold(revision), *await keys.follow_tenants(), *await keys.follow_quotas(quotas)}
    await keys.fill_budgets()
    return msgspec.structs.replace(applied, waiting=tuple(sorted(waiting)))


async def exported(call: Call) -> Exported:
    """A document that declares what is there."""
    zone = call.house.config.settings.time_zone

    def ask() -> Exported:
        with looking(call.house.engine, call.actor, call.organisation) as scope:
            return Exported(export(scope, zone, int(time.time())))

    return await call.house.blocking(ask)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/plan",
        plan,
        Permission.RESOURCES_READ,
        "What applying a file of tenants would change; nothing is changed.",
        ask=PlanAsk,
        answer=PlanShown,
        most=MOST,
        repeats=True,
    ),
    Operation(
        "POST",
        "/apply",
        apply,
        Permission.RESOURCES_WRITE,
        "Make tenants what a file declares, all of it or nothing; keys that are made are in this answer and nowhere else.",
        ask=ApplyAsk,
        answer=Applied,
        most=MOST,
    ),
    Operation(
        "GET",
        "/export",
        exported,
        Permission.RESOURCES_READ,
        "A file of tenants that declares what is there: of one organisation, or of all that may be seen.",
        answer=Exported,
    ),
)
