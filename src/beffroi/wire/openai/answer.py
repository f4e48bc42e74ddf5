# SPDX-License-Identifier: Apache-2.0
"""Answers of the OpenAI family: what is read from an engine's answer and what is written into it.

In: an engine's JSON, treated as hostile. Out: token counts, and the answer with our id, the public model name,
`usage` (with `reasoning_tokens` at its top, as the reference service has it) and `backend`.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from beffroi.core.price import Tokens

_encode = msgspec.json.Encoder().encode
_choices = msgspec.json.Decoder(list[Any]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what hostile JSON raises, one way or another
_INSIDE = re.compile(
    r"Traceback|File \"|site-packages|\.py\b|\.cpp\b|exception|/usr/|/home/|0x[0-9a-f]{6}", re.IGNORECASE
)
MAX_COUNT = 1 << 40


class Usage(msgspec.Struct, gc=False):
    """Counts of one answer, as bills need them and as clients see them.

    Attributes:
        tokens: the billing classes.
        shown: the `usage` object for the client; it always adds up.
    """

    tokens: Tokens
    shown: dict[str, Any]


def _count(given: Any, name: str) -> int:
    value = given.get(name) if given.__class__ is dict else None
    return value if value.__class__ is int and 0 <= value <= MAX_COUNT else 0


def read_usage(given: Any) -> Usage | None:
    """Usage from an engine's usage object, which is changed in place; None where it is none. Zero counts are counts."""
    if given.__class__ is not dict or not ("prompt_tokens" in given or "completion_tokens" in given):
        return None
    prompt, completion = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    inside, made = given.get("prompt_tokens_details"), given.get("completion_tokens_details")
    cached = min(prompt, _count(inside, "cached_tokens"))
    reasoning = min(completion, _count(made, "reasoning_tokens") or _count(given, "reasoning_tokens"))
    given["prompt_tokens"] = prompt
    given["completion_tokens"] = completion
    given["total_tokens"] = prompt + completion
    given["reasoning_tokens"] = reasoning
    given["prompt_tokens_details"] = (
        {**inside, "cached_tokens": cached} if inside.__class__ is dict else {"cached_tokens": cached}
    )
    given["completion_tokens_details"] = (
        {**made, "reasoning_tokens": reasoning} if made.__class__ is dict else {"reasoning_tokens": reasoning}
    )
    return Usage(Tokens(prompt - cached, cached, completion - reasoning, reasoning), given)


def read_raw_usage(raw: Raw) -> Usage | None:
    """As `read_usage`, of a field that is still JSON; None too where it holds what no JSON reader takes (`1e999`)."""
    try:
        return read_usage(msgspec.json.decode(raw))
    except _FAULTS:
        return None


def counted_usage(prompt: int, completion: int, cached: int = 0) -> Usage:
    """Usage for an answer whose engine sent none: counted by us."""
    shown = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "reasoning_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    return Usage(Tokens(prompt - cached, cached, completion, 0), shown)


def read_answer(body: bytes) -> dict[str, Raw] | None:
    """Top-level fields of a plain answer; None where it is not a JSON object in UTF-8."""
    try:
        if not body.isascii():
            str(body, "utf-8")  # the fields are not decoded: nobody else would see it
        return _fields(body)
    except _FAULTS:
        return None


def write_answer(fields: dict[str, Raw], changes: dict[str, Any]) -> bytes:
    """The answer with some top-level fields set, the others byte for byte."""
    return _encode({**fields, **changes})


def mend_calls(message: dict[str, Any], prefix: str, *, streamed: bool) -> None:
    """Give tool calls what clients cannot do without: index (streams), id and type (first piece), arguments as text."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return
    for number, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        function = call.get("function")
        first = not streamed or bool(isinstance(function, dict) and function.get("name"))
        if streamed and type(call.get("index")) is not int:
            call["index"] = number
        if first and (type(call.get("id")) is not str or not call["id"]):
            call["id"] = f"call_{prefix[-24:]}{number if not streamed else call['index']}"
        if first and (type(call.get("type")) is not str or not call["type"]):
            call["type"] = "function"
        if (
            isinstance(function, dict)
            and function.get("arguments") is not None
            and not isinstance(function["arguments"], str)
        ):
            function["arguments"] = _encode(function["arguments"]).decode()


def mend_choices(raw: Raw, prefix: str) -> list[Any]:
    """The choices of a plain answer with sound tool calls, indexes and finish reasons.

    Raises:
        msgspec.MsgspecError: they are no list, or not to be read.
    """
    try:
        choices = _choices(raw)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    for number, choice in enumerate(choices):
        if isinstance(choice, dict):
            choice.setdefault("index", number)
            choice.setdefault("finish_reason", "stop")
            message = choice.get("message")
            if isinstance(message, dict):
                message.setdefault("role", "assistant")
                mend_calls(message, prefix, streamed=False)
    return choices


def count_by_logprobs(choices: list[Any], *, keep: bool) -> int | None:
    """How many tokens all choices of an answer list in their logprobs, which go unless `keep`; None: not all list them."""
    total: int | None = 0
    for choice in choices:
        logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
        listed = logprobs.get("content") if isinstance(logprobs, dict) else None
        total = None if total is None or not isinstance(listed, list) else total + len(listed)
        if not keep and logprobs is not None:
            choice["logprobs"] = None
    return total


class _Outcome(msgspec.Struct, gc=False):
    finish_reason: str | None = None


_outcomes = msgspec.json.Decoder(list[_Outcome]).decode


def finish_of(raw: Raw | None) -> str | None:
    """The first finish_reason of a plain answer's choices."""
    try:
        found = _outcomes(raw) if raw is not None else []
    except _FAULTS:
        return None
    return found[0].finish_reason if found else None


class _FaultBody(msgspec.Struct, gc=False):
    error: Any = None
    message: Any = None
    detail: Any = None


_fault = msgspec.json.Decoder(_FaultBody).decode


def fault_of(body: bytes) -> tuple[str, str | None]:
    """(message, param) of an engine's error answer, for the client; text that shows an engine's inside is withheld."""
    try:
        found = _fault(body)
    except _FAULTS:
        found = _FaultBody()
    inner = found.error if isinstance(found.error, dict) else {"message": found.error}
    texts = (inner.get("message"), found.message, found.detail)
    message = next((text for text in texts if isinstance(text, str) and text), None)
    param = inner.get("param")
    param = param[:200] if isinstance(param, str) else None
    if not message or _INSIDE.search(message):
        return "The engine refused the request; check its fields against what the model supports.", param
    return message[:1000], param
