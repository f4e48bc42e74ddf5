# SPDX-License-Identifier: Apache-2.0
"""The only renderer of errors: one error of the tree, in the shape of the API family that the client speaks.

In: a `BeffroiError`. Out: status, body and header lines, or one event for a stream that has begun.
The OpenAI family carries `error{message,type,param,code}` and a string `detail` (decision D11): old clients of the
reference service read only `detail`.
"""

import math

import msgspec

from beffroi.core.errors import (
    AuthenticationError,
    BeffroiError,
    EngineRejected,
    MethodNotAllowed,
)

# A limit per minute has room again after 60.5 s at most. OpenAI's libraries wait as long as they are told up to a minute,
# and half a second where they are told more.
LONGEST_HEEDED, NEARLY = 60, 61.0
HIDDEN = "Something went wrong on our side. The request id in x-request-id lets the operator find out what."
_encode = msgspec.json.Encoder().encode


class ErrorBody(msgspec.Struct):
    """The inner object of the OpenAI family."""

    message: str
    type: str
    param: str | None
    code: str | None


class Envelope(msgspec.Struct):
    """The whole body of the OpenAI family."""

    error: ErrorBody
    detail: str


def message_of(error: BeffroiError) -> str:
    """The text that may leave the house."""
    return error.message if error.exposable else HIDDEN


def status_of(error: BeffroiError) -> int:
    """The HTTP status; an engine's own 4xx is kept."""
    return error.engine_status if isinstance(error, EngineRejected) else error.status


def error_body(error: BeffroiError) -> ErrorBody:
    """`error{message,type,param,code}`; param and code are null where empty."""
    return ErrorBody(message_of(error), error.type, error.param, error.code)


def openai_body(error: BeffroiError) -> bytes:
    """The JSON body of an error for the OpenAI family."""
    return _encode(Envelope(error_body(error), message_of(error)))


def header_lines(error: BeffroiError) -> bytes:
    """Headers an error asks for: Retry-After in whole seconds, Allow, WWW-Authenticate."""
    lines = b""
    if error.retry_after is not None or error.retryable:
        wait = error.retry_after or 1
        lines += b"retry-after: %d\r\n" % (
            LONGEST_HEEDED if LONGEST_HEEDED < wait <= NEARLY else max(1, math.ceil(wait))
        )
    if isinstance(error, MethodNotAllowed):
        lines += b"allow: " + error.allow.encode() + b"\r\n"
    if isinstance(error, AuthenticationError):
        lines += b'www-authenticate: Bearer realm="beffroi"\r\n'
    return lines


def openai_event(
    error: BeffroiError, request_id: str, answer_id: str, created: int, model: str, *, chat: bool = True
) -> bytes:
    """The one event that ends a stream which cannot go on: `error{…}` and `finish_reason: "error"`; no `[DONE]` follows."""
    says: dict[str, object] = {"delta": {}} if chat else {"text": ""}
    chunk = {
        "id": answer_id,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, **says, "finish_reason": "error"}],
        "error": {**msgspec.to_builtins(error_body(error)), "request_id": request_id},
    }
    return b"data: " + _encode(chunk) + b"\n\n"
