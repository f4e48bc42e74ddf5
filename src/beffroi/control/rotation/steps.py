# SPDX-License-Identifier: Apache-2.0
"""The steps of a rotation, each one transaction: announced → made → overlap → ended.

In: a scope, a rotation as it was seen. Out: the rotation as it is now, and the keys that changed, for the gateway.
A crash between two steps leaves a state from which the next look goes on: a text that nobody can have got is made anew (the
successor keeps its id and its public part, and gets another secret), so that it is neither lost nor doubled.
"""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, func, select

from beffroi.control import keyring
from beffroi.control.keyring import Pepper, living
from beffroi.control.rotation import book, links
from beffroi.control.rotation.shapes import DAY, Schedule
from beffroi.control.tenancy.scope import Scope
from beffroi.store.administration import key_uses, replicas, rotations
from beffroi.store.server import is_server
from beffroi.store.tables import keys, open_intents

USE_LAG = 60  # seconds by which the table of uses may be behind the ledger
LEASE = 60  # seconds for which whoever looks at a rotation has it for himself
LONGEST_WAIT = 3600  # seconds between two looks at an old key whose idleness is waited for
Changed = tuple[Row[Any], list[Row[Any]]]


class Made(NamedTuple):
    """A successor, its text, and the secret of its link if it has one."""

    rotation: Row[Any]
    text: str
    secret: str


def due_at(key: Row[Any], schedule: Schedule) -> int:
    """When a key gets its successor: by the schedule, or in time before it expires; never in the first half of its life."""
    due = int(key.created_at + schedule.every_days * DAY)
    if key.expires_at is not None:
        half = (key.expires_at - key.created_at) // 2
        due = min(due, max(key.expires_at - schedule.overlap_seconds, key.created_at + half))
    return due


def announce(scope: Scope, key: Row[Any], schedule: Schedule, due: int, now: int) -> Row[Any]:
    """Say that a key will be rotated."""
    rotation = book.begin(scope, key, msgspec.to_builtins(schedule), state="announced", due_at=due, now=now)
    book.note(scope, "announce", rotation, key.name, due_at=due)
    return rotation


def take(scope: Scope, rotation: Row[Any], now: int) -> Row[Any]:
    """Have a rotation for oneself for a while. Raises `Moved` where somebody else has it."""
    return book.move(scope, rotation, next_at=now + LEASE)


def make(scope: Scope, rotation: Row[Any], pepper: Pepper, now: int, *, link: bool) -> tuple[Made, list[Row[Any]]]:
    """Make the successor; one that was made and reached nobody gets another secret.

    Args:
        link: seal its text under the secret of a link.
    """
    if rotation.successor:
        new, text = keyring.renew(scope, scope.find(keys, rotation.successor, "key"), pepper)
    else:
        new, text = keyring.succeed(scope, scope.find(keys, rotation.key_id, "key"), pepper, now)
    values: dict[str, Any] = {
        "successor": new.id,
        "state": "made",
        "link_hash": "",
        "sealed": None,
        "sealed_until": None,
    }
    secret = ""
    if link:
        secret = links.new_secret()
        sealed = links.seal(text, rotation.id, secret)
        until = now + int(rotation.plan.get("link_seconds", DAY))
        values |= {"link_hash": sealed.hash, "sealed": sealed.box, "sealed_until": until}
    again = bool(rotation.successor)
    rotation = book.move(scope, rotation, **values)
    book.note(scope, "make", rotation, new.name, again=again, link_until=values["sealed_until"])
    return Made(rotation, text, secret), [new]


def deliver(scope: Scope, rotation: Row[Any], now: int, **more: Any) -> Changed:
    """The successor has arrived: from here on the old key has an end."""
    old = scope.find(keys, rotation.key_id, "key")
    ends, changed = now, []
    if living(old, now):
        old = keyring.end(scope, old, now + int(rotation.plan["overlap_seconds"]), rotation.successor)
        ends, changed = old.expires_at, [old]
    plan = rotation.plan | {"delivered_at": now}
    values = {"link_hash": "", "sealed": None, "sealed_until": None, **more}
    rotation = book.move(
        scope, rotation, state="overlap", ends_at=ends, next_at=now, plan=plan, attempts=0, fault="", **values
    )
    book.note(scope, "deliver", rotation, old.name, ends_at=ends, idle_seconds=plan["idle_seconds"])
    return rotation, changed


def look_at_old(scope: Scope, rotation: Row[Any], now: int, complete: int) -> Changed:
    """End the old key if it is over or idle; otherwise say when to look again.

    Args:
        complete: Unix second up to which the ledger has everything that was served here.
    """
    old = scope.find(keys, rotation.key_id, "key")
    if not living(old, now):
        return _ended(scope, rotation, old, "its overlap was over" if not old.revoked else "it was revoked"), []
    idle = rotation.plan.get("idle_seconds")
    again = int(rotation.ends_at or now)
    if idle is not None:
        used = (
            scope.connection.scalar(scope.select(key_uses, key_uses.c.used_at).where(key_uses.c.key_id == old.id)) or 0
        )
        complete = min(complete, _heard_of(scope))
        since = max(used + USE_LAG, int(rotation.plan["delivered_at"]))
        if since + idle <= complete and not _in_flight(scope, old.id):
            old = keyring.end(scope, old, now, rotation.successor)
            return _ended(scope, rotation, old, "nobody used it any more"), [old]
        again = min(again, max(since + idle, now + min(LONGEST_WAIT, max(idle // 8, 30))))
    return book.move(scope, rotation, next_at=max(again, now + 1)), []


def _heard_of(scope: Scope) -> int:
    """Unix second up to which every machine of a fleet was heard of: one that is silent may have uses that nobody knows."""
    if not is_server(scope.connection):
        return book.NEVER
    silent = scope.connection.scalar(select(func.min(replicas.c.seen_ns)))
    return book.NEVER if silent is None else int(silent) // 1_000_000_000


def _in_flight(scope: Scope, key_id: str) -> bool:
    query = scope.select(open_intents, open_intents.c.request_id).where(open_intents.c.key_id == key_id).limit(1)
    return scope.connection.scalar(query) is not None


def _ended(scope: Scope, rotation: Row[Any], old: Row[Any], why: str) -> Row[Any]:
    rotation = book.move(scope, rotation, state="ended", ends_at=old.expires_at, attempts=0, fault="")
    book.note(scope, "end", rotation, old.name, why=why)
    return rotation


def cancel(scope: Scope, rotation: Row[Any], why: str) -> Row[Any]:
    """Give a rotation up; whoever does has revoked the successor that nobody got: it must not lie about."""
    key = scope.find(keys, rotation.key_id, "key")
    values = {"state": "cancelled", "next_at": book.NEVER, "link_hash": "", "sealed": None, "sealed_until": None}
    rotation = book.move(scope, rotation, fault=why, **values)
    book.note(scope, "cancel", rotation, key.name, why=why)
    return rotation


def rest(scope: Scope, rotation: Row[Any], until: int, **values: Any) -> Row[Any]:
    """Nothing to do before a moment; what failed before has come right."""
    return book.move(scope, rotation, next_at=until, attempts=0, **{"fault": "", **values})


def forget(scope: Scope, rotation: Row[Any], now: int) -> Row[Any]:
    """Of what is over: drop a sealed text once nobody may ask for it any more."""
    if rotation.sealed is not None and (rotation.sealed_until or 0) > now:
        return book.move(scope, rotation, next_at=rotation.sealed_until)
    return book.move(scope, rotation, next_at=book.NEVER, sealed=None, sealed_until=None, link_hash="")


def fail(scope: Scope, rotation: Row[Any], fault: str, wait: int, now: int) -> Row[Any]:
    """Note why a step came to nothing, and when it is tried again; said aloud once for each reason."""
    news = fault != rotation.fault
    rotation = scope.find(rotations, rotation.id, "rotation")
    moved = book.move(scope, rotation, fault=fault, attempts=rotation.attempts + 1, next_at=now + wait)
    if news:
        key = scope.find(keys, rotation.key_id, "key")
        book.note(scope, "fail", moved, key.name, fault=fault)
    return moved
