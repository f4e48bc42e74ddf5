# SPDX-License-Identifier: Apache-2.0
"""Tiers: limits under a name, in versions with the moment from which each holds.

In: a scope and what is asked. Out: the version as it is then, and which quotas it changes. Blocking, in the scope's
transaction. A version that has been in force stays: what was allowed then can be read for ever.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Row, func

from beffroi.control.quotas.compiling import OPERATORS
from beffroi.control.quotas.shapes import Moment, Tier, TierAsk
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest, Conflict, ObjectNotFound, PermissionDenied
from beffroi.core.money import parse_nano
from beffroi.core.snapshot import Limits
from beffroi.store.administration import quota_terms, quotas, tiers
from beffroi.store.engine import serialise

CALLED = "tier"
When = Callable[[Moment | None, str], int]  # a moment as it was asked, the name of its field


def create(scope: Scope, ask: TierAsk, when: When) -> tuple[Tier, list[str]]:
    """Make a tier, or its next version; also the ids of the quotas that it changes.

    Raises:
        BadRequest: a moment or an amount that is none.
    """
    scope.need(Permission.INSTALLATION_WRITE if scope.organisation == EVERY else Permission.TIERS_WRITE)
    serialise(scope.connection)
    effective = when(ask.effective, "effective")
    there = _versions(scope, ask.name)
    before = [row for row in there if row.organisation == scope.organisation]
    _must_be_free(scope, ask.name, there)
    for row in before:
        if row.managed_by not in ("", scope.keeper):
            raise Conflict(f"the tier `{ask.name}` is kept by a file; change it there", param="name")
    values: dict[str, Any] = {
        "name": ask.name,
        "version": max((row.version for row in before), default=0) + 1,
        "effective_at": effective,
        "title": ask.title,
        "limits": msgspec.to_builtins(ask.limits.limits()),
        "credit_nano": _credit(ask),
        "created_at": int(time.time()),
        "managed_by": scope.keeper,
    }
    scope.connection.execute(scope.insert(tiers, EVERY).values(values))
    shown = {name: values[name] for name in ("version", "effective_at", "title", "limits", "credit_nano")}
    scope.record("tier:create", ask.name, after=shown)
    made = next(
        tier
        for tier in present(_versions(scope, ask.name))
        if (tier.organisation, tier.version) == (scope.organisation, values["version"])
    )
    return made, _users(scope, ask.name)


def remove(scope: Scope, name: str, version: int) -> list[str]:
    """Take back a version that has not begun, or one of a tier that no quota names; the ids of the quotas it changes.

    Raises:
        ObjectNotFound: there is none. Conflict: it is or was in force, and quotas name it.
    """
    scope.need(Permission.INSTALLATION_WRITE if scope.organisation == EVERY else Permission.TIERS_WRITE)
    serialise(scope.connection)
    rows = _versions(scope, name)
    row = next((row for row in rows if row.organisation == scope.organisation and row.version == version), None)
    if row is None:
        raise ObjectNotFound(f"there is no version {version} of a tier `{name}` here", param="version")
    if row.managed_by not in ("", scope.keeper):
        raise Conflict(f"the tier `{name}` is kept by a file; change it there", param="name")
    _must_be_free(scope, name, rows)
    users = _users(scope, name)
    if users and row.effective_at <= time.time():
        raise Conflict(
            f"{len(users)} quotas have the tier `{name}`, and this version has been in force", param="version"
        )
    own = tiers.c.name == name, tiers.c.version == version, tiers.c.organisation == scope.organisation
    scope.connection.execute(scope.delete(tiers).where(*own))
    scope.record("tier:delete", name, before={"version": version, "effective_at": row.effective_at})
    return users


def _must_be_free(scope: Scope, name: str, there: list[Row[Any]]) -> None:
    """What an operator limits by an organisation's own tier, it cannot change; where the house has one, that is meant.

    Raises:
        PermissionDenied: a quota that an operator has set names the tier.
    """
    if scope.actor.organisation == EVERY or any(row.organisation == EVERY for row in there):
        return
    named = scope.select(quota_terms, quota_terms.c.quota).where(quota_terms.c.tier == name)
    his = scope.select(quotas, quotas.c.id).where(quotas.c.managed_by.in_(OPERATORS), quotas.c.id.in_(named))
    if (found := scope.connection.scalar(his.limit(1))) is not None:
        raise PermissionDenied(
            f"the operator of the installation limits `{found}` by the tier `{name}`; ask there to change it",
            param="name",
        )


def find(scope: Scope, name: str) -> list[Tier]:
    """Every version of a tier that may be seen, the newest last.

    Raises:
        ObjectNotFound: there is none.
    """
    found = present(_versions(scope, name))
    if not found:
        raise ObjectNotFound(f"there is no tier `{name}`; `beffroi tiers list` shows those there are", param="tier")
    return found


def present(rows: list[Row[Any]]) -> list[Tier]:
    """Rows of whole tiers (every version) as they are shown."""
    now = time.time()
    states: dict[tuple[str, str, int], str] = {}
    by_moment: dict[tuple[str, str], dict[int, int]] = {}
    for row in sorted(rows, key=lambda each: int(each.version)):
        by_moment.setdefault((row.organisation, row.name), {})[row.effective_at] = row.version
    for owner, moments in by_moment.items():
        begun = [at for at in moments if at <= now]
        for at, version in moments.items():
            state = "coming" if at > now else "in force" if at == max(begun) else "past"
            states[*owner, version] = state
    return [
        Tier(
            organisation=row.organisation,
            name=row.name,
            version=row.version,
            title=row.title,
            effective_at=row.effective_at,
            limits=msgspec.convert(row.limits, Limits),
            credit_nano=row.credit_nano,
            created_at=row.created_at,
            managed_by=row.managed_by,
            state=states.get((row.organisation, row.name, row.version), "replaced"),
        )
        for row in rows
    ]


def names(scope: Scope) -> Any:
    """A query of the tiers that may be seen, each once, for a page of them."""
    return scope.select(tiers, tiers.c.organisation, tiers.c.name).distinct()


def versions_of(scope: Scope, found: list[Row[Any]]) -> list[Row[Any]]:
    """All versions of tiers (rows of `names`)."""
    wanted = {(row.organisation, row.name) for row in found}
    rows = scope.connection.execute(
        scope.select(tiers)
        .where(tiers.c.name.in_({name for _, name in wanted}))
        .order_by(tiers.c.organisation, tiers.c.name, tiers.c.version)
    )
    return [row for row in rows if (row.organisation, row.name) in wanted]


def _versions(scope: Scope, name: str) -> list[Row[Any]]:
    query = scope.select(tiers).where(tiers.c.name == name).order_by(tiers.c.organisation, tiers.c.version)
    return list(scope.connection.execute(query))


def _users(scope: Scope, name: str) -> list[str]:
    """Ids of quotas whose terms name a tier, as far as this scope reaches."""
    query = scope.select(quota_terms, func.distinct(quota_terms.c.quota)).where(quota_terms.c.tier == name)
    return [str(found) for found in scope.connection.scalars(query)]


def _credit(ask: TierAsk) -> int | None:
    try:
        return None if ask.credit is None else parse_nano(ask.credit)
    except ValueError as error:
        raise BadRequest(str(error), param="credit") from None
