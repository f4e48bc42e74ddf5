# SPDX-License-Identifier: Apache-2.0
"""The two ASGI applications of control: on its port for who has an admin key, on `control.sock` for the operator.

In: the table of `routes`. Out: for each call, in this order: how often (port), who (port), may he, what he says, the handler,
the answer. Default deny: an operation that names no permission is not on the port, and what is in no table is nowhere.
"""

import re
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DataError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from beffroi.control.api import cursor, openapi, pages, reading
from beffroi.control.api.door import Door
from beffroi.control.api.idempotency import Keeper, Place
from beffroi.control.api.operation import MOST, ORGANISATION, PAGE, Call, Operation, Page
from beffroi.control.api.problems import HANDLERS, UNKEPT
from beffroi.control.api.routes import OPERATIONS, PREFIX
from beffroi.control.house import House
from beffroi.control.litellm import verbs as litellm
from beffroi.control.operations.shapes import Work
from beffroi.control.tenancy.scope import SOCKET, Actor
from beffroi.core.errors import BadRequest, BeffroiError

DESCRIPTION = f"{PREFIX}/openapi.json"
_LIST = frozenset({"limit", "cursor"})
_NO_BODY = frozenset({"GET", "HEAD"})
_EVERY_CALL = frozenset({"organisation"})
Who = Callable[[Request], Awaitable[Actor]]


def port_app(house: House) -> Starlette:
    """What the control port answers."""
    return _app(house, [each for each in OPERATIONS if each.needs is not None], Door(house))


def socket_app(house: House) -> Starlette:
    """What `control.sock` answers: everything; whoever may open it is the operator."""
    return _app(house, list(OPERATIONS), _operator)


@cache
def _document() -> bytes:
    return msgspec.json.encode(openapi.document(OPERATIONS, PREFIX))


async def _describe(_: House, __: Request) -> Response:
    """The admin API, as OpenAPI 3.1."""
    return Response(_document(), media_type="application/json")


async def _operator(_: Request) -> Actor:
    return SOCKET


def _app(house: House, operations: list[Operation], who: Who) -> Starlette:
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        methods = by_path.setdefault(operation.path, {})
        if operation.method in methods:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        methods[operation.method] = operation
    routes = [_page(house, path, page) for path, page in {**pages.OPEN, DESCRIPTION: _describe}.items()]
    keeper = Keeper(house)
    routes += [_route(house, keeper, path, methods, who) for path, methods in sorted(by_path.items(), key=_rank)]
    routes += litellm.routes(house, who)
    app = Starlette(exception_handlers=HANDLERS)
    app.router = _Parted(routes, pages.closing(who))
    return app


class _Parted(Router):
    """Looks at the routes of one kind of things alone: a hundred patterns, tried in turn, cost a fifth of a call."""

    def __init__(self, routes: list[Route], last: list[Route]) -> None:
        super().__init__([*routes, *last])
        parts: dict[str, list[Route]] = {"": []}
        for route in routes:
            parts.setdefault(_part(route.path), []).append(route)
        self._parts = {part: Router([*those, *last]) for part, those in parts.items()}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the routes that can be meant."""
        part = self._parts.get(_part(scope["path"])) or self._parts[""]
        await part.app(scope, receive, send)


def _part(path: str) -> str:
    """The first word behind the prefix; empty where the prefix is not there."""
    return path[len(PREFIX) + 1 :].partition("/")[0] if path.startswith(f"{PREFIX}/") else ""


def _rank(item: tuple[str, object]) -> list[bool]:
    """A path whose part is a word goes before one that takes anything there, whichever was declared first."""
    return [part.startswith("{") for part in item[0].split("/")]


def _page(house: House, path: str, page: pages.Handler) -> Route:
    async def answer(request: Request) -> Response:
        return await page(house, request)

    return Route(path, answer, methods=["GET"])


def _route(house: House, keeper: Keeper, path: str, methods: dict[str, Operation], who: Who) -> Route:
    allow = ", ".join(sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set())))

    async def answer(request: Request) -> Response:
        actor = await who(request)
        operation = methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise pages.not_allowed(allow)
        return await _call(house, keeper, operation, actor, request)

    route = Route(PREFIX + path, answer)
    route.methods = None  # every one: who calls comes before what he calls
    return route


async def _call(house: House, keeper: Keeper, operation: Operation, actor: Actor, request: Request) -> Response:
    if operation.needs is not None:
        actor.need(operation.needs)
    also = _EVERY_CALL | (_LIST if operation.paged else frozenset())
    query, rest = reading.query(request, operation.query, also)
    organisation = _organisation(actor, rest.get("organisation"))
    listing = f"{operation.path} {organisation} {actor.project}"
    page = Page()
    if operation.paged:
        after = cursor.read(house.cursors, listing, rest["cursor"]) if "cursor" in rest else None
        page = Page(reading.whole(rest, "limit", PAGE, MOST), after)
    content = await reading.content(request, operation.most) if request.method not in _NO_BODY else b""
    ask = None if operation.ask is None else reading.body(content, operation.ask)
    condition = reading.if_match(request)
    place: Place | None = None
    if "idempotency-key" in request.headers and operation.method == "POST" and not operation.repeats:
        asked = msgspec.json.encode([operation.path, dict(request.path_params), query, content, condition])
        found = await keeper.place(request, actor, organisation, asked)
        if isinstance(found, Response):
            return found
        place = found
    call = Call(
        house=house,
        actor=actor,
        path=dict(request.path_params),
        organisation=organisation,
        query=query,
        ask=ask,
        if_match=condition,
        page=page,
        sign=lambda key: cursor.sign(house.cursors, listing, key),
        keep=None if place is None else _keep(operation, place),
    )
    if place is None:
        return _answered(operation, await _handled(operation, call))
    try:
        answer = _answered(operation, await _handled(operation, call))
    except BeffroiError as error:
        await place.leave(error)
        raise
    await place.finish(answer)
    return answer


async def _handled(operation: Operation, call: Call) -> Any:
    """What the handler answers; what no column can hold is the caller's mistake on every backing, not a fault of storage."""
    try:
        return await operation.handler(call)
    except DataError:
        raise BadRequest(UNKEPT) from None


def _keep(operation: Operation, place: Place) -> Callable[[Connection, Any], None]:
    """Keeps the answer in the transaction of the act, where the act gives it."""

    def keep(connection: Connection, result: Any) -> None:
        if isinstance(result, msgspec.Struct) or operation.status == HTTPStatus.NO_CONTENT:
            place.write(connection, _answered(operation, result))

    return keep


def _organisation(actor: Actor, asked: str | None) -> str:
    """The organisation acted on.

    Raises:
        PermissionDenied: it is another than the actor's. BadRequest: no organisation can be called like that.
    """
    found = actor.acts_in(asked)
    if not re.fullmatch(ORGANISATION, found):
        raise BadRequest(
            "`organisation` is an id of small letters, digits, - and _, or `*` for all", param="organisation"
        )
    return found


def _answered(operation: Operation, content: Any) -> Response:
    headers = {"cache-control": "no-store"}
    if operation.status == HTTPStatus.NO_CONTENT:
        return Response(None, operation.status, headers=headers)
    revision = content.get("revision") if isinstance(content, dict) else getattr(content, "revision", None)
    if isinstance(revision, int):
        headers["etag"] = f'"{revision}"'
    if isinstance(content, Work) and operation.status == HTTPStatus.ACCEPTED:
        headers["location"] = f"{PREFIX}/operations/{content.id}"
    return Response(msgspec.json.encode(content), operation.status, headers=headers, media_type="application/json")
