# SPDX-License-Identifier: Apache-2.0
"""The numbers of counters: keys and quotas draw from one row, so that no two ever share one, whoever else draws now.

In: the transaction of a new key or quota. Out: a number that nothing had before. On PostgreSQL the row is locked until the
transaction ends: replicas that make keys wait for one another, and none waits for anybody else.
"""

from sqlalchemy import func, select, text

from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.store.administration import quotas
from beffroi.store.tables import keys

_DRAW = text(
    "INSERT INTO revisions (name, number) VALUES ('slots', 0) "
    "ON CONFLICT (name) DO UPDATE SET number = revisions.number + 1 RETURNING number"
)
_SET = text("UPDATE revisions SET number = :number WHERE name = 'slots'")
_SHOW = text("SELECT set_config('beffroi.organisation', :name, true)")


def next_slot(scope: Scope) -> int:
    """A slot of its own for something new."""
    connection = scope.connection
    drawn = connection.execute(_DRAW).scalar_one()
    server = connection.dialect.name == "postgresql"
    if server:  # row-level security shows one organisation's; numbers are the house's
        connection.execute(_SHOW, {"name": EVERY})
    own = connection.scalar(select(func.max(keys.c.slot)).where(keys.c.rotated_from.is_(None)))
    other = connection.scalar(select(func.max(quotas.c.slot)))
    if server:
        connection.execute(_SHOW, {"name": scope.organisation})
    slot = max(int(drawn), *(0 if there is None else int(there) + 1 for there in (own, other)))
    if slot != drawn:
        connection.execute(_SET, {"number": slot})
    return slot
