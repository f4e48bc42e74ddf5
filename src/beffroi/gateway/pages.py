# SPDX-License-Identifier: Apache-2.0
"""Paths of the API port, the pages that need no engine, and every exchange's last bytes.

In: method and target. Out: an endpoint, or a page. Default deny: what is not listed under OPEN needs a key.
"""

import math
from urllib.parse import unquote

import msgspec

from beffroi.core.errors import (
    BadRequest,
    BeffroiError,
    Draining,
    EngineError,
    EngineRejected,
    EngineTimeout,
    InternalError,
    JournalUnavailable,
    LimitExceeded,
    MethodNotAllowed,
    ModelNotFound,
    RouteNotFound,
)
from beffroi.core.exchange import ClientGone, Exchange
from beffroi.gateway import tally
from beffroi.gateway.authn.bearer import authenticate, require_endpoint
from beffroi.gateway.house import House, View
from beffroi.wire import http
from beffroi.wire.envelope import header_lines, openai_body, status_of
from beffroi.wire.openai import models as model_pages

METERED = {"/chat/completions": "chat", "/completions": "completions", "/embeddings": "embeddings"}
PAGES = ("/models",)
OPEN = ("/livez", "/readyz")
"""The paths that answer without a key; all others do not."""
_ENDPOINTS = {prefix + path: endpoint for path, endpoint in METERED.items() for prefix in ("", "/v1")}
_TARGETS = {path.encode(): path for path in _ENDPOINTS}


def target_path(target: bytes) -> str:
    """The path of a request target: query left out, absolute form understood (RFC 9112 §3.2.2)."""
    path = _TARGETS.get(target)
    if path is not None:
        return path
    path = target.partition(b"?")[0].decode("latin-1")
    if path[:7].lower() == "http://" or path[:8].lower() == "https://":
        path = "/" + path.split("//", 1)[1].partition("/")[2]
    return path


def is_metered(x: Exchange) -> bool:
    """True when the exchange goes through the seven rooms; sets its endpoint."""
    endpoint = _ENDPOINTS.get(x.path)
    if endpoint is None or x.method != "POST":
        return False
    x.endpoint = endpoint
    return True


async def show(x: Exchange, house: House) -> None:
    """A page: health, models, or the refusal that fits."""
    try:
        x.last = _page(x, house)
        x.status, x.outcome = 200, "complete"
    except BeffroiError as error:
        x.refusal = error
    except ClientGone:
        x.outcome = "client_gone"
    finally:
        finish(x, house)
        x.recorded(None)


def _page(x: Exchange, house: House) -> bytes:
    path = x.path
    if path in OPEN:
        _allow(x, "GET, HEAD")
        return _health(path, house)
    bare = path.removeprefix("/v1")
    allowed = "POST" if bare in METERED else "GET, HEAD" if bare in PAGES or bare.startswith("/models/") else ""
    if x.method == "OPTIONS" and allowed:
        raise MethodNotAllowed("Cross-origin calls from browsers are not served.", allow=allowed)
    authenticate(x, house)
    if not allowed:
        raise RouteNotFound("There is no such path; the API is under /v1.")
    _allow(x, allowed)
    key = x.key
    assert key is not None  # noqa: S101 - authenticate came first
    require_endpoint(key, "models")
    if bare == "/models":
        view: View = x.view
        return view.listing(key)
    name = unquote(bare.removeprefix("/models/"))
    model = x.view.models.get(name)
    if model is None or (key.models is not None and model.spec.id not in key.models):
        raise ModelNotFound(
            f"The model {name[:100]!r} does not exist; GET /v1/models lists those there are.", param="model"
        )
    return model_pages.single(model.spec)


def _allow(x: Exchange, allowed: str) -> None:
    if x.method not in allowed.split(", "):
        raise MethodNotAllowed(f"The method {x.method} is not served here; use {allowed}.", allow=allowed)


def _health(path: str, house: House) -> bytes:
    """`/livez`: this process turns. `/readyz`: it takes requests; 503 while it drains or its journal is unwell."""
    if path == "/readyz":
        if house.draining:
            raise Draining("This process is stopping.", retry_after=1)
        if not house.journal.healthy:
            raise JournalUnavailable("The journal cannot be written.", retry_after=5)
    return msgspec.json.encode(
        {"status": "ok", "config_revision": house.view.config.revision, "key_revision": house.keys.revision}
    )


def limit_lines(x: Exchange) -> bytes:
    """The rate-limit headers of a key whose requests are limited, as the reference service spells them."""
    ticket, error = x.ticket, x.refusal
    if ticket is not None and ticket.requests_limit is not None:
        limit, left, reset = ticket.requests_limit, ticket.requests_remaining, ticket.requests_reset
    elif isinstance(error, LimitExceeded) and error.requests is not None:
        limit, left, reset = error.requests
    else:
        return b""
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %d\r\n"
        % (limit, left, x.wall_ns // 1_000_000_000 + math.ceil(reset))
    )


def stream_lines(x: Exchange, house: House) -> bytes:
    """The headers of ours in the head of a stream."""
    return house.date + limit_lines(x)


_OUTCOMES: tuple[tuple[type[BeffroiError], str], ...] = (
    (EngineTimeout, "engine_timeout"),
    (EngineError, "engine_gone"),
    (EngineRejected, "engine_refused"),
    (JournalUnavailable, "journal_failed"),
)


def finish(x: Exchange, house: House) -> None:
    """Settle what the client gets last: the answer with its head, a refusal, or nothing where it has left."""
    x.ended = True
    house.active.discard(x)
    error = x.refusal
    if error is None and not x.outcome:
        error = x.refusal = InternalError("an exchange ended without outcome")
    if error is not None:
        x.status, x.code = status_of(error), error.code
        x.outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "refused")
        if isinstance(error, BadRequest) and error.closes:
            x.keep = False
    if x.outcome == "client_gone":
        x.status = x.status or 499
    elif not x.begun:
        if error is not None:
            body, extra = openai_body(error), header_lines(error)
        else:
            body, extra, x.status = x.last, b"", 200
        if x.key is not None and x.endpoint:
            extra += limit_lines(x)
        if not (x.keep and x.complete):
            x.keep = False
            extra += b"connection: close\r\n"
        x.bytes_out = len(body)
        if x.head_only:
            x.last = http.plain_head(x.status, http.JSON, len(body), x.id, house.date + extra)
        else:
            x.last = http.answer(x.status, http.JSON, x.id, house.date + extra, body)
    tally.note(x, house)
