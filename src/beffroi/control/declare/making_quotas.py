# SPDX-License-Identifier: Apache-2.0
"""Makes, changes and removes the tiers and quotas of a file.

In: changes. Out: rows, and in `Work.quotas` the ids of those that gateways must be told of.
A quota that the operator applies is his: an organisation that applies files of its own cannot free itself of it.
"""

import time
from typing import Any

from beffroi.control.declare.diff import APPLY, APPLY_HOUSE, Change
from beffroi.control.declare.making import Kind, Work, as_ask
from beffroi.control.declare.state import Fields, Thing, under
from beffroi.control.keyring import living
from beffroi.control.quotas import service, tiers
from beffroi.control.quotas.shapes import QuotaAsk, QuotaChange, TierAsk
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest
from beffroi.store.administration import quotas
from beffroi.store.tables import keys


def _when(asked: str | int | None, _: str) -> int:
    return 0 if asked is None else int(asked)


def _tier(work: Work, scope: Scope, thing: Thing) -> str:
    name, since = thing.ref.name
    fields = thing.fields
    said = {"title": fields["title"], "limits": under("limits", fields), "credit": fields["credit"]}
    ask = as_ask(TierAsk, name=name, effective=int(since), **said)
    _, changed = tiers.create(scope, ask, _when)
    work.quotas += changed
    return name


def _next_version(work: Work, scope: Scope, change: Change, _: Fields) -> None:
    _tier(work, scope, change.thing)


def _no_tier(work: Work, scope: Scope, thing: Thing) -> None:
    work.quotas += tiers.remove(scope, thing.ref.name[0], thing.revision)


def _quota(work: Work, scope: Scope, thing: Thing) -> str:
    project, key, model, each = thing.ref.name
    said: dict[str, Any] = {
        "name": thing.fields["name"],
        "project": project.partition(" ")[2],
        "model": model.partition(" ")[2],
        "each_end_user": bool(each),
        "terms": thing.fields["terms"],
    }
    if key:
        said["key"] = _key(scope, said["project"], key.partition(" ")[2])
    scope = _whose(scope)
    made = service.create(scope, as_ask(QuotaAsk, **said), work.config, _when, work.begin)
    work.quotas.append(made.id)
    return made.id


def _changed(work: Work, scope: Scope, change: Change, fields: Fields) -> None:
    identifier = "" if change.held is None else change.held.id
    service.change(_whose(scope), identifier, as_ask(QuotaChange, **fields), _when)
    work.quotas.append(identifier)


def _no_quota(work: Work, scope: Scope, thing: Thing) -> None:
    service.remove(_whose(scope), thing.id)
    work.quotas.append(thing.id)


def _whose(scope: Scope) -> Scope:
    """The same scope, keeping for the operator where it is he who applies."""
    if scope.actor.organisation != EVERY or scope.keeper != APPLY:
        return scope
    return Scope(scope.connection, scope.actor, scope.organisation, keeper=APPLY_HOUSE)


def _key(scope: Scope, project: str, name: str) -> str:
    """The id of the key of that name, be it one that this apply has just made."""
    now = time.time()
    query = scope.select(keys).where(keys.c.project == project, keys.c.name == name)
    rows = [row for row in scope.connection.execute(query) if living(row, now)]
    before = {row.rotated_from for row in rows}
    found = [row for row in rows if row.id not in before]
    if len(found) != 1:
        raise BadRequest(f"there is not one living key `{name}` in the project `{project}`", param="key")
    return str(found[0].id)


LIMITS: dict[str, Kind] = {
    "tier": Kind(_tier, _next_version, _no_tier, None),
    "quota": Kind(_quota, _changed, _no_quota, quotas),
}
