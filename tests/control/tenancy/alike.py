# SPDX-License-Identifier: Apache-2.0
"""Organisations filled with rows that look alike: every table, every column that can be the same is the same.

In: a connection to an empty, migrated database. Out: rows; ids hold the organisation's so that a test can tell whose they are.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Connection, Integer, LargeBinary, Table, insert

from beffroi.core.ids import new_id
from beffroi.store import administration as a
from beffroi.store import tables as t

PROJECTS = ("p", "q")
FAR = 9_000_000_000  # a moment that no job waits for
SAME = "Same"  # every name


def _value(column: Column[Any], seed: str) -> Any:
    if isinstance(column.type, JSON):
        return []
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, BigInteger | Integer):
        return 1
    if isinstance(column.type, LargeBinary):
        return seed.encode()
    return seed


def _row(table: Table, organisation: str, project: str, number: int, **more: Any) -> dict[str, Any]:
    seed = f"{table.name}-{organisation}-{project}"
    row = {
        column.name: _value(column, seed) for column in table.c if not column.nullable and column.server_default is None
    }
    row |= {
        "organisation": organisation,
        "project": project,
        "name": SAME,
        "slot": number,
        "system": f"sys-{organisation}",
    }
    return {name: value for name, value in (row | more).items() if name in table.c}


def fill(connection: Connection, organisations: Iterable[str]) -> None:
    """Two projects in each, and in each of them one row of everything."""
    for index, organisation in enumerate(organisations):
        row = {"id": organisation, "name": SAME, "created_at": 1, "policy": {}}
        connection.execute(insert(t.organisations).values(row))
        for place, project in enumerate(PROJECTS):
            connection.execute(
                insert(t.projects).values(organisation=organisation, id=project, name=SAME, created_at=1)
            )
            _fill_project(connection, organisation, project, 1000 + 10 * index + place)
    connection.execute(insert(a.tiers).values(_row(a.tiers, "*", "", 0, name="house", limits={})))


def _fill_project(connection: Connection, organisation: str, project: str, number: int) -> None:
    mark = f"{organisation}-{project}"
    more: dict[Table, dict[str, Any]] = {
        t.keys: {"id": f"key_{mark}", "limits": {}},
        t.exchanges: {"request_id": new_id("req"), "findings": [], "status": 200},
        t.open_intents: {"request_id": new_id("req")},
        a.members: {"email": "same@example.org", "role": "viewer"},
        a.service_accounts: {"name": mark, "role": "viewer"},
        a.ai_systems: {"name": mark},
        a.admin_keys: {"role": "viewer", "expires_at": FAR},
        a.tiers: {"name": project, "limits": {}},
        a.quotas: {"id": f"quo_{mark}", "slot": number + 5},
        a.quota_terms: {"quota": f"quo_{mark}", "limits": {}},
        a.budget_alerts: {"budget": mark, "at_ns": FAR * 1_000_000_000},  # one long over would be forgotten
        a.key_uses: {"key_id": f"key_{mark}"},
        a.outbox: {"webhook": f"webhooks-{mark}", "next_at": FAR},
        a.rotations: {"state": "ended", "next_at": FAR, "due_at": FAR},
        a.webhooks: {"url": "http://127.0.0.1:9/"},
    }
    for table in t.metadata.sorted_tables:
        if table not in (t.organisations, t.projects) and "organisation" in table.c:
            connection.execute(insert(table).values(_row(table, organisation, project, number, **more.get(table, {}))))
