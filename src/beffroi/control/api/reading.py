# SPDX-License-Identifier: Apache-2.0
"""What a call says, within bounds of size, depth and time: body, query, conditions.

In: a request, and the structs that its operation declares. Out: those structs, or a refusal that names what is wrong.
"""

import asyncio
import re
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from beffroi.core.errors import BadRequest, BodyTooLarge, ClientTimeout

BODY_SECONDS = 10.0  # that a body may take to arrive
MAX_DEPTH = 32  # of objects and lists in one another
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_ETAG = re.compile(r'(?:W/)?"?(\d{1,18})"?')
_PLACE = re.compile(r"`\$\.?([^`]*)`")
T = TypeVar("T")


def body(content: bytes, kind: type[T]) -> T:
    """A body as the struct that its operation takes.

    Raises:
        BadRequest: it is not.
    """
    _require_flat(content)
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what this page takes: {error}", param=_param(error)) from None


async def content(request: Request, most: int) -> bytes:
    """The bytes of a body.

    Raises:
        BodyTooLarge, ClientTimeout, BadRequest: it has too many, or takes too long, or does not end.
    """
    taken = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                taken += chunk
                if len(taken) > most:
                    raise BodyTooLarge(f"the body is over {most} bytes")
    except TimeoutError:
        raise ClientTimeout(f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise BadRequest("the body ended before its end") from None
    return bytes(taken)


def _require_flat(content: bytes) -> None:
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", content)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BadRequest(f"the body is nested over {MAX_DEPTH} deep")


def query(
    request: Request, kind: type[msgspec.Struct] | None, also: frozenset[str]
) -> tuple[msgspec.Struct | None, dict[str, str]]:
    """The query as the struct that its operation takes, and those of its names that are in `also`.

    Raises:
        BadRequest: a name that is none of them, or stands twice; a value that does not fit.
    """
    own = frozenset(() if kind is None else (field.encode_name for field in msgspec.structs.fields(kind)))
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in own and name not in also:
            there = ", ".join(f"`{each}`" for each in sorted(own | also)) or "none"
            raise BadRequest(f"the query has no `{name[:40]}`; it may have {there}", param=name[:40])
        if name in given:
            raise BadRequest(f"`{name}` stands twice in the query", param=name)
        given[name] = value
    rest = {name: value for name, value in given.items() if name in also and name not in own}
    if kind is None:
        return None, rest
    try:
        return msgspec.convert({name: given[name] for name in given if name in own}, kind, strict=False), rest
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query is not what this page takes: {error}", param=_param(error)) from None


def whole(given: dict[str, str], name: str, default: int, most: int) -> int:
    """A whole number of the query, from 1 to `most`.

    Raises:
        BadRequest: it is none.
    """
    text = given.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise BadRequest(f"`{name}` is a whole number from 1 to {most}", param=name)
    return int(text)


def if_match(request: Request) -> int | None:
    """The revision of `If-Match`; None where there is no condition (`*`: whatever there is).

    Raises:
        BadRequest: it is no ETag that was ever given.
    """
    text = request.headers.get("if-match")
    if text is None or text.strip() == "*":
        return None
    found = _ETAG.fullmatch(text.strip())
    if found is None:
        raise BadRequest('If-Match takes the ETag of an answer: one number in quotes, as "3"', param="If-Match")
    return int(found[1])


def _param(error: Exception) -> str | None:
    found = _PLACE.search(str(error))
    return found[1] or None if found else None
