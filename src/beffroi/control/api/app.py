# SPDX-License-Identifier: Apache-2.0
"""The two ASGI applications of control: on its port for who has an admin key, on `control.sock` for the operator.

In: the table of `routes`. Out: for each call, in this order: how often (port), who (port), may he, what he says, the handler,
the answer. Default deny: an operation that names no permission is not on the port, and what is in no table is nowhere.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from beffroi.control.api import cursor, pages, reading
from beffroi.control.api.operation import MOST, PAGE, Call, Listed, Operation, Page
from beffroi.control.api.problems import HANDLERS
from beffroi.control.api.routes import OPERATIONS
from beffroi.control.house import House
from beffroi.control.tenancy.scope import EVERY, SOCKET, Actor
from beffroi.core.errors import BadRequest, PermissionDenied
from beffroi.store.tables import DEFAULT

PREFIX = "/api/v1"
_LIST = frozenset({"limit", "cursor"})
_EVERY_CALL = frozenset({"organisation"})
Who = Callable[[Request], Awaitable[Actor]]
__all__ = ["PREFIX", "answer_of", "port_app", "socket_app"]


def port_app(house: House) -> Starlette:
    """What the control port answers."""
    from beffroi.control.api.door import Door  # noqa: PLC0415

    return _app(house, [each for each in OPERATIONS if each.needs is not None], Door(house))


def socket_app(house: House) -> Starlette:
    """What `control.sock` answers: everything; whoever may open it is the operator."""
    return _app(house, list(OPERATIONS), _operator)


async def _operator(_: Request) -> Actor:
    return SOCKET


def _app(house: House, operations: list[Operation], who: Who) -> Starlette:
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        methods = by_path.setdefault(operation.path, {})
        if operation.method in methods:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        methods[operation.method] = operation
    routes = [_page(house, path, page) for path, page in pages.OPEN.items()]
    routes += [_route(house, path, methods, who) for path, methods in by_path.items()]
    return Starlette(routes=[*routes, *pages.closing(who)], exception_handlers=HANDLERS)


def _page(house: House, path: str, page: pages.Handler) -> Route:
    async def answer(request: Request) -> Response:
        return await page(house, request)

    return Route(path, answer, methods=["GET"])


def _route(house: House, path: str, methods: dict[str, Operation], who: Who) -> Route:
    allow = ", ".join(sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set())))

    async def answer(request: Request) -> Response:
        actor = await who(request)
        operation = methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise pages.not_allowed(allow)
        return await _call(house, operation, actor, request)

    route = Route(PREFIX + path, answer)
    route.methods = None  # every one: who calls comes before what he calls
    return route


async def _call(house: House, operation: Operation, actor: Actor, request: Request) -> Response:
    if operation.needs is not None:
        actor.need(operation.needs)
    also = _EVERY_CALL | (_LIST if operation.paged else frozenset())
    query, rest = reading.query(request, operation.query, also)
    organisation = _organisation(actor, rest.get("organisation"))
    listing = f"{operation.path} {organisation} {actor.project}"
    page = Page()
    if operation.paged:
        place = cursor.read(house.cursors, listing, rest["cursor"]) if "cursor" in rest else None
        page = Page(reading.whole(rest, "limit", PAGE, MOST), place)
    ask: msgspec.Struct | None = None
    if operation.ask is not None:
        ask = await reading.body(request, operation.ask, operation.most)
    call = Call(
        house=house,
        actor=actor,
        path=dict(request.path_params),
        organisation=organisation,
        query=query,
        ask=ask,
        if_match=reading.if_match(request),
        page=page,
        sign=lambda key: cursor.sign(house.cursors, listing, key),
    )
    return _answered(operation, await operation.handler(call))


def _organisation(actor: Actor, asked: str | None) -> str:
    """The organisation acted on.

    Raises:
        PermissionDenied: it is another than the actor's. BadRequest: it has no name.
    """
    if actor.organisation != EVERY:
        if asked not in (None, actor.organisation):
            raise PermissionDenied(f"{actor.name} may act in the organisation `{actor.organisation}` alone")
        return actor.organisation
    if asked == "":
        raise BadRequest("name an organisation, or leave it out", param="organisation")
    return asked or DEFAULT


def _answered(operation: Operation, content: Any) -> Response:
    headers = {"cache-control": "no-store"}
    if operation.status == 204:
        return Response(None, 204, headers=headers)
    revision = content.get("revision") if isinstance(content, dict) else getattr(content, "revision", None)
    if isinstance(revision, int):
        headers["etag"] = f'"{revision}"'
    return Response(msgspec.json.encode(content), operation.status, headers=headers, media_type="application/json")


def answer_of(operation: Operation) -> Any:
    """The type of the whole answer."""
    if operation.paged:
        return Listed[operation.answer]  # type: ignore[name-defined]
    return operation.answer
