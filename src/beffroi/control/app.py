# SPDX-License-Identifier: Apache-2.0
"""The pages of the control process, as two ASGI applications over one list of routes.

In: HTTP on the control port (only what `OPEN` names: there is no administrator yet who could prove who he is), and on
`control.sock`, which only this user may open (everything). Out: JSON, and errors as problem details (RFC 9457).
"""

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from beffroi.control import ledger
from beffroi.control.house import House
from beffroi.control.keys import KeyAsk
from beffroi.control.metrics import render
from beffroi.core.errors import BadRequest, BeffroiError, BodyTooLarge, InternalError

OPEN = ("/livez", "/readyz", "/metrics")  # what the control port answers; every other route is for control.sock alone
MAX_BODY = 64 << 10
ACTOR = "cli"
log = structlog.stdlib.get_logger("control.app")
T = TypeVar("T")
Handler = Callable[[House, Request], Awaitable[Response]]


class RevokeAsk(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a revocation."""

    cut: bool = False


def _json(content: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(content), status, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def _body(request: Request, kind: type[T]) -> T:
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY:
            raise BodyTooLarge(f"the body is over {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(bytes(taken) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what this page takes: {error}") from None


async def livez(house: House, request: Request) -> Response:
    """The process answers."""
    return _json({"live": True, "uptime_seconds": round(time.time() - house.started, 3)})


async def readyz(house: House, request: Request) -> Response:
    """Whether requests can be served, and each part with its reason."""
    parts = await house.readiness()
    ready = all(good for good, _ in parts.values())
    shown = {name: {"ready": good, "reason": reason} for name, (good, reason) in parts.items()}
    return _json({"ready": ready, "parts": shown}, 200 if ready else 503)


async def metrics(house: House, request: Request) -> Response:
    """What is counted, for Prometheus."""
    scrape = await house.scrape()
    text = await house.blocking(lambda: render(scrape))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def status(house: House, request: Request) -> Response:
    """What runs: revisions, workers, models, engines, shipping."""
    progress = house.shipper.progress()
    current = house.current()
    peers = sorted(house.bus.peers.items())
    return _json(
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
    return _json({"keys": await house.keys.list()})


async def create_key(house: House, request: Request) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    return _json(await house.keys.create(await _body(request, KeyAsk), actor=ACTOR), 201)


async def revoke_key(house: House, request: Request) -> Response:
    """Revoke a key; answers when every worker refuses it."""
    ask = await _body(request, RevokeAsk)
    return _json(await house.keys.revoke(request.path_params["reference"], actor=ACTOR, cut=ask.cut))


async def rotate_pepper(house: House, request: Request) -> Response:
    """Make a new pepper for the keys to come."""
    pepper, waiting = await house.keys.rotate_pepper(actor=ACTOR)
    return _json({"pepper_id": pepper, "waiting": waiting}, 201)


async def usage(house: House, request: Request) -> Response:
    """Requests, tokens and money from the ledger: `?since=`, `?until=` (Unix seconds), `?by=key,model,day`."""
    query = request.query_params
    try:
        since, until = (int(query[name]) if name in query else None for name in ("since", "until"))
    except ValueError:
        raise BadRequest("`since` and `until` are Unix seconds", param="since") from None
    by = tuple(part for part in query.get("by", "key,model").split(",") if part)
    zone = house.config.settings.time_zone
    rows = await house.blocking(lambda: ledger.usage(house.engine, since=since, until=until, by=by, zone=zone))
    progress = house.shipper.progress()
    return _json({"by": by, "usage": rows, "shipping_lag_bytes": progress.lag_bytes})


async def verify_journal(house: House, request: Request) -> Response:
    """Checksums and sequence of what is not shipped; one settlement for each intent."""
    return _json(await house.blocking(lambda: ledger.verify(house.engine, house.data / "journal")))


async def begin_backup(house: House, request: Request) -> Response:
    """Copy the data directory into a folder below it, for `beffroi backup create` to pack."""
    return _json(await house.backups.begin(actor=ACTOR), 202)


async def backup(house: House, request: Request) -> Response:
    """How far the copy is."""
    return _json(house.backups.state)


async def discard_backup(house: House, request: Request) -> Response:
    """Remove the copy."""
    await house.backups.discard()
    return _json(house.backups.state)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/livez", livez),
    ("GET", "/readyz", readyz),
    ("GET", "/metrics", metrics),
    ("GET", "/api/v1/status", status),
    ("GET", "/api/v1/keys", list_keys),
    ("POST", "/api/v1/keys", create_key),
    ("POST", "/api/v1/keys/{reference}/revoke", revoke_key),
    ("POST", "/api/v1/peppers", rotate_pepper),
    ("GET", "/api/v1/usage", usage),
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
