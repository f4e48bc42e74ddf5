# SPDX-License-Identifier: Apache-2.0
"""Quotas: limits on a scope, by date; made, changed, removed; a tier given to an organisation.

In: a scope and what is asked. Out: the quota as it is then. Blocking, in the scope's transaction; whoever calls tells the
gateways (`Keys.follow_quotas`) once it is committed.
"""

import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from sqlalchemy import Row

from beffroi.control import keyring
from beffroi.control.quotas import tiers
from beffroi.control.quotas.compiling import HOUSE, dated, limits_of, load_tiers
from beffroi.control.quotas.shapes import TERMS, Assign, Quota, QuotaAsk, QuotaChange, Term, TermAsk
from beffroi.control.quotas.tiers import When
from beffroi.control.slots import next_slot
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest, Conflict, ModelNotFound, PermissionDenied
from beffroi.core.ids import new_id
from beffroi.core.snapshot import NO_LIMITS, Config, Dated, Limits, QuotaRecord
from beffroi.gateway.quota.scopes import in_force, name_of
from beffroi.gateway.quota.terms import limited
from beffroi.store.administration import quota_terms, quotas
from beffroi.store.engine import serialise

CALLED = "quota"
Begin = Callable[[int], None]  # makes the counters of a slot as new


class Wanted(NamedTuple):
    """A term as it is kept: a tier, or limits, from a moment on."""

    since: int
    tier: str
    limits: Limits


def create(scope: Scope, ask: QuotaAsk, config: Config, when: When, begin: Begin) -> Quota:
    """Make one.

    Raises:
        BadRequest: a limit, tier, key or model that is none. Conflict: the scope has one already.
    """
    scope.need(Permission.INSTALLATION_WRITE if scope.organisation == EVERY else Permission.QUOTAS_WRITE)
    serialise(scope.connection)
    project = scope.project(ask.project)
    if scope.organisation == EVERY and (project or ask.key):
        raise BadRequest("projects and keys belong to an organisation; name it", param="organisation")
    model = _model(ask.model, config)
    key_id = ""
    if ask.key:
        key = keyring.find(scope, ask.key)
        key_id, project = key.id, key.project
    row: dict[str, Any] = {
        "id": new_id("quo"),
        "project": project,
        "key_id": key_id,
        "model": model,
        "each_end_user": ask.each_end_user,
        "name": ask.name,
        "managed_by": scope.keeper or (HOUSE if scope.actor.organisation == EVERY else ""),
    }
    wanted = _terms(scope, ask.terms or [TermAsk(since=ask.since, tier=ask.tier, limits=ask.limits)], when)
    _check(wanted, each_end_user=ask.each_end_user)
    same = scope.select(quotas, quotas.c.id).where(
        quotas.c.project == project,
        quotas.c.key_id == key_id,
        quotas.c.model == model,
        quotas.c.each_end_user == ask.each_end_user,
        quotas.c.organisation == scope.organisation,
    )
    if (there := scope.connection.scalar(same)) is not None:
        raise Conflict(f"this scope has a quota already, `{there}`; change that one", param="project")
    slot = next_slot(scope)
    begin(slot)
    scope.connection.execute(scope.insert(quotas, EVERY).values({**row, "slot": slot, "created_at": int(time.time())}))
    _write(scope, row["id"], wanted)
    scope.record("quota:create", row["id"], after={**row, "terms": _plain(wanted)}, project=project)
    return present(scope, [scope.find(quotas, row["id"], CALLED)])[0]


def change(scope: Scope, identifier: str, ask: QuotaChange, when: When, *, if_match: int | None = None) -> Quota:
    """Rename it, replace its terms, or add one. Raises as `create` and `Scope.revise`.

    What an operator limits is his from then on, whoever made the quota: an organisation that made it first is not freed.
    """
    scope.need(Permission.INSTALLATION_WRITE if scope.organisation == EVERY else Permission.QUOTAS_WRITE)
    serialise(scope.connection)
    row, of_house = _find(scope, identifier)
    before = _stored(scope, [identifier]).get(identifier, [])
    wanted = before
    if not isinstance(ask.terms, msgspec.UnsetType):
        wanted = _terms(scope, ask.terms, when)
    if not isinstance(ask.add, msgspec.UnsetType):
        (added,) = _terms(scope, [ask.add], when)
        wanted = sorted([*(term for term in wanted if term.since != added.since), added], key=attrgetter("since"))
    _check(wanted, each_end_user=row.each_end_user)
    name = row.name if ask.name is UNSET else str(ask.name)
    if (name, wanted) == (row.name, before):
        scope.may_change(row, if_match=if_match, anyone=of_house)
        return present(scope, [row])[0]
    values = {"name": name}
    if wanted != before and not row.managed_by and scope.actor.organisation == EVERY:
        values["managed_by"] = HOUSE
    after = scope.revise(quotas, row, if_match=if_match, anyone=of_house, **values)
    if wanted != before:
        scope.connection.execute(scope.delete(quota_terms).where(quota_terms.c.quota == identifier))
        _write(scope, identifier, wanted)
    scope.record(
        "quota:update",
        identifier,
        {"name": row.name, "terms": _plain(before)},
        {"name": name, "terms": _plain(wanted)},
        project=row.project,
    )
    return present(scope, [after])[0]


def remove(scope: Scope, identifier: str, *, if_match: int | None = None) -> None:
    """Remove it: nothing is limited by it any more. What it counted is forgotten."""
    scope.need(Permission.INSTALLATION_WRITE if scope.organisation == EVERY else Permission.QUOTAS_WRITE)
    row, of_house = _find(scope, identifier)
    scope.may_change(row, if_match=if_match, anyone=of_house)
    before = _stored(scope, [identifier]).get(identifier, [])
    scope.connection.execute(scope.delete(quota_terms).where(quota_terms.c.quota == identifier))
    scope.connection.execute(scope.delete(quotas).where(quotas.c.id == identifier))
    scope.record("quota:delete", identifier, {"name": row.name, "terms": _plain(before)}, project=row.project)


def assign(scope: Scope, tier: str, ask: Assign, config: Config, when: When, begin: Begin) -> Quota:
    """Give an organisation (or one of its projects) a tier from a moment on; the quota that says so is made if need be."""
    scope.need_one(Permission.QUOTAS_WRITE)
    term = TermAsk(since=int(time.time()) if ask.since is None else ask.since, tier=tier)
    project = scope.project(ask.project)
    whole = scope.select(quotas).where(
        quotas.c.project == project,
        quotas.c.key_id == "",
        quotas.c.model == "",
        quotas.c.each_end_user.is_(False),
        quotas.c.organisation == scope.organisation,
    )
    row = scope.connection.execute(whole).one_or_none()
    if row is None:
        return create(scope, QuotaAsk(project=project, terms=[term]), config, when, begin)
    return change(scope, row.id, QuotaChange(add=term), when)


def _find(scope: Scope, identifier: str) -> tuple[Row[Any], bool]:
    """A quota that is to be changed, and whether an operator has set it.

    Raises:
        PermissionDenied: one has, and the actor is none.
    """
    row = scope.find(quotas, identifier, CALLED)
    of_house = row.managed_by == HOUSE
    if of_house and scope.actor.organisation != EVERY:
        raise PermissionDenied(f"`{identifier}` was set by the operator of the installation; ask there to change it")
    return row, of_house


def present(scope: Scope, rows: Sequence[Row[Any]]) -> list[Quota]:
    """Rows as they are shown."""
    now = int(time.time())
    stored, known = _stored(scope, [row.id for row in rows]), load_tiers(scope)
    found = []
    for row in rows:
        terms = dated(row, stored.get(row.id, []), known)
        record = record_of(row, terms)
        limits, tier, _ = in_force(record, now)
        begun = max((term.since for term in terms if term.since <= now), default=None)
        found.append(
            Quota(
                id=row.id,
                organisation=row.organisation,
                project=row.project,
                key=row.key_id,
                model=row.model,
                each_end_user=row.each_end_user,
                name=row.name,
                scope=name_of(record).removeprefix("of "),
                terms=[Term(since=term.since, tier=term.tier, limits=term.limits) for term in terms],
                in_force=None if begun is None else Term(since=begun, tier=tier, limits=limits),
                created_at=row.created_at,
                state=row.state,
                revision=row.revision,
                managed_by=row.managed_by,
            )
        )
    return found


def record_of(row: Row[Any], terms: tuple[Dated, ...]) -> QuotaRecord:
    """A row as the gateway would know it, but for the slot of its key."""
    organisation = "" if row.organisation == EVERY else row.organisation
    key_slot = -1 if row.key_id else None
    return QuotaRecord(row.id, row.slot, organisation, row.project, key_slot, row.model, row.each_end_user, terms)


def _terms(scope: Scope, asks: Sequence[TermAsk], when: When) -> list[Wanted]:
    found: dict[int, Wanted] = {}
    for ask in asks:
        since = when(ask.since, "since")
        if ask.tier and ask.limits is not None:
            raise BadRequest("a term has a tier or limits, not both", param="tier")
        if ask.tier:
            tiers.find(scope, ask.tier)
        if since in found:
            raise BadRequest("two terms begin at the same moment", param="since")
        found[since] = Wanted(since, ask.tier, NO_LIMITS if ask.limits is None else ask.limits.limits())
    return sorted(found.values(), key=attrgetter("since"))


def _check(wanted: list[Wanted], *, each_end_user: bool) -> None:
    if not 1 <= len(wanted) <= TERMS:
        raise BadRequest(f"a quota has one term at least, and {TERMS} at most", param="terms")
    if each_end_user and any(limited(limits) and limits.budget_period == "total" for _, _, limits in wanted):
        raise BadRequest(
            "end users are counted apart in a table of bounded size, from which one leaves when a period is over; "
            "give them a budget per day or month",
            param="budget_period",
        )


def _stored(scope: Scope, identifiers: list[str]) -> dict[str, list[Wanted]]:
    found: dict[str, list[Wanted]] = {}
    t = quota_terms.c
    query = scope.select(quota_terms).where(t.quota.in_(identifiers)).order_by(t.quota, t.since)
    for row in scope.connection.execute(query):
        found.setdefault(row.quota, []).append(Wanted(row.since, row.tier, limits_of(row.limits)))
    return found


def _write(scope: Scope, identifier: str, wanted: list[Wanted]) -> None:
    for since, tier, limits in wanted:
        row = {"quota": identifier, "since": since, "tier": tier, "limits": msgspec.to_builtins(limits)}
        scope.connection.execute(scope.insert(quota_terms, EVERY).values(row))


def _plain(wanted: list[Wanted]) -> list[dict[str, Any]]:
    return [
        {"since": since, "tier": tier} if tier else {"since": since, "limits": msgspec.to_builtins(limits)}
        for since, tier, limits in wanted
    ]


def _model(name: str, config: Config) -> str:
    if not name:
        return ""
    for model in config.models:
        if name == model.id or name in model.aliases:
            return model.id
    raise ModelNotFound(f"there is no model `{name}`", param="model")
