# SPDX-License-Identifier: Apache-2.0
"""How each table keeps tenants apart, and inserts and updates that move no row from one to another.

In: tables. Out: `HOW`, by table; statements for `scope` alone. A table that is in neither list cannot be reached.
"""

from typing import Any, Self

import msgspec
from sqlalchemy import Insert, Table, Update

from beffroi.core.errors import PermissionDenied
from beffroi.store import administration as a
from beffroi.store import tables as t


class How(msgspec.Struct, frozen=True):
    """How a table is kept apart.

    Attributes:
        organisation, project: its columns; no project: see `through` and `closed`.
        through: (column, table, column there): it belongs where that row belongs.
        house: rows of the house (organisation `*`) can be read by everybody.
        own: the column that must be the actor's id: nobody reads another's.
        maker: the column that must be the actor's id where he is narrowed to one project.
        closed: not for those who are narrowed to one project; `read`: they may read it.
    """

    organisation: str = "organisation"
    project: str = ""
    through: tuple[str, Table, str] | None = None
    house: bool = False
    own: str = ""
    maker: str = ""
    closed: bool = False
    read: bool = False


HOW: dict[Table, How] = {
    t.organisations: How(organisation="id", closed=True, read=True),
    t.projects: How(project="id"),
    t.keys: How(project="project"),
    t.events: How(project="project"),
    t.exchanges: How(project="project"),
    t.open_intents: How(project="project"),
    t.refusals: How(project="project"),
    a.members: How(project="project"),
    a.service_accounts: How(project="project"),
    a.ai_systems: How(project="project"),
    a.admin_keys: How(project="project"),
    a.tiers: How(house=True, closed=True, read=True),
    a.quotas: How(project="project"),
    a.quota_terms: How(through=("quota", a.quotas, "id")),
    a.budget_alerts: How(closed=True),
    a.key_uses: How(through=("key_id", t.keys, "id")),
    a.rotations: How(project="project"),
    a.idempotency: How(own="actor"),
    a.operations: How(maker="created_by"),
    a.webhooks: How(closed=True),
    a.outbox: How(closed=True),
}
NOT_OF_TENANTS = frozenset({t.spool_offsets, a.changes, a.revisions, a.replicas, a.shared_secrets})


class TenantInsert(Insert):
    """An insert whose organisation is set, and its project where the actor reaches one only."""

    inherit_cache = True
    project = ""

    def values(self, *args: Any, **values: Any) -> Self:
        """As `Insert.values`, one row, by name."""
        return super().values(_kept(args, values, self.table, self.project))


class TenantUpdate(Update):
    """An update that moves no row to another organisation, nor out of the actor's project."""

    inherit_cache = True
    project = ""

    def values(self, *args: Any, **values: Any) -> Self:
        """As `Update.values`, by name."""
        return super().values(_kept(args, values, self.table, self.project))


def _kept(args: tuple[Any, ...], values: dict[str, Any], table: Any, project: str) -> dict[str, Any]:
    how = HOW[table]
    for each in args:
        values = {**dict(each), **values}
    if not all(isinstance(name, str) for name in values) or (how.organisation in values and how.organisation != "id"):
        raise TypeError(f"values of {table.name} are given by name, and the organisation is that of the scope")
    if project and how.project not in ("", "id") and values.get(how.project, project) != project:
        raise PermissionDenied(f"this role reaches the project `{project}` alone", param=how.project)
    return values
