# SPDX-License-Identifier: Apache-2.0
"""The request read whole: body bounded, structure checked, policed fields parsed, the model found.

In: an exchange whose key is known. Out: `x.request`, `x.model`, `x.endpoint`; or the `BadRequest` that says what to mend.
Work on large bodies is cut in slices with a turn of the loop between, so that nobody else waits.
"""

import asyncio
from collections.abc import Generator
from typing import Protocol, TypeVar, cast

import msgspec

from beffroi.core.errors import BadRequest, BodyTooLarge, ModelNotAllowed, ModelNotFound, UnsupportedMedia
from beffroi.core.exchange import BODY, PAUSE, Exchange, breathe
from beffroi.gateway.authn.bearer import require_endpoint
from beffroi.wire import http
from beffroi.wire.openai import structure
from beffroi.wire.openai.request import glance, parse, refuse

T = TypeVar("T")
LARGE = 4 << 20  # to read so many bytes takes milliseconds: others may have a turn between two readings


class Reading(Protocol):
    """What reading needs of the house."""

    loop: asyncio.AbstractEventLoop


async def read(x: Exchange, house: Reading) -> None:
    """Wait for the body and read it.

    Raises:
        BadRequest: the subclass says in which way.
        ModelNotAllowed: the key may not use the model.
    """
    settings = x.view.settings
    if x.content_type != b"application/json" or x.content_encoding:
        _check_media(x)
    if x.content_length is not None and x.content_length > settings.max_body:
        raise BodyTooLarge(f"The body may have at most {settings.max_body:,} bytes.")
    if not x.complete:
        if x.expect and not x.http10:
            x.client.write(http.CONTINUE)
        x.awaiting = BODY
        await PAUSE
    parts, x.parts = x.parts, []
    body = parts[0] if len(parts) == 1 else b"".join(parts) if x.size < structure.SLICE else None
    request = glance(x.endpoint, body, settings.max_json_depth, settings.max_json_tokens) if body is not None else None
    if request is not None and body is not None:
        x.body, x.request = body, request
    else:
        await _read_in_turns(x, house, parts, body)
    _find_model(x)


async def _read_in_turns(x: Exchange, house: Reading, parts: list[bytes], body: bytes | None) -> None:
    """What is not plain, or large: checked and read in slices."""
    settings = x.view.settings
    if body is None or not (
        structure.is_small(body, settings.max_json_depth, settings.max_json_tokens) and body.isascii()
    ):
        parts = parts if body is None else [body]
        body = await _in_turns(x, house, structure.whole(parts, settings.max_json_depth, settings.max_json_tokens))
    x.body = body
    try:
        fields = structure.top_level(body)
    except msgspec.MsgspecError as why:
        refuse(why)
    if len(body) > LARGE:
        await breathe(x, house.loop)
    structure.check_case(fields)
    if not structure.is_single(body, fields):
        await _in_turns(x, house, structure.check_keys(body, fields))
    request = x.request = parse(x.endpoint, body, fields)
    x.endpoint = request.endpoint
    if len(body) > LARGE:
        await breathe(x, house.loop)


def _find_model(x: Exchange) -> None:
    request = x.request
    model = x.model = x.view.models.get(request.model)
    if model is None:
        raise ModelNotFound(
            f"The model {request.model[:100]!r} does not exist; GET /v1/models lists those there are.", param="model"
        )
    key = x.key
    if key is not None and key.endpoints is not None:
        require_endpoint(key, x.endpoint)  # once more: a body may have made it another than its path said
    if key is not None and key.models is not None and model.spec.id not in key.models:
        raise ModelNotAllowed(
            f"This key may not use the model {model.spec.id!r}; ask for it, or use one that GET /v1/models lists.",
            param="model",
        )
    if request.endpoint not in model.spec.endpoints:
        raise BadRequest(f"The model {model.spec.id!r} does not serve {request.endpoint}.", param="model")


def _check_media(x: Exchange) -> None:
    if x.content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMedia("Send the body as JSON, with the header 'Content-Type: application/json'.")
    if x.content_encoding and x.content_encoding.strip().lower() != b"identity":
        raise UnsupportedMedia("Send the body without Content-Encoding; compressed bodies are not taken.")


async def _in_turns(x: Exchange, house: Reading, work: Generator[None, None, T]) -> T:
    try:
        while True:
            next(work)
            await breathe(x, house.loop)
    except StopIteration as end:
        return cast("T", end.value)
