# SPDX-License-Identifier: Apache-2.0
"""What a fleet's machines share through their database: peppers, sealed; and how the database's faults are told to people.

In: an engine, the vault of the fleet. Out: peppers by id, the first of which whoever comes first makes. Blocking.
"""

import secrets
import time

from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from beffroi.control.fleet.table import PEPPER
from beffroi.control.fleet.table import peppers as stored
from beffroi.store.administration import shared_secrets
from beffroi.store.engine import reading, serialise
from beffroi.store.vault import Vault

_WRONG = ("28", "3D")  # classes of SQLSTATE: who one is, and which database, is not as the server has it


def peppers(engine: Engine, vault: Vault) -> dict[int, bytes]:
    """Every pepper; the first is made if there is none.

    Raises:
        VaultError: the secret of this machine is not that of the others.
    """
    with reading(engine) as connection:
        found = stored(connection, vault)
    if found:
        return found
    with engine.begin() as connection:
        serialise(connection)
        return stored(connection, vault) or dict([add_pepper(connection, vault)])


def add_pepper(connection: Connection, vault: Vault) -> tuple[int, bytes]:
    """A new pepper, whose id is the highest; it is everybody's once the transaction is committed."""
    s = shared_secrets.c
    number = (connection.scalar(select(func.max(s.id)).where(s.kind == PEPPER)) or 0) + 1
    secret = secrets.token_bytes(32)
    values = {"kind": PEPPER, "id": number, "sealed": vault.seal(secret, f"{PEPPER} {number}")}
    connection.execute(insert(shared_secrets).values(values | {"created_at": int(time.time())}))
    return number, secret


def is_wrong(error: SQLAlchemyError) -> bool:
    """Whether waiting is of no use: user, password or name of the database are not right."""
    return _state(error)[:2] in _WRONG


def why(error: SQLAlchemyError, database: str) -> str:
    """Why a database is not to be had, in a sentence without a password in it."""
    state = _state(error)
    if state[:2] == "28":
        return f"{database} refuses this user or this password; see `server.database`"
    if state == "3D000":
        return f"{database}: there is no database of that name on this server; make it, or see `server.database`"
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = str(cause.args[0].get("M")) if state and cause is not None else str(cause)
    return f"{database} does not answer: {text.splitlines()[0]}"


def _state(error: SQLAlchemyError) -> str:
    told = error.orig.args[:1] if isinstance(error, DBAPIError) and error.orig is not None else ()
    return str(told[0].get("C", "")) if told and isinstance(told[0], dict) else ""
