# SPDX-License-Identifier: Apache-2.0
"""What gateways hold in memory, read from the database: all of it, or what has changed since a number. Blocking.

In: a connection with one consistent view. Out: records, and the number of the newest change that is in them.
"""

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, func, select

from beffroi.control.keyring import key_record
from beffroi.control.quotas.compiling import records
from beffroi.control.tenancy.organisations import closed
from beffroi.control.tenancy.scope import CONTROL, EVERY, Scope
from beffroi.core.snapshot import KeyRecord, QuotaRecord
from beffroi.store.administration import changes, shared_secrets
from beffroi.store.tables import keys
from beffroi.store.vault import Vault

MOST = 2000  # changes looked at one by one; of more, everything is read
PEPPER = "pepper"
Peppers = dict[int, bytes]


class Known(msgspec.Struct):
    """What was read. `quotas`, `closed`, `peppers` None: as they were.

    Attributes:
        number: of the newest change that is in it.
        gone: ids of quotas that are no more.
        whole: it is everything, and what is not in it is no more.
    """

    number: int
    keys: list[KeyRecord] = msgspec.field(default_factory=list)
    quotas: list[QuotaRecord] = msgspec.field(default_factory=list)
    gone: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()  # ids of keys that are no more
    closed: frozenset[str] | None = None
    peppers: Peppers | None = None
    whole: bool = False


def _quotas(connection: Connection, ids: Collection[str] | None) -> list[QuotaRecord]:
    return records(Scope(connection, CONTROL, EVERY), ids)


def everything(connection: Connection, vault: Vault | None) -> Known:
    """All there is. `vault`: of a fleet, whose peppers are in the database; None: they are in a file."""
    return Known(
        newest(connection),
        [key_record(row) for row in connection.execute(select(keys).order_by(keys.c.slot))],
        _quotas(connection, None),
        closed=closed(connection),
        peppers=None if vault is None else peppers(connection, vault),
        whole=True,
    )


def since(connection: Connection, number: int, vault: Vault | None) -> Known:
    """What has changed after that number; everything, if the list of changes does not reach back so far."""
    query = select(changes.c.number, changes.c.kind, changes.c.subject).where(changes.c.number > number)
    rows = connection.execute(query.order_by(changes.c.number).limit(MOST + 1)).all()
    if not rows:
        return Known(number) if newest(connection) == number else everything(connection, vault)
    if len(rows) > MOST or (rows[0][0] > number + 1 and _oldest(connection) > number + 1):
        return everything(connection, vault)
    found: dict[str, set[str]] = {}
    for _, kind, subject in rows:
        found.setdefault(kind, set()).add(subject)
    known = Known(rows[-1][0])
    if ids := found.get("key"):
        known.keys = [key_record(row) for row in connection.execute(select(keys).where(keys.c.id.in_(ids)))]
        known.lost = frozenset(ids - {key.id for key in known.keys})
    if "tier" in found:  # any quota may name it
        known.quotas = _quotas(connection, None)
    elif ids := found.get("quota"):
        known.quotas = _quotas(connection, ids)
    known.gone = frozenset(found.get("quota", set()) - {quota.id for quota in known.quotas})
    if "closed" in found:
        known.closed = closed(connection)
    if vault is not None and "secret" in found:
        known.peppers = peppers(connection, vault)
    return known


def _oldest(connection: Connection) -> int:
    return connection.scalar(select(func.min(changes.c.number))) or 0


def newest(connection: Connection) -> int:
    """The number of the newest change."""
    return connection.scalar(select(func.max(changes.c.number))) or 0


def peppers(connection: Connection, vault: Vault) -> Peppers:
    """The secrets that key hashes are made with, as a fleet shares them.

    Raises:
        VaultError: the secret of this machine is not that of the others.
    """
    rows = connection.execute(select(shared_secrets).where(shared_secrets.c.kind == PEPPER)).all()
    return {row.id: vault.unseal(row.sealed, f"{PEPPER} {row.id}") for row in rows}


def prune(connection: Connection, keep: int) -> None:
    """Forget all but the newest changes; a follower that is further behind reads everything."""
    connection.execute(changes.delete().where(changes.c.number <= newest(connection) - keep))
