# SPDX-License-Identifier: Apache-2.0
"""What every page of control does: read a bounded body, give JSON that nobody caches.

In: requests and plain data. Out: structs, responses.
"""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from beffroi.core.errors import BadRequest, BodyTooLarge

MAX_BODY = 64 << 10
_DIGITS = 18  # of a number in a query; Python refuses to read one of thousands
T = TypeVar("T")


def json(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(
        msgspec.json.encode(content), status, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def body(request: Request, kind: type[T]) -> T:
    """The body of a request as the struct that its page takes.

    Raises:
        BodyTooLarge, BadRequest: it is not.
    """
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY:
            raise BodyTooLarge(f"the body is over {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(bytes(taken) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what this page takes: {error}") from None


def whole(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query.

    Raises:
        BadRequest: it is none, or out of bounds.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not 0 <= int(text) <= most:
        raise BadRequest(f"`{name}` is a whole number, {most} at most", param=name)
    return int(text)
