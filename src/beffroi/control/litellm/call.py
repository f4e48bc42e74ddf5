# SPDX-License-Identifier: Apache-2.0
"""How a LiteLLM script is read and answered: its body or query, sorted; answers and errors in the shape it expects.

In: a request on the control port or `control.sock`. Out: what the verb's handler gives, and what was not kept of it; errors
as `{"error": {message, type, param, code}}`. The admin key and its limits are those of the admin API: default deny as there.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from beffroi.control.api import reading
from beffroi.control.api.problems import UNKEPT, when
from beffroi.control.fleet.agreement import unheard_of
from beffroi.control.keys import By
from beffroi.control.litellm import fields
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Actor, Scope, looking
from beffroi.core.errors import BadRequest, BeffroiError
from beffroi.telemetry import logs

if TYPE_CHECKING:
    from beffroi.control.house import House

T = TypeVar("T")
MOST = 256 << 10  # bytes of a body
log = logs.Logger("control.litellm")
_TYPES = {401: "auth_error", 403: "auth_error", 404: "not_found_error", 429: "rate_limit_error"}


class Ask:
    """One call, read and permitted.

    Attributes:
        given: the fields that are kept; told: a sentence for each that is not.
        quotas: ids of those that the ask changed, for `limits.follow`.
    """

    def __init__(self, house: "House", actor: Actor, organisation: str, given: dict[str, Any], told: list[str]) -> None:
        self.house = house
        self.actor = actor
        self.organisation = organisation
        self.given = given
        self.told = told
        self.quotas: list[str] = []

    @property
    def by(self) -> By:
        """Who asks, as the service of keys wants it."""
        return By(self.actor, self.organisation)

    async def read(self, ask: Callable[[Scope], T]) -> T:
        """Run a question to the database, on one consistent view."""

        def run() -> T:
            with looking(self.house.engine, self.actor, self.organisation) as scope:
                return ask(scope)

        return await self.house.blocking(run)

    async def act(self, do: Callable[[Scope], tuple[T, list[Any]]]) -> T:
        """Run a change in one transaction, and wait until workers hold what it changed of keys.

        Args:
            do: gives its result and the rows of `keys` that changed.
        """
        result, revision = await self.house.keys.act(self.by, do)
        await self.house.keys.hold(revision)
        await self.house.keys.fill_budgets()
        return result

    async def refuse(self, do: Callable[[Scope], tuple[T, list[Any]]], done: str) -> T:
        """As `act`, for what has keys refused: it is done when every worker of every machine refuses them.

        Args:
            done: what is true even where one has not confirmed it, for the sentence.

        Raises:
            NotAcknowledged: one has not; asked again it is confirmed.
        """
        keys = self.house.keys
        result, _ = await keys.act(self.by, do, urgent=True)
        missing = await keys.follow_tenants()  # waits for all that is known by now, keys too
        late, fleet = await keys.everywhere()
        if missing:
            raise keys.unheard(done, missing)
        if late:
            raise unheard_of(done, late, fleet)
        return result

    def text(self, name: str) -> str:
        """A field that must be there.

        Raises:
            BadRequest: it is not.
        """
        value = self.given.get(name)
        if not isinstance(value, str) or not value or len(value) > 300:
            raise BadRequest(f"`{name}` is needed, as text", param=name)
        return value


class Verb(NamedTuple):
    """One method of one path. `name`: its row in `fields.VERBS`, where the path has parts that differ."""

    method: str
    path: str
    needs: Permission
    handler: Callable[[Ask], Awaitable[Any]]
    name: str = ""


def route(house: "House", verb: Verb, who: Callable[[Request], Awaitable[Actor]]) -> Route:
    """Its route, for an application whose `who` tells who calls."""

    async def answer(request: Request) -> Response:
        try:
            return await _answer(house, verb, await who(request), request)
        except BeffroiError as error:
            return refused(error)
        except DataError:
            return refused(BadRequest(UNKEPT))
        except (SQLAlchemyError, OSError) as error:
            log.error("the data directory does not take or give what a verb needs", path=verb.path, exc_info=error)
            return _error(
                503, "the data directory cannot be read or written now; ask again", None, {"retry-after": "1"}
            )

    return Route(verb.path, answer, methods=[verb.method])


async def _answer(house: "House", verb: Verb, actor: Actor, request: Request) -> Response:
    actor.need(verb.needs)
    given: dict[str, Any] = dict(request.query_params)
    if verb.method == "POST":
        given |= reading.body(await reading.content(request, MOST), dict)
    given |= request.path_params
    kept, told = fields.sort(verb.name or f"{verb.method} {verb.path}", given)
    organisation = kept.pop("organization_id", None) or None
    if not isinstance(organisation, str | None):
        raise BadRequest("`organization_id` is a text", param="organization_id")
    ask = Ask(house, actor, actor.acts_in(organisation), kept, told)
    content = await verb.handler(ask)
    if isinstance(content, dict) and ask.told:
        content["beffroi"] = {"told": ask.told}
    headers = {"cache-control": "no-store", "x-beffroi-told": str(len(ask.told))}
    return Response(msgspec.json.encode(content), 200, headers=headers, media_type="application/json")


def refused(error: BeffroiError) -> Response:
    """An error in the shape that scripts look into."""
    if not error.exposable:
        log.error("a verb failed", exc_info=error)
        return _error(500, "something went wrong inside; the log says what", None, {})
    return _error(error.status, error.message, error.param, when(error))


def _error(status: int, message: str, param: str | None, headers: dict[str, str]) -> Response:
    kind = _TYPES.get(status, "bad_request_error" if status < 500 else "internal_server_error")
    content = {"error": {"message": message, "type": kind, "param": param, "code": str(HTTPStatus(status).value)}}
    return Response(msgspec.json.encode(content), status, headers=headers, media_type="application/json")
