# SPDX-License-Identifier: Apache-2.0
"""Puts an answer on the wire, as it should be or as a fault says.

In: a connection, a plan and a fault. Out: bytes, paced; the log entry's `made` grows with each token handed to the
socket, and its `state` says how it ended.
"""

import json
from typing import Any

from tests.engines.answers import Plan, chunks, usage_chunk, whole
from tests.engines.faults import Fault
from tests.engines.ledger import Entry
from tests.engines.wire import Connection

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
LONG_LINE = 10 << 20


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def head(status: int, kind: str, fault: Fault, length: int | None = None, *, chunked: bool = False) -> bytes:
    """An answer's head, padded as the fault wants it."""
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
        "server: scripted",
        f"content-type: {fault.content_type or kind}",
    ]
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif length is not None:
        lines.append(f"content-length: {length + (1000 if fault.bad_length else 0)}")
    if not fault.keep_alive or (not chunked and length is None):
        lines.append("connection: close")
    lines += ["set-cookie: engine=secret", "x-engine-internal: secret"]
    lines += ["x-pad: " + "p" * fault.head_bytes] if fault.head_bytes else []
    lines += [f"x-pad-{i}: p" for i in range(fault.head_count)]
    return "\r\n".join([*lines, "", ""]).encode()


async def plain(connection: Connection, status: int, body: bytes, fault: Fault, kind: str = "application/json") -> None:
    """One answer with a content-length."""
    await connection.send(head(status, kind, fault, len(body)) + body)
    if not fault.keep_alive or fault.bad_length:
        await connection.close(reset=fault.rst)


async def refuse(connection: Connection, fault: Fault) -> None:
    """The error answer that a fault asks for."""
    if fault.bare_error:
        await plain(connection, fault.status, fault.message.encode(), fault, "text/plain")
        return
    code: Any = fault.status if fault.code_number else "told_to_fail"
    error = {
        "error": {
            "message": fault.message,
            "type": "server_error" if fault.status >= 500 else "invalid_request_error",
            "param": None,
            "code": code,
        }
    }
    await plain(connection, fault.status, _json(error), fault)


def _spoil(chunk: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """Tool calls as some engines give them."""
    if not (fault.tool_object or fault.tool_bare):
        return chunk
    chunk = json.loads(json.dumps(chunk))
    for choice in chunk["choices"]:
        for call in (choice.get("message") or choice.get("delta") or {}).get("tool_calls") or []:
            if fault.tool_bare:
                for name in ("id", "index", "type"):
                    call.pop(name, None)
            if fault.tool_object:
                call["function"]["arguments"] = (
                    json.loads(call["function"].get("arguments") or "{}") if "message" in choice else {}
                )
    return chunk


async def answer(connection: Connection, plan: Plan, fault: Fault, entry: Entry) -> None:
    """A plain answer to a generation request."""
    body = _spoil(whole(plan), fault)
    if fault.has("usage_missing"):
        del body["usage"]
    if fault.has("usage_zero"):
        body["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if fault.body_bytes:
        body["padding"] = "p" * fault.body_bytes
    data = b"{not json" if fault.has("not_json") else _json(body)
    entry.made = plan.usage.completion
    if fault.cut_after >= 0:
        await connection.send(head(200, "application/json", fault, len(data)) + data[: len(data) // 2])
        entry.state = "cut"
        await connection.close(reset=fault.rst)
        return
    if fault.framing == "close":
        await connection.send(head(200, "application/json", fault) + data)
        await connection.close()
    else:
        await plain(connection, 200, data, fault)
    entry.state = (
        "aborted" if connection.gone.is_set() and fault.keep_alive and fault.framing != "close" else "completed"
    )


ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
HALF = '{"id":"half","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"é'.encode()[:-1]
HALF += b'"},"finish_reason":null}]}'
Event = tuple[bytes, int]


def _with_usage(made: list[tuple[Any, int]], plan: Plan, usage: Any, fault: Fault) -> list[tuple[Any, int]]:
    """Chunks that carry usage themselves, as some engines send it."""
    out, so_far = [], 0
    for place, (chunk, tokens) in enumerate(made):
        so_far += tokens
        extra = {}
        if fault.has("null_usage"):
            extra["usage"] = None
        if fault.has("running_usage"):
            counts = {"prompt_tokens": plan.usage.prompt, "completion_tokens": so_far}
            extra["usage"] = counts | {"total_tokens": plan.usage.prompt + so_far}
        if fault.has("usage_in_last") and place == len(made) - 1:
            extra["usage"] = usage
        out.append((chunk | extra, tokens))
    return out


def _one_more(plan: Plan, content: str) -> Any:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": plan.id, "object": "chat.completion.chunk", "model": plan.model, "choices": [choice]}


def _strange(plan: Plan, fault: Fault, space: bytes) -> list[Event]:
    """Events that do not belong in a stream, for its third place."""
    out: list[Event] = []
    if fault.has("half_utf8"):
        out.append((space + HALF + b"\n\n", 0))
    if fault.has("long_line"):
        out.append((space + _json(_one_more(plan, "l" * LONG_LINE)) + b"\n\n", 1))
    if fault.has("not_json"):
        out.append((space + b"{not json\n\n", 0))
    if fault.has("not_sse"):
        out.append((b"<html>this is no event</html>\n\n", 0))
    return out


def _events(plan: Plan, fault: Fault, include_usage: bool) -> list[Event]:
    """The stream as SSE events, with the tokens that each carries."""
    space = b"data:" if fault.has("no_space") else b"data: "
    usage = usage_chunk(plan)
    if fault.has("usage_zero"):
        usage["usage"] = ZERO
    out: list[Event] = []
    made = [(_spoil(chunk, fault), tokens) for chunk, tokens in chunks(plan)]
    for place, (chunk, tokens) in enumerate(_with_usage(made, plan, usage["usage"], fault)):
        lines = space + _json(chunk) + b"\n\n"
        if fault.has("comments"):
            out.append((b": a comment\n\n", 0))
            lines = b"event: message\nid: %d\n" % place + lines
        out.append((lines, tokens))
    out[2:2] = _strange(plan, fault, space)
    last: list[Any] = [_one_more(plan, " late")] if fault.has("after_finish") else []
    if include_usage and not (fault.has("usage_missing") or fault.has("usage_in_last")):
        if fault.has("usage_twice"):
            last.append(usage | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
        last.append(usage)
    out += [(space + _json(chunk) + b"\n\n", 0) for chunk in last]
    if not fault.has("no_done"):
        out.append((space + b"[DONE]\n\n", 0))
    if fault.has("crlf"):
        out = [(event.replace(b"\n", b"\r\n"), tokens) for event, tokens in out]
    return out


def _writes(event: bytes, fault: Fault) -> list[bytes]:
    if fault.has("byte_by_byte"):
        return [event[i : i + 1] for i in range(len(event))]
    if fault.has("two_writes"):
        return [event[: len(event) // 2], event[len(event) // 2 :]]
    return [event]


async def stream(connection: Connection, plan: Plan, fault: Fault, entry: Entry, *, include_usage: bool) -> None:
    """A streamed answer."""
    events = _events(plan, fault, include_usage)
    if fault.has("many_in_one"):
        events = [(b"".join(event for event, _ in events), sum(tokens for _, tokens in events))]
    chunked = fault.framing == "chunked"
    length = sum(len(event) for event, _ in events) if fault.framing == "length" else None
    pending = head(200, "text/event-stream; charset=utf-8", fault, length, chunked=chunked)
    for event, tokens in events:
        if 0 <= fault.stall_after <= entry.made and tokens:
            await connection.send(pending)
            await connection.gone.wait()
        if 0 <= fault.cut_after <= entry.made and tokens:
            await connection.send(pending)
            entry.state = "cut"
            await connection.close(reset=fault.rst)
            return
        if connection.gone.is_set():
            entry.state = "aborted"
            return
        pieces = _writes(event, fault)
        entry.made += tokens
        for piece in pieces:
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
            await connection.send(pending + framed)
            pending = b""
            if len(pieces) > 1:
                await connection.pause(0.0005 if len(pieces) == 2 else 0.00001)
        if tokens and fault.gap:
            await connection.pause(fault.gap)
    if connection.gone.is_set():
        entry.state = "aborted"
        return
    entry.state = "completed"
    if chunked:
        await connection.send(b"0\r\n\r\n")
    if not fault.keep_alive or fault.framing == "close" or fault.bad_length:
        await connection.close(reset=fault.rst)
