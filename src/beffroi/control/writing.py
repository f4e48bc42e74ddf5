# SPDX-License-Identifier: Apache-2.0
"""Writes what shipping gathered: statements as plain text, because here the control plane pays for every request.

In: a batch and places, a connection with a transaction. Out: rows. SQLite prepares a statement once and runs it with a tuple
for each row; on PostgreSQL that would be a journey for each row, so that rows travel together: COPY, and arrays.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table

from beffroi.control.places import Place
from beffroi.control.rows import Batch, Key, Open
from beffroi.store.bulk import copy
from beffroi.store.server import is_server
from beffroi.store.tables import DEFAULT, exchanges, open_intents, refusals, spool_offsets

_AMOUNTS = (
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_nano",
    "cached_nano",
    "output_nano",
    "reasoning_nano",
)
_REFUSED = ("organisation", "project", "at_s", "reason", "prefix")
Rows = Sequence[tuple[Any, ...]]


def writer(engine: Engine, replica: str = "") -> "Writer":
    """What writes into this database, on behalf of that replica."""
    return ServerWriter(replica) if is_server(engine) else Writer(replica)


class Writer:
    """For SQLite."""

    def __init__(self, replica: str) -> None:
        self._replica = replica

    def write(self, connection: Connection, batch: Batch) -> int:
        """Write a batch; how many of its settlements were in the ledger already."""
        duplicates = 0
        if batch.settled:
            duplicates = len(batch.settled) - self._insert(connection, exchanges, batch.settled)
        if batch.closed:
            self._close(connection, batch.closed)
        if batch.opened:
            self._insert(connection, open_intents, [self._open_row(*item) for item in batch.opened.items()])
        if batch.moved:
            moved = [(*key, found.progress_ns, *_amounts(found)) for key, found in batch.moved.items()]
            self._move(connection, moved)
        if batch.refused:
            self._refuse(connection, [(DEFAULT, DEFAULT, *place, count) for place, count in batch.refused.items()])
        return duplicates

    def save_places(self, connection: Connection, places: list[Place], now_ns: int) -> None:
        """Write where these segments stand now."""
        rows = [(*_place_row(place, now_ns), self._replica) for place in places]
        self._upsert(connection, spool_offsets, ("path",), _ALL, rows)

    def _open_row(self, key: Key, found: Open) -> tuple[Any, ...]:
        i = found.intent
        return (
            *key,
            i.at_ns,
            i.key_id,
            i.key_slot,
            i.organisation,
            i.project,
            i.model,
            i.endpoint,
            i.engine,
            i.price_version,
            i.currency,
            i.input_estimate,
            found.progress_ns,
            *_amounts(found),
            found.worker,
            found.boot,
            i.system,
            i.end_user,
            self._replica,
        )

    def _insert(self, connection: Connection, table: Table, rows: Rows) -> int:
        """Those that are not there yet; how many that was."""
        names = table.columns.keys()
        sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"
        return int(connection.exec_driver_sql(f"{sql} ON CONFLICT DO NOTHING", list(rows)).rowcount)

    def _close(self, connection: Connection, keys: list[Key]) -> None:
        connection.exec_driver_sql("DELETE FROM open_intents WHERE request_id = ? AND attempt = ?", list(keys))

    def _move(self, connection: Connection, rows: Rows) -> None:
        fields = ", ".join(f"{name} = ?" for name in ("progress_ns", *_AMOUNTS))
        sql = f"UPDATE open_intents SET {fields} WHERE request_id = ? AND attempt = ?"
        connection.exec_driver_sql(sql, [(*row[2:], *row[:2]) for row in rows])

    def _refuse(self, connection: Connection, rows: Rows) -> None:
        self._upsert(connection, refusals, _REFUSED, "count = refusals.count + excluded.count", rows)

    def _upsert(self, connection: Connection, table: Table, key: tuple[str, ...], change: str, rows: Rows) -> None:
        names = table.columns.keys()
        sql = (
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {change}"
        )
        connection.exec_driver_sql(sql, list(rows))


class ServerWriter(Writer):
    """For PostgreSQL: each table's rows of a batch in one journey, into a table of this connection alone, and from there."""

    def _insert(self, connection: Connection, table: Table, rows: Rows) -> int:
        self._stage(connection, table, rows)
        return int(connection.exec_driver_sql(f"{_from_staged(table)} ON CONFLICT DO NOTHING").rowcount)

    def _close(self, connection: Connection, keys: list[Key]) -> None:
        sql = (
            "DELETE FROM open_intents AS o USING unnest(CAST(%s AS text[]), CAST(%s AS int[])) AS t(r, a)"
            " WHERE o.request_id = t.r AND o.attempt = t.a"
        )
        connection.exec_driver_sql(sql, tuple(map(list, zip(*keys, strict=True))))

    def _move(self, connection: Connection, rows: Rows) -> None:
        names = ("progress_ns", *_AMOUNTS)
        arrays = ", ".join(["CAST(%s AS text[])", "CAST(%s AS int[])", *("CAST(%s AS bigint[])" for _ in names)])
        sql = (
            f"UPDATE open_intents AS o SET {', '.join(f'{name} = t.{name}' for name in names)}"
            f" FROM unnest({arrays}) AS t(r, a, {', '.join(names)}) WHERE o.request_id = t.r AND o.attempt = t.a"
        )
        connection.exec_driver_sql(sql, tuple(map(list, zip(*rows, strict=True))))

    def _upsert(self, connection: Connection, table: Table, key: tuple[str, ...], change: str, rows: Rows) -> None:
        self._stage(connection, table, rows)
        sql = f"{_from_staged(table)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {change}"
        connection.exec_driver_sql(sql)

    @staticmethod
    def _stage(connection: Connection, table: Table, rows: Rows) -> None:
        columns = ", ".join(table.columns.keys())
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE IF NOT EXISTS staged_{table.name} ON COMMIT DELETE ROWS"
            f" AS SELECT {columns} FROM {table.name} WITH NO DATA"
        )
        copy(connection, f"staged_{table.name}", table.columns.keys(), rows)


def _from_staged(table: Table) -> str:
    columns = ", ".join(table.columns.keys())
    return f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM staged_{table.name}"


_ALL = ", ".join(f"{name} = excluded.{name}" for name in list(spool_offsets.columns.keys()) if name != "path")


def _place_row(p: Place, now_ns: int) -> tuple[Any, ...]:
    counts = p.offset, p.sequence, p.intents, p.settlements
    return p.key, p.worker, p.boot, p.segment, *counts, p.finished, p.damage, now_ns


def _amounts(found: Open) -> tuple[int, ...]:
    t, c = found.tokens, found.cost
    return t.input, t.cached, t.output, t.reasoning, c.input, c.cached, c.output, c.reasoning
