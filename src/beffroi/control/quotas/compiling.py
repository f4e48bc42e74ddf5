# SPDX-License-Identifier: Apache-2.0
"""From rows to what gateways know: a quota's terms, with the versions of their tiers by date, as `QuotaRecord`.

In: rows of quotas, terms, tiers and keys. Out: records. Every version that is known is in them, those to come too, so that
none needs control at midnight.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.snapshot import NO_LIMITS, Dated, Limits, QuotaRecord
from beffroi.store.administration import quota_terms, quotas, tiers
from beffroi.store.tables import keys

FOREVER = 1 << 62
HOUSE = "house"  # keeper of a quota that an operator has set: the organisation cannot free itself of it
OPERATORS = frozenset({HOUSE, "apply:house"})  # keepers of those that are an operator's, by hand or by a file
Version = tuple[int, int, Limits]  # effective at, version, limits


class Tiers:
    """Versions of tiers by owner and name, in the order in which they take force."""

    def __init__(self, rows: Iterable[Row[Any]]) -> None:
        newest: dict[tuple[str, str], dict[int, Row[Any]]] = {}
        for row in sorted(rows, key=lambda each: each.version):
            newest.setdefault((row.organisation, row.name), {})[row.effective_at] = row
        self._versions: dict[tuple[str, str], list[Version]] = {
            name: [(at, row.version, limits_of(row.limits)) for at, row in sorted(found.items())]
            for name, found in newest.items()
        }

    def of(self, organisation: str, name: str, keeper: str = "") -> list[Version]:
        """An organisation's own tier of that name, else the house's; empty: there is neither.

        Args:
            keeper: of the quota. Of one that an operator has set, the house's goes before: he meant that.
        """
        owners = (EVERY, organisation) if keeper in OPERATORS else (organisation, EVERY)
        return next((found for owner in owners if (found := self._versions.get((owner, name)))), [])


def limits_of(column: Any) -> Limits:
    """A column of limits."""
    found: Limits = msgspec.convert(column, Limits)
    return found


def load_tiers(scope: Scope) -> Tiers:
    """All that this scope sees."""
    return Tiers(scope.connection.execute(scope.select(tiers)))


def dated(quota: Row[Any], terms: Iterable[Any], known: Tiers) -> tuple[Dated, ...]:
    """Terms (`since`, `tier`, `limits`) of a quota in the order of their dates, each tier as what its versions allow."""
    ordered = sorted(terms, key=lambda term: int(term.since))
    found: list[Dated] = []
    for place, term in enumerate(ordered):
        since, until = term.since, ordered[place + 1].since if place + 1 < len(ordered) else FOREVER
        if not term.tier:
            found.append(Dated(since, limits_of(term.limits)))
            continue
        begun = Dated(since, NO_LIMITS, term.tier)
        later = []
        for at, version, limits in known.of(quota.organisation, term.tier, quota.managed_by):
            name = f"{term.tier}@{version}"
            if at <= since:
                begun = Dated(since, limits, name)
            elif at < until:
                later.append(Dated(at, limits, name))
        found += [begun, *later]
    return tuple(found)


def records(scope: Scope, only: Iterable[str] | None = None) -> list[QuotaRecord]:
    """Quotas as gateways know them; `only`: those ids, as far as they are there."""
    terms: dict[str, list[Any]] = {}
    chosen = scope.select(quotas)
    if only is not None:
        chosen = chosen.where(quotas.c.id.in_(list(only)))
    rows = scope.connection.execute(chosen).all()
    if not rows:
        return []
    with_terms = scope.select(quota_terms)
    if only is not None:
        with_terms = with_terms.where(quota_terms.c.quota.in_([row.id for row in rows]))
    for term in scope.connection.execute(with_terms):
        terms.setdefault(term.quota, []).append(term)
    named = {row.key_id for row in rows if row.key_id}
    slots = {}
    if named:
        of_keys = scope.select(keys, keys.c.id, keys.c.slot)
        slots = {row.id: row.slot for row in scope.connection.execute(of_keys) if row.id in named}
    known = load_tiers(scope)
    return [
        QuotaRecord(
            id=row.id,
            slot=row.slot,
            organisation="" if row.organisation == EVERY else row.organisation,
            project=row.project,
            key_slot=slots.get(row.key_id, -1) if row.key_id else None,
            model=row.model,
            each_end_user=row.each_end_user,
            terms=dated(row, terms.get(row.id, ()), known),
        )
        for row in rows
        if row.state == "active"
    ]
