# SPDX-License-Identifier: Apache-2.0
"""Rotations as rows: begun, moved from state to state, told. Blocking; whoever calls brings the scope.

In: a scope, a key, a plan. Out: rows of `rotations`, an event and a notice for each step, in the transaction of the step.
A row is moved on only from the revision at which it was seen: of two who look at it, one goes on.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control.rotation.shapes import OPEN, Rotation, Schedule
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import ObjectNotFound
from beffroi.core.ids import new_id
from beffroi.store.administration import rotations

_FIELDS = Schedule.__struct_fields__
NEVER = 1 << 53  # of `next_at`: nothing is left to do


def begin(
    scope: Scope, key: Row[Any], plan: dict[str, Any], *, state: str, due_at: int, now: int, **more: Any
) -> Row[Any]:
    """A new rotation of a key."""
    values = {
        "id": new_id("rot"),
        "project": key.project,
        "key_id": key.id,
        "successor": "",
        "state": state,
        "due_at": due_at,
        "plan": plan,
        "told": [],
        "attempts": 0,
        "next_at": now,
        "fault": "",
        "created_at": now,
        **more,
    }
    scope.connection.execute(scope.insert(rotations).values(**values))
    return find(scope, str(values["id"]))


def schedule(rotation: Row[Any]) -> Schedule:
    """What a rotation by schedule follows: the schedule as it was when it was announced."""
    return msgspec.convert(
        {name: rotation.plan[name] for name in _FIELDS if name in rotation.plan}, Schedule, strict=False
    )


def by_schedule(rotation: Row[Any]) -> bool:
    """Whether it is one; those by hand deliver by themselves."""
    return "every_days" in rotation.plan


def find(scope: Scope, identifier: str) -> Row[Any]:
    """A rotation by its id.

    Raises:
        ObjectNotFound: there is none that may be seen.
    """
    return scope.find(rotations, identifier, "rotation")


def open_of(scope: Scope, key_id: str) -> Row[Any] | None:
    """The rotation of a key that is under way."""
    query = scope.select(rotations).where(rotations.c.key_id == key_id, rotations.c.state.in_(OPEN))
    return scope.connection.execute(query.order_by(rotations.c.created_at.desc()).limit(1)).one_or_none()


def move(scope: Scope, rotation: Row[Any], **values: Any) -> Row[Any]:
    """Change a rotation, if it is still as it was seen; what it is then.

    Raises:
        Moved: somebody else has moved it on meanwhile.
    """
    statement = scope.update(rotations).where(rotations.c.id == rotation.id, rotations.c.revision == rotation.revision)
    if scope.connection.execute(statement.values(**values, revision=rotation.revision + 1)).rowcount != 1:
        raise Moved(rotation.id)
    return find(scope, rotation.id)


class Moved(Exception):
    """A rotation is not as it was seen any more; whoever moved it goes on with it."""


def note(scope: Scope, verb: str, rotation: Row[Any], key_name: str, **more: Any) -> None:
    """The event of a step, which webhooks are told: what happened, what is next and when. No secret is in it."""
    said = {
        "key": rotation.key_id,
        "name": key_name,
        "successor": rotation.successor or None,
        "state": rotation.state,
        **more,
    }
    scope.record(f"rotation:{verb}", rotation.id, after=said, project=rotation.project)


def shown(row: Row[Any]) -> Rotation:
    """As it is shown: without what opens its link."""
    values = {name: getattr(row, name) for name in Rotation.__struct_fields__ if name not in ("link_until", "next_at")}
    return Rotation(
        **values,
        next_at=row.next_at if row.next_at < NEVER else None,
        link_until=row.sealed_until if row.sealed is not None else None,
    )


def claimable(scope: Scope, identifier: str, now: int) -> Row[Any] | None:
    """A rotation with a text that can still be opened."""
    try:
        row = find(scope, identifier)
    except ObjectNotFound:
        return None
    return row if row.sealed is not None and (row.sealed_until or 0) > now else None


def due(scope: Scope, now: int, most: int) -> Sequence[Row[Any]]:
    """Rotations that want to be looked at, those that waited longest first."""
    query = scope.select(rotations).where(rotations.c.next_at <= now).order_by(rotations.c.next_at).limit(most)
    return scope.connection.execute(query).all()
