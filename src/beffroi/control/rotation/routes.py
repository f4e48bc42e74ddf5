# SPDX-License-Identifier: Apache-2.0
"""Operations on rotations, and the one page that needs no key because the link is one.

In: calls. Out: what `service` answers.
"""

import time
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.house import House
from beffroi.control.keys import By
from beffroi.control.rotation import book, service
from beffroi.control.rotation.links import LINK
from beffroi.control.rotation.shapes import MONTH, Rotation
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import CONTROL, EVERY, looking
from beffroi.core.errors import MethodNotAllowed, ObjectNotFound
from beffroi.store.administration import rotations


class RotationAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A rotation of a key by its schedule. `in_seconds`: when its successor is made."""

    key: Annotated[str, Meta(min_length=1, max_length=200)]
    in_seconds: Annotated[int, Meta(ge=0, le=MONTH)] = 0


class RotationQuery(msgspec.Struct, frozen=True):
    """Of one key, or in one state."""

    key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    state: Literal["announced", "made", "overlap", "ended", "cancelled"] | None = None


class Link(msgspec.Struct, frozen=True):
    """A one-time link; it is in this answer and nowhere else. `waiting`: workers that do not know the successor yet."""

    rotation: str
    link: str
    until: int
    waiting: list[int]


async def list_(call: Call) -> Listed[Rotation]:
    """The youngest last."""
    query: RotationQuery = call.query
    rows = await call.read(
        lambda scope: scope.connection.execute(
            call.page.window(service.listing(scope, query.key, query.state), rotations.c.created_at, rotations.c.id)
        ).all()
    )
    return call.listed(rows, book.shown, "created_at", "id")


async def show(call: Call) -> Rotation:
    """One of them."""
    return book.shown(await call.read(lambda scope: book.find(scope, call.path["id"])))


async def begin(call: Call) -> Rotation:
    """It goes on by itself from here."""
    ask: RotationAsk = call.ask
    by = By(call.actor, call.organisation, call.keep)
    rotation, _ = await call.house.keys.act(
        by, lambda scope: (book.shown(service.begin(scope, ask.key, ask.in_seconds)), [])
    )
    return rotation


async def link(call: Call) -> Link:
    """The link is in this answer and nowhere else."""
    keys, identifier = call.house.keys, call.path["id"]
    by = By(call.actor, call.organisation)
    (rotation, token), revision = await keys.act(
        by, lambda scope: service.link(scope, identifier, keys.pepper(), call.if_match)
    )
    address = f"{call.house.address()}{LINK.format(token=token)}"
    return Link(rotation.id, address, rotation.sealed_until, await keys.hold(revision))


async def cancel(call: Call) -> Rotation:
    """The key goes on as it was."""
    by = By(call.actor, call.organisation, call.keep)
    rotation, revision = await call.house.keys.act(
        by, lambda scope: service.cancel(scope, call.path["id"], call.if_match)
    )
    await call.house.keys.hold(revision)
    return book.shown(rotation)


async def fetch(house: House, request: Request) -> Response:
    """The successor behind a one-time link, once. HEAD asks nothing: programs that look at links in mails do that."""
    if request.method == "HEAD":
        raise MethodNotAllowed("this link answers GET, once", allow="GET")
    address = "" if request.client is None else request.client.host
    house.link_limits.call(address)
    token = request.path_params["token"]

    def look() -> None:
        with looking(house.engine, CONTROL, EVERY) as scope:
            service.behind(scope, token, int(time.time()))

    try:
        await house.blocking(look)  # who guesses keeps nobody from acting
        fetched, revision = await house.keys.act(By(CONTROL, EVERY), lambda scope: service.fetch(scope, token, address))
    except ObjectNotFound:
        house.link_limits.wrong(address)
        raise
    await house.keys.hold(revision)
    return Response(
        msgspec.json.encode(fetched),
        media_type="application/json",
        headers={"cache-control": "no-store", "referrer-policy": "no-referrer"},
    )


_READ, _WRITE = Permission.ROTATIONS_READ, Permission.ROTATIONS_WRITE
OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/rotations", list_, _READ, "Rotations, over and under way.", query=RotationQuery, answer=Rotation, paged=True
    ),
    Operation(
        "POST", "/rotations", begin, _WRITE, "Rotate a key by its schedule, now or later.", ask=RotationAsk,
        answer=Rotation, status=201,
    ),
    Operation("GET", "/rotations/{id}", show, _READ, "One rotation, and what it waits for.", answer=Rotation),
    Operation(
        "POST", "/rotations/{id}/link", link, _WRITE,
        "Another one-time link to a successor that nobody has yet; those from before lead nowhere.", answer=Link,
        status=201,
    ),
    Operation(
        "POST", "/rotations/{id}/cancel", cancel, _WRITE, "Give a rotation up before its successor is delivered.",
        answer=Rotation,
    ),
)  # fmt: skip
