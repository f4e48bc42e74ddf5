# SPDX-License-Identifier: Apache-2.0
"""Operations of the admin API on the fleet: who serves, and taking off a machine that will not come back.

In: calls. Out: replicas as the database knows them.
"""

from functools import partial

import msgspec
from sqlalchemy import Engine

from beffroi.control import events
from beffroi.control.api.operation import Call, Operation
from beffroi.control.fleet import replicas
from beffroi.control.fleet.replicas import Replica
from beffroi.control.places import load_open
from beffroi.control.rows import Batch, Recovered
from beffroi.control.tenancy.permissions import P
from beffroi.control.writing import writer
from beffroi.core.errors import Conflict, ObjectNotFound
from beffroi.store.engine import serialise

SILENT = 30.0  # seconds without a word after which a replica may be taken off
_EVER = 1e12


class Forgotten(msgspec.Struct, frozen=True):
    """A replica that nobody waits for any more. `recovered`: exchanges of it that were open, closed from their last progress."""

    id: str
    address: str
    recovered: int


class Replicas(msgspec.Struct, frozen=True):
    """All that may still serve. `database`: empty where there is one Beffroi with its own ledger."""

    data: list[Replica]
    database: str = ""


async def listed(call: Call) -> Replicas:
    """All that may still serve."""
    house = call.house
    if house.follower is None or not house.replica:
        return Replicas([])
    return Replicas(await house.follower.fleet(), str(house.engine.url))  # which shows no password


async def forget(call: Call) -> Forgotten:
    """A machine that is gone for good, with its disk."""
    house, identifier = call.house, call.path["id"]
    actor = call.actor
    forgotten, recovered = await house.blocking(
        partial(strike_off, house.engine, identifier, actor.id, f"{actor.door}:replica:forget")
    )
    for each in recovered:
        house.budgets.charge(each)
    return forgotten


def strike_off(engine: Engine, identifier: str, actor: str, action: str) -> tuple[Forgotten, list[Recovered]]:
    """Take its row away, and close from their last progress the exchanges whose end it has taken with it. Blocking.

    Raises:
        ObjectNotFound: there is no such replica. Conflict: it was heard of a moment ago.
    """
    with engine.begin() as connection:
        serialise(connection)
        found = [one for one in replicas.everybody(connection, _EVER) if one.id == identifier]
        if not found:
            raise ObjectNotFound(f"there is no replica `{identifier}`", param="id")
        (one,) = found
        if one.silent < SILENT:
            raise Conflict(
                f"{one.id} on {one.address} was heard of {one.silent:.0f} s ago: stop it, and it takes itself off; what died "
                f"may be taken off {SILENT:.0f} s after its last word"
            )
        known = load_open(connection, identifier)
        batch = Batch(known)
        boots = {opened.boot for opened in known.values()}
        recovered = [each for boot in sorted(boots) for each in batch.recover(boot)]
        writer(engine, identifier).write(connection, batch)
        replicas.leave(connection, identifier)
        after = {"address": one.address, "recovered": len(recovered)}
        events.record(connection, actor=actor, action=action, subject=identifier, after=after)
    return Forgotten(one.id, one.address, len(recovered)), recovered


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/replicas",
        listed,
        P.INSTALLATION_READ,
        "Every Beffroi over the same database, and how far each follows.",
        answer=Replicas,
    ),
    Operation(
        "DELETE",
        "/replicas/{id}",
        forget,
        P.INSTALLATION_WRITE,
        "Take off a machine that will not come back: nobody waits for it, and what it had open is closed.",
        answer=Forgotten,
    ),
)
