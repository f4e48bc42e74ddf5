# SPDX-License-Identifier: Apache-2.0
"""When each key was last used, kept up by shipping: a row per key, written once a minute at most.

In: rows of `exchanges` that a batch settles. Out: a statement's tuples, for the same transaction. Every exchange counts, one
that was refused too (somebody still holds the key), but those from addresses that the key is not for: a thief who knocks
keeps no old key alive. `GET /v1/models` leaves no exchange, so it does not count.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite

from beffroi.core.errors import AddressNotAllowed
from beffroi.store.administration import key_uses
from beffroi.store.server import is_server
from beffroi.store.tables import exchanges

APART = 60  # seconds for which a later use of a key is not written again
TOGETHER = 500  # rows in one statement
_COLUMNS = ("key_id", "organisation", "used_at")
_NAMES = exchanges.columns.keys()
_KEY, _ORGANISATION, _AT, _CODE = (_NAMES.index(name) for name in ("key_id", "organisation", "started_ns", "code"))


class Uses:
    """Remembers what is written. One per shipper; what a failed transaction noted is written again by `forget`."""

    def __init__(self, engine: Engine) -> None:
        self._written: dict[str, int] = {}
        self._insert = postgresql.insert if is_server(engine) else sqlite.insert

    def write(self, connection: Connection, settled: Sequence[tuple[Any, ...]]) -> None:
        """Write the uses that a batch shows, those that are news."""
        latest: dict[str, tuple[str, int]] = {}
        for row in settled:
            if row[_CODE] == AddressNotAllowed.code:
                continue
            key, at = row[_KEY], row[_AT] // 1_000_000_000
            if at > latest.get(key, ("", 0))[1]:
                latest[key] = row[_ORGANISATION], at
        news = [
            (key, organisation, at)
            for key, (organisation, at) in sorted(latest.items())
            if at >= self._written.get(key, -APART) + APART
        ]
        if news:
            for start in range(0, len(news), TOGETHER):
                rows = [dict(zip(_COLUMNS, row, strict=True)) for row in news[start : start + TOGETHER]]
                statement: Any = self._insert(key_uses).values(rows)
                later = statement.excluded.used_at
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["key_id"], set_={"used_at": later}, where=later > key_uses.c.used_at
                    )
                )
            self._written |= {key: at for key, _, at in news}

    def forget(self) -> None:
        """A transaction failed: what it noted may not be there."""
        self._written.clear()
