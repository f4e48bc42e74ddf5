# SPDX-License-Identifier: Apache-2.0
"""What every streamed answer to a client must be, whatever the engine did.

In: a run of the rig that is over. Out: nothing, or the assertion that says which demand of the wire was broken.
"""

import json
import re
from typing import Any

from tests.client import Framing
from tests.gateway.rig import PUBLIC, Run
from tests.gateway.upstream.events import Dialect


def pieces(run: Run) -> list[bytes]:
    """The chunks of the HTTP body; each must hold whole events, and each write whole chunks."""
    framing = Framing()
    for number, write in enumerate(run.transport.writes):
        framing.feed(write)
        assert not framing.buffer, f"write {number} ends within a chunk"
    assert framing.done, "the answer has no end"
    assert framing.answer is not None
    assert framing.answer.status == 200
    for piece in framing.answer.pieces:
        assert piece.endswith(b"\n\n"), f"an event is cut: {piece[-80:]!r}"
        assert b"\r" not in piece
        for line in piece.split(b"\n"):
            assert not line or line.startswith((b"data: ", b": ")), f"not `data: `: {line[:60]!r}"
    return framing.answer.pieces


def chunks(run: Run) -> list[dict[str, Any]]:
    """The events but for `[DONE]`, decoded strictly."""
    data = [event[6:] for piece in pieces(run) for event in piece.split(b"\n\n") if event.startswith(b"data: ")]
    assert b"[DONE]" not in data[:-1], "[DONE] before the end"
    return [json.loads(each.decode()) for each in data if each != b"[DONE]"]


def text_of(found: list[dict[str, Any]], field: str = "content", index: int = 0) -> str:
    """The text of one choice."""
    said = [choice for chunk in found for choice in chunk["choices"] if choice["index"] == index]
    if any("text" in choice for choice in said):
        field = "text" if field == "content" else field
        return "".join(choice.get(field) or "" for choice in said)
    return "".join(choice["delta"].get(field) or "" for choice in said)


def calls_of(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each tool call of the first choice, put together as clients do it: by index."""
    out: dict[int, list[str]] = {}
    for chunk in found:
        for choice in chunk["choices"]:
            for call in choice.get("delta", {}).get("tool_calls") or []:
                assert type(call["index"]) is int
                if call["index"] not in out:
                    assert call["id"] and call["type"] == "function", call
                    out[call["index"]] = [call["id"], call["function"]["name"], ""]
                out[call["index"]][2] += call["function"].get("arguments") or ""
    return [(each[0], each[1], each[2]) for _, each in sorted(out.items())]


def whole(run: Run, told: Dialect, *, asked: bool) -> None:
    """A complete answer of one choice."""
    assert run.over
    found = chunks(run)
    chat = "/chat/" in told.path
    assert run.sent.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), run.sent[-120:]
    request_id = re.search(rb"x-request-id: req_(\w+)", run.sent)
    assert request_id
    assert {c["id"] for c in found} == {("chatcmpl-" if chat else "cmpl-") + request_id[1].decode()}
    assert {c["model"] for c in found} == {PUBLIC}
    assert {c["object"] for c in found} == {"chat.completion.chunk" if chat else "text_completion"}
    assert len({c["created"] for c in found}) == 1
    with_choices = [c for c in found if c["choices"]]
    assert len(found) - len(with_choices) == asked, "a chunk without choices only where usage was asked for"
    if chat:
        roles = [n for n, c in enumerate(with_choices) if c["choices"][0]["delta"].get("role")]
        assert roles == [0], "the role first, and once"
    finishes = [n for n, c in enumerate(with_choices) if c["choices"][0]["finish_reason"] is not None]
    assert finishes == [len(with_choices) - 1], "one reason to end, on the last chunk"
    last = with_choices[-1]["choices"][0]
    assert last["finish_reason"] == told.finish
    assert not any((last["delta"] if chat else {"text": last["text"]}).values()), "the last chunk carries nothing else"
    assert text_of(found) == told.text
    assert (text_of(found, "reasoning_content") or text_of(found, "reasoning")) == told.reasoning
    assert calls_of(found) == told.calls
    counted = [n for n, c in enumerate(found) if c.get("usage")]
    assert counted == [len(found) - 1], "usage once, on the last chunk"
    usage, backend = found[-1]["usage"], found[-1]["backend"]
    made, cached, output, reasoning = told.tokens
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (made + cached, output + reasoning)
    assert usage["total_tokens"] == made + cached + output + reasoning
    assert usage["reasoning_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"] == reasoning
    assert usage["prompt_tokens_details"]["cached_tokens"] == cached
    assert backend == {"engine_type": told.kind, "machine_name": "machine-e0"}
    record = run.settlement
    assert (record.tokens.input, record.tokens.cached, record.tokens.output, record.tokens.reasoning) == told.tokens
    assert (record.outcome, record.source, record.finish_reason, record.status) == (
        "complete",
        "engine",
        told.finish,
        200,
    )


def cut(run: Run, expected: str) -> dict[str, Any]:
    """An answer that the engine broke off: its text so far, then one event that says so, and no `[DONE]`; → its error."""
    assert run.over
    found = chunks(run)
    assert b"[DONE]" not in run.sent
    assert text_of(found) == expected
    *before, last = found
    assert not any("error" in c for c in before)
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["id"] == found[0]["id"] and last["model"] == PUBLIC
    error: dict[str, Any] = last["error"]
    assert error["message"] and error["code"] and error["type"] and error["request_id"] == run.settlement.request_id
    return error
