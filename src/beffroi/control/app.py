# SPDX-License-Identifier: Apache-2.0
"""The pages of the control process, as two ASGI applications over one list of routes.

In: HTTP on the control port (only what `OPEN` names: there is no administrator yet who could prove who he is), and on
`control.sock`, which only this user may open (everything). Out: JSON, and errors as problem details (RFC 9457).
"""

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from beffroi.control import catalogue, ledger, requests
from beffroi.control.answers import body, json, whole
from beffroi.control.house import House
from beffroi.control.keyring import KeyAsk, RotateAsk
from beffroi.control.metrics import Scrape
from beffroi.core.errors import BeffroiError, InternalError
from beffroi.telemetry import logs

OPEN = ("/livez", "/readyz", "/metrics")  # what the control port answers; every other route is for control.sock alone
ACTOR = "cli"
log = logs.Logger("control.app")
Handler = Callable[[House, Request], Awaitable[Response]]


class RevokeAsk(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a revocation."""

    cut: bool = False


async def livez(house: House, request: Request) -> Response:
    """The process answers."""
    return json({"live": True, "uptime_seconds": round(time.time() - house.started, 3)})


async def readyz(house: House, request: Request) -> Response:
    """Whether requests can be served, and each part with its reason."""
    parts = await house.readiness()
    ready = all(good for good, _ in parts.values())
    shown = {name: {"ready": good, "reason": reason} for name, (good, reason) in parts.items()}
    return json({"ready": ready, "parts": shown}, 200 if ready else 503)


async def metrics(house: House, request: Request) -> Response:
    """What is counted, for Prometheus."""
    scrape = await house.scrape()
    text = await house.blocking(lambda: _exposition(scrape))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _exposition(scrape: Scrape) -> bytes:
    from beffroi.control.exposition import render  # noqa: PLC0415 - not before somebody scrapes

    return render(scrape)


async def status(house: House, request: Request) -> Response:
    """What runs: revisions, workers, models, engines, shipping."""
    progress = house.shipper.progress()
    current = house.current()
    peers = sorted(house.bus.peers.items())
    return json(
        {
            "config_revision": house.bus.config_revision,
            "config_refused": house.refused or None,
            "key_revision": house.bus.key_revision,
            "workers": [
                {
                    "worker": slot,
                    "pid": peer.pid,
                    "boot": peer.boot,
                    "current": slot in current,
                    "fault": peer.fault or None,
                }
                for slot, peer in peers
            ],
            "workers_wanted": house.bus.workers,
            "models": [model.id for model in house.config.models],
            "engines": [
                {"name": engine.name, "url": engine.url, "kind": engine.kind} for engine in house.config.engines
            ],
            "shipping": {
                "lag_bytes": progress.lag_bytes,
                "lag_seconds": progress.lag_seconds,
                "records": progress.records,
            },
        }
    )


async def list_keys(house: House, request: Request) -> Response:
    """Every key, without secrets."""
    return json({"keys": await house.keys.list()})


async def create_key(house: House, request: Request) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    return json(await house.keys.create(await body(request, KeyAsk), actor=ACTOR), 201)


async def revoke_key(house: House, request: Request) -> Response:
    """Revoke a key; answers when every worker refuses it."""
    ask = await body(request, RevokeAsk)
    return json(await house.keys.revoke(request.path_params["reference"], actor=ACTOR, cut=ask.cut))


async def show_key(house: House, request: Request) -> Response:
    """One key, and what is used of its limits."""
    return json(await house.keys.show(request.path_params["reference"]))


async def rotate_key(house: House, request: Request) -> Response:
    """Make a successor; its text is in this answer and nowhere else."""
    ask = await body(request, RotateAsk)
    return json(await house.keys.rotate(request.path_params["reference"], ask.overlap_seconds, actor=ACTOR), 201)


async def rotate_pepper(house: House, request: Request) -> Response:
    """Make a new pepper for the keys to come."""
    pepper, waiting = await house.keys.rotate_pepper(actor=ACTOR)
    return json({"pepper_id": pepper, "waiting": waiting}, 201)


async def usage(house: House, request: Request) -> Response:
    """Requests, tokens and money from the ledger.

    `?since=`, `?until=`: Unix seconds, or a day (YYYY-MM-DD) of the zone that budgets follow; `?by=key,model,day`;
    `?key=`, `?model=`, `?project=`: of these alone.
    """
    query = request.query_params
    zone = house.config.settings.time_zone
    since, until = (ledger.moment(query.get(name), name, zone) for name in ("since", "until"))
    by = tuple(part for part in query.get("by", "key,model").split(",") if part)
    keys = await house.keys.ids(query["key"]) if "key" in query else None
    await house.current_ledger()
    rows = await house.blocking(
        lambda: ledger.usage(
            house.engine,
            since=since,
            until=until,
            by=by,
            zone=zone,
            keys=keys,
            model=requests.wanted(house.config, None, query.get("model"), None).model,
            project=query.get("project"),
        )
    )
    if not rows:
        requests.doubt_model(house.config, query.get("model"))
    if "key" in by:
        rows = [row | {"key_name": house.keys.name(str(row["key"]))} for row in rows]
    progress = house.shipper.progress()
    return json({"by": by, "zone": zone, "usage": rows, "shipping_lag_bytes": progress.lag_bytes})


async def list_requests(house: House, request: Request) -> Response:
    """The last requests, or those since a place: `?limit=`, `?after=` (the `next` of an earlier answer), and filters."""
    query = request.query_params
    keys = await house.keys.ids(query["key"]) if "key" in query else None
    wanted = requests.wanted(house.config, keys, query.get("model"), query.get("outcome"))
    after = query.get("after")
    rows, place, missed = house.recent.since(after)
    if after is None:
        await house.current_ledger()
        place = house.recent.since(None)[1]  # before the ledger is read: a row may come twice, none is missed
        limit = whole(request, "limit", 20, requests.MOST)
        rows = await house.blocking(lambda: requests.last(house.engine, limit, wanted))
        if not rows:
            requests.doubt_model(house.config, query.get("model"))
    shown = [requests.shown(row, house.keys.name) for row in rows if wanted.fits(row)]
    return json({"requests": shown, "next": place, "missed": missed})


async def show_request(house: House, request: Request) -> Response:
    """All that is known of one request."""
    await house.current_ledger()
    reference = request.path_params["reference"]
    return json(await house.blocking(lambda: requests.find(house.engine, reference, house.keys.name, house.config)))


async def list_models(house: House, request: Request) -> Response:
    """What is served, for how much, and whether it can be."""
    return json({"models": catalogue.models(house.config, await house.metrics())})


async def list_engines(house: House, request: Request) -> Response:
    """Engines as the workers find them, and their last hour."""
    await house.current_ledger()
    workers = await house.metrics()
    return json({"engines": await house.blocking(lambda: catalogue.engines(house.engine, house.config, workers))})


async def verify_journal(house: House, request: Request) -> Response:
    """Checksums and sequence of what is not shipped; one settlement for each intent."""
    return json(await house.blocking(lambda: ledger.verify(house.engine, house.data / "journal")))


async def begin_backup(house: House, request: Request) -> Response:
    """Copy the data directory into a folder below it, for `beffroi backup create` to pack."""
    return json(await house.backups.begin(actor=ACTOR), 202)


async def backup(house: House, request: Request) -> Response:
    """How far the copy is."""
    return json(house.backups.state)


async def discard_backup(house: House, request: Request) -> Response:
    """Remove the copy."""
    await house.backups.discard()
    return json(house.backups.state)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/livez", livez),
    ("GET", "/readyz", readyz),
    ("GET", "/metrics", metrics),
    ("GET", "/api/v1/status", status),
    ("GET", "/api/v1/keys", list_keys),
    ("POST", "/api/v1/keys", create_key),
    ("GET", "/api/v1/keys/{reference}", show_key),
    ("POST", "/api/v1/keys/{reference}/revoke", revoke_key),
    ("POST", "/api/v1/keys/{reference}/rotate", rotate_key),
    ("POST", "/api/v1/peppers", rotate_pepper),
    ("GET", "/api/v1/usage", usage),
    ("GET", "/api/v1/requests", list_requests),
    ("GET", "/api/v1/requests/{reference}", show_request),
    ("GET", "/api/v1/models", list_models),
    ("GET", "/api/v1/engines", list_engines),
    ("GET", "/api/v1/journal/verify", verify_journal),
    ("POST", "/api/v1/backup", begin_backup),
    ("GET", "/api/v1/backup", backup),
    ("DELETE", "/api/v1/backup", discard_backup),
)


def port_app(house: House) -> Starlette:
    """What the control port answers: `OPEN`, and nothing else."""
    return _app(house, [route for route in ROUTES if route[1] in OPEN])


def socket_app(house: House) -> Starlette:
    """What `control.sock` answers: everything."""
    return _app(house, list(ROUTES))


def _app(house: House, routes: list[tuple[str, str, Handler]]) -> Starlette:
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in routes:
        by_path.setdefault(path, {})[method] = handler
    refusals: dict[Any, Any] = {
        BeffroiError: _refused,
        HTTPException: _not_found,
        SQLAlchemyError: _not_stored,
        OSError: _not_stored,
        Exception: _failed,
    }
    pages = [_route(house, path, handlers) for path, handlers in by_path.items()]
    return Starlette(routes=pages, exception_handlers=refusals)


def _route(house: House, path: str, handlers: dict[str, Handler]) -> Route:
    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](house, request)

    return Route(path, answer, methods=list(handlers))


def problem(
    status: int, code: str, detail: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem details object (RFC 9457); `code` is stable, `detail` is for the person who reads it."""
    content: dict[str, Any] = {
        "type": f"urn:beffroi:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if param is not None:
        content["param"] = param
    return Response(msgspec.json.encode(content), status, media_type="application/problem+json", headers=headers)


async def _refused(request: Request, error: BeffroiError) -> Response:
    if not error.exposable:
        return await _failed(request, error)
    headers = {"retry-after": str(-int(-error.retry_after // 1))} if error.retry_after is not None else None
    code = error.code or HTTPStatus(error.status).name.lower()
    return problem(error.status, code, error.message, param=error.param, headers=headers)


async def _not_found(request: Request, error: HTTPException) -> Response:
    code = HTTPStatus(error.status_code).name.lower()
    detail = {
        404: f"there is no page {request.url.path} here",
        405: f"{request.url.path} does not take {request.method}",
    }
    return problem(
        error.status_code, code, detail.get(error.status_code, error.detail), headers=dict(error.headers or {})
    )


async def _not_stored(request: Request, error: Exception) -> Response:
    log.error("the data directory does not take or give what a page needs", path=request.url.path, exc_info=error)
    detail = "the data directory cannot be read or written now (is its disk full?); what was asked can be asked again"
    return problem(503, "storage_unavailable", detail, headers={"retry-after": "1"})


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a page failed", path=request.url.path, exc_info=error)
    return problem(500, InternalError.code or "", "something went wrong inside; the log says what")
