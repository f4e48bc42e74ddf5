# SPDX-License-Identifier: Apache-2.0
"""`Idempotency-Key`: whoever asks the same twice under one key gets the first answer again, and nothing is done twice.

In: a POST with that header. Out: what was answered before, or a place in which the answer is kept for a day, over restarts.
A place is taken before anything is done, and its answer is written in the transaction of the act (`Call.act`): a process
that dies in between leaves either nothing done and no answer, or both. Where an act has its transaction elsewhere, a place
without an answer says that nobody knows. Answers are sealed: one may hold a key just made. What was refused is not kept.
"""

import hashlib
import hmac
import re
import time
from typing import Any

import msgspec
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from beffroi.control.house import House
from beffroi.control.tenancy.scope import CONTROL, EVERY, Actor, Scope, acting
from beffroi.core.errors import BadRequest, BeffroiError, IdempotencyKeyReused, NotAnswered
from beffroi.store.administration import idempotency

KEPT = 24 * 3_600  # seconds
UNDER_WAY = 60  # seconds for which a place without an answer is one that is being worked on
_SWEEP = 600  # seconds between two removals of what is older
_FORM = re.compile(r"[!-~]{1,200}")
_t = idempotency.c


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept."""

    body: bytes
    etag: str


class Keeper:
    """All places; one for an application."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._swept = 0.0

    async def place(self, request: Request, actor: Actor, organisation: str, asked: bytes) -> "Place | Response":
        """A place to keep the answer in, or the answer that was given before.

        Args:
            asked: all that decides what is done.

        Raises:
            BadRequest: a key that is none. IdempotencyKeyReused: it stands for something else.
            NotAnswered: the first call is under way, or nobody knows what came of it.
        """
        key = request.headers["idempotency-key"]
        if not _FORM.fullmatch(key) or len(request.headers.getlist("idempotency-key")) > 1:
            raise BadRequest("an Idempotency-Key is 1 to 200 visible ASCII characters, once", param="Idempotency-Key")
        print_ = hashlib.sha256(asked).digest()
        place = Place(self._house, actor, organisation, key)
        found = await self._house.writing(lambda: self._take(place, print_))
        return place if found is None else place.replay(found, print_)

    def _take(self, place: "Place", asked: bytes) -> Row[Any] | None:
        now = int(time.time())
        if now - self._swept > _SWEEP:
            self._swept = now
            with acting(self._house.engine, CONTROL, EVERY) as scope:
                scope.connection.execute(scope.delete(idempotency).where(_t.created_at < now - KEPT))
        try:
            with acting(self._house.engine, place.actor, place.organisation) as scope:
                row = scope.connection.execute(place.row(scope.select(idempotency))).one_or_none()
                if row is not None and row.created_at >= now - KEPT:
                    return row
                scope.connection.execute(place.row(scope.delete(idempotency)))
                scope.connection.execute(
                    scope.insert(idempotency, EVERY).values(
                        actor=place.actor.id,
                        idempotency_key=place.key,
                        asked=asked,
                        status=0,
                        answer=b"",
                        created_at=now,
                    )
                )
                return None
        except IntegrityError:  # another replica took it in between
            raise NotAnswered("the first call under this Idempotency-Key is under way", retry_after=1) from None


class Place:
    """Where one answer is kept."""

    def __init__(self, house: House, actor: Actor, organisation: str, key: str) -> None:
        self._house = house
        self.actor = actor
        self.organisation = organisation
        self.key = key

    @property
    def _context(self) -> str:
        return f"answer {self.organisation} {self.actor.id} {self.key}"

    def row(self, statement: Any) -> Any:
        """A statement on this place alone."""
        return statement.where(
            _t.organisation == self.organisation, _t.actor == self.actor.id, _t.idempotency_key == self.key
        )

    def replay(self, row: Row[Any], asked: bytes) -> Response:
        """What was answered. Raises as `Keeper.place`."""
        if not hmac.compare_digest(row.asked, asked):
            raise IdempotencyKeyReused(
                "this Idempotency-Key was used for another call; use one key for one call, and again only to repeat it",
                param="Idempotency-Key",
            )
        if not row.status:
            if time.time() - row.created_at < UNDER_WAY:
                raise NotAnswered("the first call under this Idempotency-Key is under way; ask again", retry_after=1)
            raise NotAnswered(
                "the process that took the first call under this Idempotency-Key ended before it was answered; "
                "look whether it was done, and use another key if it was not"
            )
        kept = msgspec.msgpack.decode(self._house.vault.unseal(row.answer, self._context), type=Kept)
        headers = {"cache-control": "no-store", "idempotency-replayed": "true"} | (
            {"etag": kept.etag} if kept.etag else {}
        )
        return Response(
            kept.body or None, row.status, headers=headers, media_type="application/json" if kept.body else None
        )

    def write(self, connection: Connection, response: Response) -> None:
        """Keep an answer, in a transaction of the act."""
        kept = Kept(bytes(response.body), response.headers.get("etag", ""))
        scope = Scope(connection, self.actor, self.organisation)
        sealed = self._house.vault.seal(msgspec.msgpack.encode(kept), self._context)
        connection.execute(self.row(scope.update(idempotency)).values(status=response.status_code, answer=sealed))

    async def finish(self, response: Response) -> None:
        """Keep the answer that is given."""

        def run() -> None:
            with acting(self._house.engine, self.actor, self.organisation) as scope:
                self.write(scope.connection, response)

        await self._house.writing(run)

    async def leave(self, error: BeffroiError) -> None:
        """Nothing was done, so that the key may be used again; unless what was done is not known, or was kept already."""
        if error.status >= 500:
            return

        def run() -> None:
            with acting(self._house.engine, self.actor, self.organisation) as scope:
                scope.connection.execute(self.row(scope.delete(idempotency)).where(_t.status == 0))

        await self._house.writing(run)
