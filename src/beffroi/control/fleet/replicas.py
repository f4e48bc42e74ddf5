# SPDX-License-Identifier: Apache-2.0
"""The rows of `replicas`: who serves, and up to which change all of its workers follow. Blocking.

In: a connection. Out: rows, and who has not confirmed a change. Times are those of the database's clock, for machines'
clocks differ; on one machine with SQLite there is one replica, whose id is empty.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    String,
    cast,
    delete,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import NoResultFound

from beffroi.store.administration import replicas
from beffroi.store.server import is_server

r = replicas.c


class Replica(msgspec.Struct, frozen=True):
    """One of the fleet, as the others see it.

    Attributes:
        keys: the newest change that all its workers hold; silent: seconds since it was last heard of.
    """

    id: str
    address: str
    keys: int
    workers: int
    silent: float


def now_ns(connection: Connection) -> ColumnElement[int]:
    """Unix nanoseconds, by the clock of the database."""
    if is_server(connection):
        now = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) * 1000"
        return literal_column(now, BigInteger)
    return literal(time.time_ns(), BigInteger)


def enter(connection: Connection, replica: str, *, boot: str, address: str, workers: int) -> None:
    """Be there, and hold nothing yet. Before keys are read: from here on whoever revokes one waits for this replica."""
    values: dict[str, Any] = {"boot": boot, "address": address, "keys": 0, "workers": workers}
    values["seen_ns"] = now_ns(connection)
    known = connection.execute(update(replicas).where(r.id == replica).values(values))
    if known.rowcount == 0:
        connection.execute(replicas.insert().values(values | {"id": replica}))


def report(connection: Connection, replica: str, number: int) -> None:
    """All workers of this replica hold everything up to that change.

    Raises:
        NoResultFound: somebody has struck it off; it must enter again.
    """
    values = {"keys": number, "seen_ns": now_ns(connection)}
    told = update(replicas).where(r.id == replica).values(values).returning(r.id)
    if is_server(connection):  # a report that a crash takes back is made again: nobody waits for a disk
        unsynced = func.set_config("synchronous_commit", "off", literal(True))
        told = told.returning(unsynced, cast(func.pg_notify("beffroi_held", ""), String))
    if connection.execute(told).first() is None:
        raise NoResultFound(replica)


def leave(connection: Connection, replica: str) -> None:
    """Be no longer waited for: no worker of this replica serves any more."""
    connection.execute(delete(replicas).where(r.id == replica))


def everybody(connection: Connection, within: float) -> list[Replica]:
    """All that may still serve: heard of within so many seconds, after which their workers have closed by themselves."""
    silent = now_ns(connection)
    rows = connection.execute(select(r.id, r.address, r["keys"], r.workers, r.seen_ns, silent).order_by(r.id)).all()
    found = [
        Replica(each, at, number, workers, max(0.0, (now - seen) / 1e9))
        for each, at, number, workers, seen, now in rows
    ]
    return [one for one in found if one.silent <= within]
