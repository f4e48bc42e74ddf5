# SPDX-License-Identifier: Apache-2.0
"""Operations on tiers and quotas.

In: calls. Out: what the services answer, once every worker has been told; `waiting` names those that have not confirmed.
"""

from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.ledger import moment
from beffroi.control.quotas import service, tiers
from beffroi.control.quotas.compiling import records
from beffroi.control.quotas.shapes import (
    Assign,
    Quota,
    QuotaAsk,
    QuotaChange,
    Standing,
    Tier,
    TierAsk,
    Use,
    UserQuery,
)
from beffroi.control.quotas.tiers import When
from beffroi.control.tenancy.permissions import P
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.gateway.quota.scopes import in_force, quota_account
from beffroi.store.administration import quotas
from beffroi.store.administration import tiers as tiers_table


def _when(call: Call) -> When:
    zone = call.house.config.settings.time_zone

    def read(asked: str | int | None, name: str) -> int:
        return 0 if asked is None else moment(str(asked), name, zone) or 0

    return read


async def list_tiers(call: Call) -> Listed[list[Tier]]:
    """A page of tiers, each with all its versions."""
    key = tiers_table.c.organisation, tiers_table.c.name

    def ask(scope: Any) -> tuple[list[Row[Any]], list[Row[Any]]]:
        rows = scope.connection.execute(call.page.window(tiers.names(scope), *key)).all()
        return rows, tiers.versions_of(scope, rows)

    rows, versions = await call.read(ask)
    by_name: dict[tuple[str, str], list[Tier]] = {}
    for tier in tiers.present(versions):
        by_name.setdefault((tier.organisation, tier.name), []).append(tier)
    return call.listed(rows, lambda row: by_name.get((row.organisation, row.name), []), "organisation", "name")


async def show_tier(call: Call) -> list[Tier]:
    """Every version."""
    return await call.read(lambda scope: tiers.find(scope, call.path["name"]))


async def create_tier(call: Call) -> Tier:
    """A version."""
    made, changed = await call.act(lambda scope: tiers.create(scope, call.ask, _when(call)))
    await call.house.keys.follow_quotas(changed)
    return made


async def delete_tier(call: Call) -> None:
    """A version."""
    name, version = call.path["name"], call.path["version"]
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise ObjectNotFound(f"there is no version `{version}` of a tier", param="version")
    changed = await call.act(lambda scope: tiers.remove(scope, name, int(version)))
    await call.house.keys.follow_quotas(changed)


async def assign_tier(call: Call) -> Quota:
    """From a moment on."""
    house = call.house
    made = await call.act(
        lambda scope: service.assign(scope, call.path["name"], call.ask, house.config, _when(call), house.budgets.begin)
    )
    return await _told(call, made)


async def list_quotas(call: Call) -> Listed[Quota]:
    """A page of them."""

    def ask(scope: Any) -> tuple[list[Row[Any]], dict[str, Quota]]:
        rows = scope.connection.execute(call.page.window(scope.select(quotas), quotas.c.id)).all()
        return rows, {quota.id: quota for quota in service.present(scope, rows)}

    rows, shown = await call.read(ask)
    return call.listed(rows, lambda row: shown[row.id], "id")


async def show_quota(call: Call) -> Quota:
    """One."""
    return await call.read(
        lambda scope: service.present(scope, [scope.find(quotas, call.path["id"], service.CALLED)])[0]
    )


async def create_quota(call: Call) -> Quota:
    """In force as soon as workers know it, or from its first term on."""
    house = call.house
    made = await call.act(lambda scope: service.create(scope, call.ask, house.config, _when(call), house.budgets.begin))
    return await _told(call, made)


async def change_quota(call: Call) -> Quota:
    """What was counted counts on."""
    made = await call.act(
        lambda scope: service.change(scope, call.path["id"], call.ask, _when(call), if_match=call.if_match)
    )
    return await _told(call, made)


async def delete_quota(call: Call) -> None:
    """Nothing is limited by it any more."""
    identifier = call.path["id"]
    await call.act(lambda scope: service.remove(scope, identifier, if_match=call.if_match))
    await call.house.keys.follow_quotas([identifier])


async def show_standing(call: Call) -> Standing:
    """What is used of it now."""
    identifier, user = call.path["id"], call.query.end_user

    def ask(scope: Any) -> Any:
        scope.find(quotas, identifier, service.CALLED)
        return records(scope, [identifier])

    found = await call.read(ask)
    if not found:
        raise ObjectNotFound(f"the quota `{identifier}` is not in force", param="id")
    record, budgets = found[0], call.house.budgets
    if user is not None and not record.each_end_user:
        raise BadRequest("this quota does not count end users apart", param="end_user")
    limits, tier, _ = in_force(record, budgets.now_s())
    account = quota_account(record, limits, user)
    uses = await call.house.blocking(lambda: budgets.standing(account))
    return Standing(
        id=identifier,
        scope=account.of.removeprefix("of "),
        tier=tier,
        end_users=budgets.end_users(record.slot) if record.each_end_user else None,
        uses=[
            Use(limit=use.name, allowed=use.limit, used=use.used, left=use.remaining, resets_in=use.resets_in)
            for use in uses
        ],
    )


async def _told(call: Call, made: Quota) -> Quota:
    waiting = await call.house.keys.follow_quotas([made.id])
    return msgspec.structs.replace(made, waiting=waiting)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/tiers", list_tiers, P.TIERS_READ, "Tiers that one may see, the house's too, each with its versions.",
        answer=list[Tier], paged=True,
    ),
    Operation("GET", "/tiers/{name}", show_tier, P.TIERS_READ, "Every version of one tier.", answer=list[Tier]),
    Operation(
        "POST", "/tiers", create_tier, P.TIERS_WRITE, "Make a tier, or its next version.",
        ask=TierAsk, answer=Tier, status=201,
    ),
    Operation(
        "DELETE", "/tiers/{name}/versions/{version}", delete_tier, P.TIERS_WRITE,
        "Take back a version that has not begun, or one that no quota names.", status=204,
    ),
    Operation(
        "POST", "/tiers/{name}/assign", assign_tier, P.QUOTAS_WRITE,
        "Give the organisation, or one of its projects, a tier from a moment on; now, if none is said.",
        ask=Assign, answer=Quota, repeats=True,
    ),
    Operation("GET", "/quotas", list_quotas, P.QUOTAS_READ, "Quotas that one may see.", answer=Quota, paged=True),
    Operation("GET", "/quotas/{id}", show_quota, P.QUOTAS_READ, "One quota.", answer=Quota),
    Operation(
        "POST", "/quotas", create_quota, P.QUOTAS_WRITE, "Limit a scope.", ask=QuotaAsk, answer=Quota, status=201
    ),
    Operation(
        "PATCH", "/quotas/{id}", change_quota, P.QUOTAS_WRITE, "Replace the terms of a quota, or add one.",
        ask=QuotaChange, answer=Quota,
    ),
    Operation(
        "DELETE", "/quotas/{id}", delete_quota, P.QUOTAS_WRITE, "Remove a quota; what it counted is forgotten.", status=204
    ),
    Operation(
        "GET", "/quotas/{id}/standing", show_standing, P.QUOTAS_READ, "What is used of a quota, left, and when it returns.",
        query=UserQuery, answer=Standing,
    ),
)  # fmt: skip
