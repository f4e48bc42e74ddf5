# SPDX-License-Identifier: Apache-2.0
"""The numbers of counters: keys and quotas draw from one row, so that no two ever share one, whoever else draws now.

In: the transaction of a new key or quota. Out: a number that nothing had before. On PostgreSQL the row is locked until the
transaction ends: replicas that make keys wait for one another, and none waits for anybody else. One statement: row-level
security shows one organisation's rows, and numbers are the house's, so that there a function of 0004 looks at all.
"""

from sqlalchemy import text

from beffroi.control.tenancy.scope import Scope
from beffroi.store.server import is_server

_FREE = (
    "max(0, (SELECT coalesce(max(slot) + 1, 0) FROM keys WHERE rotated_from IS NULL), "
    "(SELECT coalesce(max(slot) + 1, 0) FROM quotas)"
)
_DRAW = text(
    f"INSERT INTO revisions (name, number) VALUES ('slots', {_FREE})) "  # noqa: S608 - its own texts alone
    f"ON CONFLICT (name) DO UPDATE SET number = {_FREE}, revisions.number + 1) RETURNING number"
)
_DRAW_OF_SERVER = text("SELECT beffroi_slot()")


def next_slot(scope: Scope) -> int:
    """A slot of its own for something new."""
    draw = _DRAW_OF_SERVER if is_server(scope.connection) else _DRAW
    return int(scope.connection.execute(draw).scalar_one())
