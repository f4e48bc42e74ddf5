# SPDX-License-Identifier: Apache-2.0
"""What people do with rotations: begin one now, see them, ask for a link, fetch through one, give one up.

In: a scope and what is asked. Out: rotations; a link or a key, once. Blocking.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import Row

from beffroi.control import keyring
from beffroi.control.keypolicy import schedule_of
from beffroi.control.rotation import book, links, steps
from beffroi.control.rotation.shapes import OPEN
from beffroi.control.rotation.steps import Changed
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest, Conflict, ObjectNotFound
from beffroi.store.administration import key_uses, rotations
from beffroi.store.tables import keys

GONE = "there is nothing behind this link: it was used already, is over, or never was; ask for another one"


class Fetched(msgspec.Struct, frozen=True):
    """A successor, fetched through its link; `key` is shown this once. The old key ends at `old_expires_at`."""

    id: str
    name: str
    key: str
    expires_at: int | None
    rotated_from: str
    old_expires_at: int | None


def begin(scope: Scope, reference: str, wait: int) -> Row[Any]:
    """Rotate a key by its schedule now, or `wait` seconds from now.

    Raises:
        KeyNotFound: there is none. BadRequest: it has no schedule, or can have no successor.
        Conflict: a rotation is under way.
    """
    with keyring.where(scope, reference) as (there, key):
        keyring.require_rotatable(there, key)
        now = int(time.time())
        if not keyring.living(key, now):
            raise BadRequest(f"{keyring.named(key)} has expired; make a new key", param="key")
        schedule = schedule_of(there, key)
        if schedule is None:
            raise BadRequest(
                f"{keyring.named(key)} has no schedule, nor has its organisation's policy: nobody would know where its "
                "successor goes; set one with `beffroi keys schedule`, or rotate it by hand",
                param="key",
            )
        if (under_way := book.open_of(there, key.id)) is not None:
            raise Conflict(f"{under_way.id} rotates {keyring.named(key)} already", param="key")
        return steps.announce(there, key, schedule, now + wait, now)


def link(
    scope: Scope, identifier: str, pepper: keyring.Pepper, if_match: int | None
) -> tuple[tuple[Row[Any], str], list[Row[Any]]]:
    """A new one-time link to a successor that nobody uses yet; links from before lead nowhere. The second value is the token.

    Raises:
        ObjectNotFound: there is no such rotation. Conflict: its successor is in use, or it is over.
    """
    rotation = book.find(scope, identifier)
    scope.may_change(rotation, if_match=if_match)
    if rotation.state not in OPEN or not book.by_schedule(rotation):
        raise Conflict(f"{identifier} is over or was done by hand: there is no successor left to fetch")
    if book.schedule(rotation).delivery.store:
        raise Conflict(f"the successor of {identifier} goes into a secret store; it has no link")
    if rotation.state == "overlap":
        used = scope.select(key_uses, key_uses.c.key_id).where(key_uses.c.key_id == rotation.successor)
        if scope.connection.scalar(used) is not None:
            raise Conflict(f"the successor of {identifier} is in use: whoever fetched it has it")
    now = int(time.time())
    made, changed = steps.make(scope, rotation, pepper, now, link=True)
    rotation = steps.rest(scope, made.rotation, made.rotation.sealed_until, told=[*made.rotation.told, "link"])
    return (rotation, links.token(rotation.id, made.secret)), changed


def behind(scope: Scope, token: str, now: int) -> tuple[Row[Any], str]:
    """The rotation that a link leads to, and the link's secret.

    Args:
        scope: of all organisations: whoever has the link needs nothing else.

    Raises:
        ObjectNotFound: nothing is behind it; which of the reasons it is, is not told.
    """
    parts = links.parts(token)
    rotation = None if parts is None else book.claimable(scope, parts[0], now)
    if parts is None or rotation is None or rotation.state != "made" or not links.fits(parts[1], rotation.link_hash):
        raise ObjectNotFound(GONE)
    return rotation, parts[1]


def fetch(scope: Scope, token: str, address: str) -> tuple[Fetched, list[Row[Any]]]:
    """The successor behind a link, which leads nowhere from now on. The old key gets its end with the same act.

    Raises as `behind`.
    """
    now = int(time.time())
    rotation, secret = behind(scope, token, now)
    text = links.unseal(rotation.sealed, rotation.id, secret)
    if text is None:
        raise ObjectNotFound(GONE)
    with scope.within(rotation.organisation) as there:
        rotation, changed = steps.deliver(there, rotation, now, fetched_at=now)
        new = there.find(keys, rotation.successor, "key")
        there.record("key:fetch", new.id, after={"rotation": rotation.id, "address": address}, project=new.project)
    return Fetched(new.id, new.name, text, new.expires_at, rotation.key_id, rotation.ends_at), changed


def cancel(scope: Scope, identifier: str, if_match: int | None) -> Changed:
    """Give a rotation up before its successor is delivered; a successor that nobody has is revoked.

    Raises:
        ObjectNotFound: there is none. Conflict: it is past that.
    """
    rotation = book.find(scope, identifier)
    scope.may_change(rotation, if_match=if_match)
    if rotation.state not in ("announced", "made"):
        raise Conflict(f"{identifier} is past the delivery of its successor; revoke the key that is not wanted")
    changed = []
    if rotation.successor:
        new = scope.find(keys, rotation.successor, "key")
        if not new.revoked:
            changed = [keyring.revoke(scope, new, int(time.time()), f"{identifier} was given up")]
    return steps.cancel(scope, rotation, f"given up by {scope.actor.name}"), changed


def listing(scope: Scope, key: str | None, state: str | None) -> Any:
    """The query of a list of rotations."""
    query = scope.select(rotations)
    if key is not None:
        query = query.where(rotations.c.key_id == keyring.find(scope, key).id)
    if state is not None:
        query = query.where(rotations.c.state == state)
    return query
