# SPDX-License-Identifier: Apache-2.0
"""Pages of control that need no key: health, metrics, the description of the API; and the end of the road for all others.

In: what the house knows. Out: answers. `OPEN` is the whole list.
"""

import time
from collections.abc import Awaitable, Callable

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from beffroi.control.house import House
from beffroi.control.metrics import Scrape
from beffroi.control.rotation.links import LINK
from beffroi.control.rotation.routes import fetch
from beffroi.control.tenancy.scope import Actor

Handler = Callable[[House, Request], Awaitable[Response]]


async def livez(house: House, _: Request) -> Response:
    """The process answers."""
    return _json({"live": True, "uptime_seconds": round(time.time() - house.started, 3)})


async def readyz(house: House, _: Request) -> Response:
    """Whether requests can be served, and each part with its reason."""
    parts = await house.readiness()
    ready = all(good for good, _ in parts.values())
    shown = {name: {"ready": good, "reason": reason} for name, (good, reason) in parts.items()}
    return _json({"ready": ready, "parts": shown}, 200 if ready else 503)


async def metrics(house: House, _: Request) -> Response:
    """What is counted, for Prometheus."""
    scrape = await house.scrape()
    text = await house.blocking(lambda: _exposition(scrape))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _exposition(scrape: Scrape) -> bytes:
    from beffroi.control.exposition import render  # noqa: PLC0415 - not before somebody scrapes

    return render(scrape)


def _json(content: object, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(content), status, media_type="application/json", headers={"cache-control": "no-store"}
    )


OPEN: dict[str, Handler] = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, LINK: fetch}


def not_allowed(allow: str) -> HTTPException:
    """405, with the methods that there are."""
    return HTTPException(405, headers={"allow": allow})


def closing(who: Callable[[Request], Awaitable[Actor]]) -> list[Route]:
    """What answers below `/api` where no operation does: 404, after the key was looked at."""

    async def nothing(request: Request) -> Response:
        await who(request)
        raise HTTPException(404)

    route = Route("/api/{rest:path}", nothing)
    route.methods = None
    return [route]
