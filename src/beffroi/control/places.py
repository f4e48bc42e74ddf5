# SPDX-License-Identifier: Apache-2.0
"""How far the journal is shipped, as the ledger remembers it: one row per segment, moved in the same transaction.

In: the database. Out: places, and the intents that were open when it was last written.
"""

import msgspec
from sqlalchemy import Connection, delete, select

from beffroi.control.rows import Key, Open
from beffroi.core.record import Cost, Intent, Tokens
from beffroi.store.tables import open_intents, spool_offsets


class Place(msgspec.Struct, gc=False):
    """Where shipping stands in one segment; `intents` and `settlements` count those of its boot up to here."""

    key: str
    worker: int
    boot: str
    segment: int
    offset: int = 0
    sequence: int = 1  # of the next record
    intents: int = 0
    settlements: int = 0
    finished: bool = False
    damage: str | None = None


def load_places(connection: Connection, replica: str | None = None) -> dict[str, Place]:
    """All places of a replica by segment; None: of all of them."""
    t = spool_offsets.c
    query = select(
        t.path, t.worker, t.boot, t.segment, t.position, t.next_sequence, t.intents, t.settlements, t.finished, t.damage
    )
    if replica is not None:
        query = query.where(t.replica == replica)
    return {row[0]: Place(*list(row)) for row in connection.execute(query)}


def load_open(connection: Connection, replica: str | None = None) -> dict[Key, Open]:
    """All intents of a replica without a settlement; None: of all of them."""
    found: dict[Key, Open] = {}
    query = select(open_intents)
    if replica is not None:
        query = query.where(open_intents.c.replica == replica)
    for row in connection.execute(query).mappings():
        intent = Intent(**{name: row[name] for name in Intent.__struct_fields__})
        kinds = Tokens.__struct_fields__
        tokens = Tokens(*(row[f"{kind}_tokens"] for kind in kinds))
        cost = Cost(*(row[f"{kind}_nano"] for kind in kinds))
        found[intent.request_id, intent.attempt] = Open(
            intent, row["worker"], row["boot"], row["progress_ns"], tokens, cost
        )
    return found


def forget_places(connection: Connection, keys: list[str]) -> None:
    """Drop the places of segments whose files are gone and whose boot has later ones."""
    connection.execute(delete(spool_offsets).where(spool_offsets.c.path.in_(keys)))
