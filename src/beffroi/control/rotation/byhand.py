# SPDX-License-Identifier: Apache-2.0
"""A rotation that somebody asks for and is answered at once with the successor.

In: a key, an overlap, and maybe a claim. Out: the successor, and its text, once; twice for who repeats the claim.
"""

import time
from typing import Any

from sqlalchemy import Row

from beffroi.control import keyring
from beffroi.control.keyshapes import RotateAsk, Rotated
from beffroi.control.rotation import book, links, steps
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest
from beffroi.store.administration import rotations
from beffroi.store.tables import keys

CLAIM = 900  # seconds for which a claim is answered again
Done = tuple[Rotated, list[Row[Any]]]


def rotate(scope: Scope, row: Row[Any], ask: RotateAsk, pepper: keyring.Pepper) -> Done:
    """Make the successor and give the key its end, all in one transaction.

    Raises:
        BadRequest: it is revoked, has a successor already, or one is on its way.
    """
    keyring.require_rotatable(scope, row)
    now = int(time.time())
    if (under_way := book.open_of(scope, row.id)) is not None and under_way.state == "announced":
        steps.cancel(scope, under_way, "the key was rotated by hand")
    new, text = keyring.succeed(scope, row, pepper, now)
    old = keyring.end(scope, row, now + ask.overlap_seconds, new.id)
    ends = old.expires_at
    plan = {"overlap_seconds": ask.overlap_seconds, "idle_seconds": None}
    kept: dict[str, Any] = {"successor": new.id, "ends_at": ends, "next_at": ends}
    if ask.claim is not None:
        kept["id"] = _identifier(ask.claim)
        sealed = links.seal(text, kept["id"], ask.claim)
        kept |= {"link_hash": sealed.hash, "sealed": sealed.box, "sealed_until": now + CLAIM}
    rotation = book.begin(scope, row, plan, state="overlap", due_at=now, now=now, **kept)
    book.note(scope, "deliver", rotation, row.name, ends_at=ends, by=scope.actor.id)
    return _rotated(old, new, text), [old, new]


def claimed(scope: Scope, ask: RotateAsk) -> Done | None:
    """The answer that a claim was given before; None: it was given none.

    Raises:
        BadRequest: it was, and that is too long ago.
    """
    if ask.claim is None:
        return None
    now = int(time.time())
    identifier = _identifier(ask.claim)
    query = scope.select(rotations).where(rotations.c.id == identifier)
    found = scope.connection.execute(query).one_or_none()
    if found is None:
        return None
    rotation = book.claimable(scope, identifier, now)
    text = None if rotation is None else links.unseal(rotation.sealed, identifier, ask.claim)
    if text is None:
        raise BadRequest("this claim was answered before, and its answer is not kept any more", param="claim")
    old, new = (scope.find(keys, each, "key") for each in (found.key_id, found.successor))
    return _rotated(old, new, text), [old, new]


def _rotated(old: Row[Any], new: Row[Any], text: str) -> Rotated:
    return Rotated(new.id, new.public, new.name, text, new.expires_at, old.id, old.public, old.expires_at or 0, [])


def _identifier(claim: str) -> str:
    """Of the rotation that answers a claim: whoever has the claim finds it, and nobody else can make one that clashes."""
    return f"rot_{links.secret_hash(claim)[:32]}"
