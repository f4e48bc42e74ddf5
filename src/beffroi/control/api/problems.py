# SPDX-License-Identifier: Apache-2.0
"""Refusals and faults as problem details (RFC 9457): `code` is stable, `detail` is for the person who reads it.

In: errors. Out: responses. What is not exposable goes into the log alone.
"""

import math
from http import HTTPStatus
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from beffroi.core.errors import AuthenticationError, BeffroiError, InternalError
from beffroi.store.server import is_of_server
from beffroi.store.vault import VaultError
from beffroi.telemetry import logs

log = logs.Logger("control.api")
UNKEPT = "a value has a character (such as NUL) or a size that cannot be kept"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal (RFC 9457). `code` is stable; `detail` says what to do; `param` names what is at fault."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    param: str | msgspec.UnsetType = msgspec.UNSET


def problem(
    status: int, code: str, detail: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem details object."""
    title = HTTPStatus(status).phrase
    said = Problem(
        f"urn:beffroi:problem:{code}", title, status, detail, code, msgspec.UNSET if param is None else param
    )
    return Response(
        msgspec.json.encode(said),
        status,
        media_type="application/problem+json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def when(error: BeffroiError) -> dict[str, str]:
    """The header that says when to ask again, where the error knows it."""
    return {} if error.retry_after is None else {"retry-after": str(max(1, math.ceil(error.retry_after)))}


async def refused(request: Request, error: BeffroiError) -> Response:
    """An error of the tree."""
    if not error.exposable:
        return await failed(request, error)
    headers = when(error)
    if isinstance(error, AuthenticationError):
        headers["www-authenticate"] = "Bearer"
    if error.closes:
        headers["connection"] = "close"
    code = error.code or HTTPStatus(error.status).name.lower()
    return problem(error.status, code, error.message, param=error.param, headers=headers)


async def not_found(request: Request, error: HTTPException) -> Response:
    """No such page, or not with this method."""
    code = HTTPStatus(error.status_code).name.lower()
    detail = {
        404: f"there is no page {request.url.path} here",
        405: f"{request.url.path} does not take {request.method}",
    }
    return problem(
        error.status_code, code, detail.get(error.status_code, error.detail), headers=dict(error.headers or {})
    )


async def not_stored(request: Request, error: Exception) -> Response:
    """The disk or the database is not as it should be."""
    log.error("the data directory does not take or give what a page needs", path=request.url.path, exc_info=error)
    detail = "the data directory cannot be read or written now (is its disk full?); what was asked can be asked again"
    return problem(503, "storage_unavailable", detail, headers={"retry-after": "1"})


async def not_answered(request: Request, error: Exception) -> Response:
    """The database of a fleet is away, or the ledger on this machine cannot be read or written."""
    if not (isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and is_of_server(error))):
        return await not_stored(request, error)
    log.error("the database does not answer", path=request.url.path, reason=type(error).__name__)
    detail = (
        "the database does not answer now, so nothing can be read or changed; models are served meanwhile, and /readyz of "
        "the control port says how it stands. What was asked can be asked again"
    )
    return problem(503, "database_unavailable", detail, headers={"retry-after": "5"})


async def closed(request: Request, error: VaultError) -> Response:
    """What was sealed does not open."""
    log.error("the vault does not open what a page needs", path=request.url.path, reason=str(error))
    return problem(503, "vault_closed", "a secret that this needs cannot be opened now; the log says why")


async def failed(request: Request, error: Exception) -> Response:
    """A fault of ours."""
    log.error("a page failed", path=request.url.path, exc_info=error)
    return problem(500, InternalError.code or "", "something went wrong inside; the log says what")


HANDLERS: dict[Any, Any] = {
    BeffroiError: refused,
    HTTPException: not_found,
    SQLAlchemyError: not_answered,
    OSError: not_stored,
    VaultError: closed,
    Exception: failed,
}
