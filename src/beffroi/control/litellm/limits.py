# SPDX-License-Identifier: Apache-2.0
"""Limits of teams and `/budget/…`: a team's limits are a quota on its project, a budget with an id is a tier.

In: fields of asks. Out: quotas and tiers in the transaction of the ask; `follow` tells gateways once it is committed.
"""

import secrets
import time
from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control.keyshapes import BUDGETS
from beffroi.control.litellm import terms
from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.convert import convert
from beffroi.control.quotas import service, tiers
from beffroi.control.quotas.shapes import QuotaAsk, QuotaChange, TierAsk
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.core.money import to_decimal
from beffroi.store.administration import quotas

_FIELDS = frozenset({"max_budget", "budget_duration", *terms.NAMES})


def _when(asked: str | int | None, _: str) -> int:
    return 0 if asked is None else int(asked)


def keep(scope: Scope, ask: Ask, given: dict[str, Any], *, project: str) -> None:
    """Have a project limited as a team's fields say; what they do not say stays."""
    tier = given.get("budget_id")
    said = terms.limits({name: given[name] for name in _FIELDS & given.keys()})
    if tier and any(value is not None for value in said.values()):
        raise BadRequest("a team has the limits of `budget_id`, or limits of its own, not both", param="budget_id")
    if tier:
        _put(scope, ask, [{"tier": str(tier)}], project=project)
    elif said:
        patched = _before(scope, project) | said
        whole = {name: value for name, value in patched.items() if value is not None}
        if whole.keys() <= {"budget_period"}:
            _remove(scope, ask, project)
        else:
            _put(scope, ask, [{"limits": whole}], project=project)


def assign(scope: Scope, ask: Ask, tier: str, *, key: str) -> None:
    """Have a key limited by a tier, beside its own limits."""
    _put(scope, ask, [{"tier": tier}], key=key)


def _put(scope: Scope, ask: Ask, said: list[dict[str, Any]], *, project: str = "", key: str = "") -> None:
    row = _found(scope, project=project, key=key)
    if row is None:
        asked = convert({"project": project, "key": key, "terms": said}, QuotaAsk)
        made = service.create(scope, asked, ask.house.config, _when, ask.house.budgets.begin)
        ask.quotas.append(made.id)
    else:
        service.change(scope, row.id, convert({"terms": said}, QuotaChange), _when)
        ask.quotas.append(row.id)


def _remove(scope: Scope, ask: Ask, project: str) -> None:
    row = _found(scope, project=project)
    if row is not None:
        service.remove(scope, row.id)
        ask.quotas.append(row.id)


def _found(scope: Scope, *, project: str = "", key: str = "") -> Row[Any] | None:
    query = scope.select(quotas).where(quotas.c.key_id == key, quotas.c.model == "", quotas.c.each_end_user.is_(False))
    if not key:
        query = query.where(quotas.c.project == project)
    return scope.connection.execute(query).one_or_none()


def _before(scope: Scope, project: str) -> dict[str, Any]:
    """The limits that a project's quota has now, as people write them."""
    stored = _in_force(scope, project)
    found = {name: value for name, value in stored.items() if name != "budget_period" and value is not None}
    for name in found.keys() & set(BUDGETS):
        found[name] = f"{to_decimal(found[name]):f}"
    return found | ({"budget_period": stored["budget_period"]} if "budget_period" in stored else {})


def _in_force(scope: Scope, project: str) -> dict[str, Any]:
    row = _found(scope, project=project)
    if row is None:
        return {}
    now = service.present(scope, [row])[0].in_force
    return {} if now is None else msgspec.to_builtins(now.limits)


def of_project(scope: Scope, project: str) -> dict[str, Any]:
    """The limits of a team, by LiteLLM's names."""
    return terms.shown(_in_force(scope, project))


async def follow(ask: Ask) -> None:
    """Tell gateways of the quotas that an ask changed."""
    await ask.house.keys.follow_quotas(ask.quotas)


async def new(ask: Ask) -> dict[str, Any]:
    """Make a budget, or change one: the next version of a tier, in force at once."""
    given = ask.given
    name = given.get("budget_id") or f"budget-{secrets.token_hex(4)}"
    said = {limit: value for limit, value in terms.limits(given).items() if value is not None}
    if said.keys() <= {"budget_period"}:
        raise BadRequest("a budget limits something: say max_budget, tpm_limit or another", param="max_budget")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Any]]:
        asked = convert({"name": name, "limits": said, "effective": int(time.time())}, TierAsk)
        _, changed = tiers.create(scope, asked, _when)
        ask.quotas.extend(changed)
        return _budget(scope, str(name)), []

    shown = await ask.act(work)
    await follow(ask)
    return shown


async def info(ask: Ask) -> list[dict[str, Any]]:
    """Budgets by their ids."""
    wanted = ask.given.get("budgets")
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted) or len(wanted) > 200:
        raise BadRequest("`budgets` is a list of ids", param="budgets")
    return await ask.read(lambda scope: [_budget(scope, name) for name in wanted])


def _budget(scope: Scope, name: str) -> dict[str, Any]:
    versions = [tier for tier in tiers.find(scope, name) if tier.state == "in force"]
    if not versions:
        raise ObjectNotFound(f"the budget `{name}` is not in force", param="budget_id")
    tier = versions[-1]
    return {
        "budget_id": tier.name,
        "created_at": terms.moment(tier.created_at),
        **terms.shown(msgspec.to_builtins(tier.limits)),
    }
