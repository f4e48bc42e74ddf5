# SPDX-License-Identifier: Apache-2.0
"""What is there, as things that can be compared with what a file wants.

In: a scope of one organisation, or of the house for its tiers. Out: `Thing`s with id, revision and keeper.
Of a key that was rotated, the successor is the thing; keys that are revoked or have expired are not there any more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, Table

from beffroi.control.declare.state import (
    HOUSE,
    Fields,
    Ref,
    Thing,
    exact,
    flat,
    kept,
    networks,
    policy,
    schedule,
    scope_name,
    term,
)
from beffroi.control.keyring import living
from beffroi.control.tenancy.scope import Scope
from beffroi.store import administration as a
from beffroi.store import tables as t


def there(scope: Scope, now: int) -> list[Thing]:
    """Everything of the scope's organisation; nothing where there is no such organisation."""
    run = scope.connection.execute
    rows = run(scope.select(t.organisations)).all()
    if not rows:
        return []
    found = [_thing(row, scope, "organisation", (), _organisation(row)) for row in rows]
    found += [
        _thing(row, scope, "project", (row.id,), {"name": row.name, "state": row.state})
        for row in run(scope.select(t.projects))
    ]
    for row in run(scope.select(a.members)):
        fields = {"name": row.name, "role": row.role, "state": row.state}
        found.append(_thing(row, scope, "member", (row.project, row.email), fields))
    for row in run(scope.select(a.service_accounts)):
        fields = {"role": row.role, "project": row.project, "state": row.state}
        found.append(_thing(row, scope, "service account", (row.name,), fields))
    systems = run(scope.select(a.ai_systems)).all()
    found += [_thing(row, scope, "AI system", (row.name,), _system(row)) for row in systems]
    keys = _heads(run(scope.select(t.keys)).all(), now)
    names = {row.id: row.name for row in systems}
    found += [_thing(row, scope, "key", (row.project, row.name), _key(row, names)) for row in keys]
    found += _tiers(scope, scope.organisation)
    found += _quotas(scope)
    for row in run(scope.select(a.webhooks)):
        fields = {"events": sorted(row.events), "state": row.state}
        found.append(_thing(row, scope, "webhook", (row.url,), fields))
    return found


def tiers_of_house(scope: Scope) -> list[Thing]:
    """Tiers that every organisation may name."""
    return _tiers(scope, HOUSE)


def _tiers(scope: Scope, organisation: str) -> list[Thing]:
    """Tiers of one owner, every version that is not replaced by another of the same moment."""
    own = a.tiers.c.organisation == organisation
    newest: dict[tuple[str, str], Row[Any]] = {}
    for row in scope.connection.execute(scope.select(a.tiers).where(own).order_by(a.tiers.c.version)):
        newest[row.name, str(row.effective_at)] = row
    return [
        Thing(
            Ref("tier", organisation, name),
            {"title": row.title, "credit": None if row.credit_nano is None else exact(row.credit_nano)}
            | flat(kept(row.limits)),
            id=row.name,
            revision=row.version,
            managed_by=row.managed_by,
        )
        for name, row in newest.items()
    ]


def _thing(row: Row[Any], scope: Scope, kind: str, name: tuple[str, ...], fields: Fields) -> Thing:
    return Thing(
        Ref(kind, scope.organisation, name), fields, id=row.id, revision=row.revision, managed_by=row.managed_by
    )


def _organisation(row: Row[Any]) -> Fields:
    return {"name": row.name, "state": row.state, **policy(row.policy)}


def _system(row: Row[Any]) -> Fields:
    fields = {"purpose": row.purpose, "owner": row.owner, "models": sorted(row.models)}
    return fields | {"project": row.project, "state": row.state}


def _heads(rows: Sequence[Row[Any]], now: int) -> Iterator[Row[Any]]:
    before = {row.rotated_from for row in rows if not row.revoked}
    return (row for row in rows if living(row, now) and row.id not in before)


def _key(row: Row[Any], systems: dict[str, str]) -> Fields:
    return {
        "models": None if row.models is None else sorted(row.models),
        "endpoints": None if row.endpoints is None else sorted(row.endpoints),
        "addresses": networks(row.addresses),
        "system": systems.get(row.system, row.system),
        "owner": row.owner,
        "rotation": None if row.rotation is None else schedule(row.rotation),
        **flat(kept(row.limits)),
        "expires": row.expires_at,
    }


def _quotas(scope: Scope) -> Iterator[Thing]:
    run = scope.connection.execute
    terms: dict[str, list[Fields]] = {}
    for row in run(scope.select(a.quota_terms).order_by(a.quota_terms.c.since)):
        terms.setdefault(row.quota, []).append(term(row.since, row.tier, kept(row.limits)))
    names = _names(scope, t.keys)
    for row in run(scope.select(a.quotas)):
        name = scope_name(row.project, names.get(row.key_id, row.key_id), row.model, each_end_user=row.each_end_user)
        yield _thing(row, scope, "quota", name, {"name": row.name, "terms": terms.get(row.id, [])})


def _names(scope: Scope, table: Table) -> dict[str, str]:
    return {row.id: row.name for row in scope.connection.execute(scope.select(table, table.c.id, table.c.name))}
