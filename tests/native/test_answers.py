# SPDX-License-Identifier: Apache-2.0
"""Engines' answers, plain and streamed, with the kernel and without: the client sees the same bytes, the bill is the same."""

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import asdict

from beffroi.core.kernel import Kernel
from tests.client import Framing
from tests.gateway.rig import LAST, PUBLIC, UPSTREAM, Rig, Run, chunk, head, plain, stream
from tests.gateway.upstream.dialects import ALL
from tests.native.conftest import CASES, Without

USAGES = (
    {"prompt_tokens": 11, "total_tokens": 17, "completion_tokens": 6},
    {"completion_tokens": 6, "prompt_tokens": 11, "total_tokens": 0, "prompt_tokens_details": None},
    {"prompt_tokens": 11, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 40}},
    {"prompt_tokens": 11, "completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 4}, "reasoning_tokens": 2},
    {"prompt_tokens": 0, "completion_tokens": 6, "reasoning_tokens": 9, "completion_tokens_details": None},
    {"prompt_tokens": 11},
    {"completion_tokens": 1 << 40},
    {"completion_tokens": 1 << 41},
    {"prompt_tokens": -1, "completion_tokens": 2.0},
    {"prompt_tokens": "11", "completion_tokens": True},
    {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0}, "cost": 0.1},
    {"total_tokens": 5},
    {},
    None,
    7,
)  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "bell"}}]
COMPLETION = {"model": PUBLIC, "prompt": "hello", "stream": True}
ASKED: tuple[dict[str, Any], ...] = ({}, {"usage": True}, {"tools": TOOLS}, {"version": "1.0"}, {"n": 2})
ID = "req_" + "0" * 31 + "7"
KEEP = "connection: keep-alive\r\n"


class Ids:
    """One id for all, so that two runs can be compared."""

    def next(self, _: int) -> str:
        return ID


CHOICE = {"index": 0, "logprobs": None, "finish_reason": "stop"}


def body(**more: Any) -> dict[str, Any]:
    """A sound answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Ding ☃"},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {"id": "chatcmpl-7", "object": "chat.completion", "created": 5, "model": UPSTREAM, "choices": [choice], "usage": USAGES[0]} | more  # fmt: skip


def settled(run: Run) -> dict[str, Any]:
    return asdict(run.settlement)


def ask(kind: str, **more: Any) -> Run:
    rig = Rig(kind)
    ids: Any = Ids()
    rig.house.ids, rig.house.date = ids, b"date: then\r\n"
    return rig.ask(**more)


def outcome(kind: str, pieces: list[bytes], *, close: bool = False, **more: Any) -> Any:
    """All that can be seen of one exchange: the client's bytes, the settlement, what becomes of the engine's connection."""
    run = ask(kind, **more)
    for piece in pieces:
        if run.waits:
            run.feed(piece)
    if close and run.waits:
        run.close()
    if not run.over:
        return SimpleNamespace(sent=run.sent, engines=len(run.requests))
    wires: list[Any] = [connection.transport for connection in run.rig.dialled]
    return SimpleNamespace(
        sent=run.sent,
        settled=settled(run),
        idle=[len(endpoint.idle) for endpoint in run.rig.house.endpoints.values()],
        aborted=[wire.aborted for wire in wires],
    )


def compare(without: Without, kind: str, pieces: list[bytes], *, spelling: bool = True, **more: Any) -> Any:
    """The same with the kernel and without; `spelling`: byte for byte, or else as JSON."""
    found = outcome(kind, pieces, **more)
    with without():
        other = outcome(kind, pieces, **more)
    if not spelling:
        read(found), read(other)
    assert other == found, pieces
    return found


def said(event: bytes) -> Any:
    """An event as JSON, if it is."""
    try:
        return json.loads(event[6:])
    except ValueError:
        return event


def read(seen: Any) -> None:
    """Of an irregular block the twin writes every event anew, the kernel only those from the irregular one on."""
    framing = Framing()
    if not framing.feed(seen.sent) or framing.answer is None or framing.answer.status != 200:
        return
    seen.sent = [said(event) for event in framing.answer.body.split(b"\n\n")]
    for event in seen.sent:
        if isinstance(event, dict) and "backend" not in event:
            event.pop(
                "usage", None
            )  # of each event, and a role without a name: some engines send them, and they do no harm
            for choice in event.get("choices", ()):
                if isinstance(choice.get("delta"), dict) and not choice["delta"].get("role", 0):
                    choice["delta"].pop("role", None)
    if isinstance(getattr(seen, "settled", None), dict):
        del seen.settled["bytes_out"]


@pytest.mark.parametrize("name", ALL)
def test_streams_of_all_engines_are_the_same(without: Without, name: str) -> None:
    """In one read, in one read per event, in halves, for clients of every kind."""
    told = ALL[name]
    whole, parts = stream(told.events), [*map(chunk, told.events)]
    for pieces in (
        [whole],
        [head(), *parts, LAST],
        [head(), b"".join(parts[:3]), b"".join(parts[3:]) + LAST],
        [whole[:300], whole[300:]],
    ):
        for more in ASKED if "/chat/" in told.path else ({"body": COMPLETION, "path": told.path},):
            compare(without, told.kind, pieces, close=True, **more)


def test_the_kernel_takes_the_regular_events_of_a_block(kernel: Kernel) -> None:
    """Up to the first that is special in one of the ways there are."""
    one, ours = b'data: {"id":"x","choices":[{', b'data: {"id":"our own","choices":[{'
    event = one + b'"delta":{"content":"\xc3\xa9"},"finish_reason":null}]}\n\n'
    renamed = ours + event[len(one) :]
    for special in (
        b"",
        one + b'"delta":{},"finish_reason":"stop"}]}\n\n',
        one + b'"delta":{"tool_calls":[]},"finish_reason":null}]}\n\n',
        one + b'"delta":{"content":"\xc3"},"finish_reason":null}]}\n\n',
        one + b'"delta":{},\n"finish_reason":null}]}\n\n',
        one + b'"delta":{},"finish_reason":null}]}\n',
        one[:-1],
        b": a comment\n\n",
        b"data: [DONE]\n\n",
        b"\n\n",
    ):
        for count in range(5):
            data = event * count + special + event
            if not special:
                data = data[: -len(event)]
            found = kernel.regular_events(data, one, ours, b'"finish_reason":"', b'"tool_calls":')
            assert found == (renamed * count, count, len(event) * count)
    assert kernel.regular_events(event, b"", ours, b"", b"") == (b"", 0, 0)
    assert kernel.regular_events(event * 3, one, b"", b"", b"") == (event[len(one) :] * 3, 3, 3 * len(event))


@pytest.mark.parametrize("usage", USAGES, ids=str)
@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
def test_plain_answers_are_the_same(without: Without, usage: Any, spaces: tuple[str, str]) -> None:
    """Whatever an engine says of its usage."""
    for more in (
        {},
        {"backend": {"a": 1}, "x_probe": [1.50, "\u00e9"]},
        {"choices": [{**body()["choices"][0], "finish_reason": "length"}]},
        {"choices": [{"message": {"role": "assistant", "content": "a", "reasoning_content": "hm"}, "index": 0, "finish_reason": "stop"}]},
        {"choices": [{**CHOICE, "message": {"role": "assistant", "content": "a", "refusal": None, "tool_calls": []}}]},
        {"choices": [{**CHOICE, "message": {"role": "assistant", "content": "a", "tool_calls": None}}]},
        {"choices": [{**CHOICE, "message": {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}}]},
        {"choices": [{**CHOICE, "message": {"tool_calls": []}}, {**CHOICE, "message": {"tool_calls": [{"function": {"name": "f"}}]}}]},
        {"choices": []},
        {"created": "x"},
    ):  # fmt: skip
        data = json.dumps(body(usage=usage, **more), separators=spaces, ensure_ascii=False).encode()
        for kind in ("vllm", "llamacpp"):
            for n in (1, 2):
                compare(without, kind, [plain(data)], stream=False, n=n)


def test_the_kernel_takes_what_engines_send(kernel: Kernel) -> None:
    """Or nothing was compared."""
    for usage in USAGES[:7]:
        for spaces in ((",", ":"), (", ", ": ")):
            data = json.dumps(body(usage=usage), separators=spaces).encode()
            assert kernel.edit_answer(data, b"chatcmpl-", ID, b'"m"', b'"chat.completion"', b"{}") is not None
    assert (
        kernel.edit_answer(b'{"choices":[],"created":1}', b"chatcmpl-", ID, b'"m"', b'"chat.completion"', b"{}") is None
    )
    for calls in ([], None):
        choice = CHOICE | {"message": {"role": "assistant", "content": "a", "tool_calls": calls}}
        data = json.dumps(body(choices=[choice])).encode()
        assert kernel.edit_answer(data, b"chatcmpl-", ID, b'"m"', b'"o"', b"{}") is not None
    many = {f"f{number}": number for number in range(40)}
    assert kernel.edit_answer(json.dumps(body(**many)).encode(), b"chatcmpl-", ID, b'"m"', b'"o"', b"{}") is None
    twice = json.dumps(body()).encode()[:-1] + b',"model":"other"}'
    assert kernel.edit_answer(twice, b"chatcmpl-", ID, b'"m"', b'"o"', b"{}") is None


STREAMS = [told for told in ALL.values() if "/chat/" in told.path]
HEADS = (
    "server: x\r\n", KEEP, "Connection: Keep-Alive\r\n", "connection: close\r\n", "connection: upgrade\r\nupgrade: h2c\r\n", "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n", "transfer-encoding: gzip, chunked\r\n", "x: \r\n", "x:a \r\n", "content-type: text/plain\r\n", "x\r\n", " x: y\r\n", "trailer: x\r\n", "x: \x7f\r\n",
)  # fmt: skip


def mangled(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(4)] = rng.choice(
            (b"", b"0", b"1", b"a", b'"', b"\\", b"{", b"}", b",", b":", b"\r\n", b"\n", b"\r", b" ", b"\x00", b"\xff", b"\xc3\xa9", b"e5", b"null", changed[at : at + 40])
        )  # fmt: skip
    return bytes(changed)


def altered(event: bytes, rng: random.Random) -> list[bytes]:
    """An event that is still JSON, but not what all others are; or another beside it, or none.

    What is no JSON at all passes unseen, with the kernel and without, unless something special stands in the same block.
    """
    if not event.startswith(b"data: {") or rng.random() < 0.3:
        return rng.choice(
            ([], [event, event], [b": a comment\n\n", event], [b"data: null\n\n", event], [event, b"data: [DONE]\n\n"])
        )
    told = json.loads(event[6:].strip())
    choice = (told.get("choices") or [{}])[0]
    delta = choice.get("delta", {})
    place, name, value = rng.choice(
        (
            (told, "created", 7), (told, "id", "other"), (told, "model", "other"), (told, "choices", []), (told, "error", {"message": "x", "code": 500}), (told, "x", [1]),
            (choice, "index", 1), (choice, "finish_reason", "length"), (choice, "finish_reason", ""), (delta, "content", 'a "b" \n\n \u2028'), (delta, "content", '"finish_reason":"stop"'),
            (delta, "reasoning_content", "hm"), (delta, "tool_calls", [{"function": {"name": "f", "arguments": "{}"}}]), (delta, "role", "assistant"),
        )
    )  # fmt: skip
    place[name] = value
    return [b"data: " + json.dumps(told, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode() + b"\n\n"]


@pytest.mark.timeout(0)
def test_changed_answers_are_the_same(kernel: Kernel, without: Without) -> None:
    """Plain ones and streams, almost right, in one read."""
    taken = edited = 0
    for case in range(CASES // 4):
        rng = random.Random(case)
        if streamed := rng.random() < 0.4:
            events = list(rng.choice(STREAMS).events)
            if rng.random() < 0.5:
                at = rng.randrange(len(events))
                events[at : at + 1] = altered(events[at], rng)
            data = mangled(head(), rng) if rng.random() < 0.2 else head()
            data += b"".join(map(chunk, events)) + LAST
        else:
            text = json.dumps(body(usage=rng.choice(USAGES)), separators=rng.choice(((",", ":"), (", ", ": "))), ensure_ascii=rng.random() < 0.5).encode()  # fmt: skip
            text = mangled(text, rng) if rng.random() < 0.7 else text
            more = "".join(rng.choice(HEADS) for _ in range(rng.choice((0, 0, 0, 1, 2))))
            data = rng.choice((plain(text), head(kind="application/json", more=more) + chunk(text) + LAST, head(kind="application/json", length=len(text), more=more) + text))  # fmt: skip
            if rng.random() < 0.4:
                data = mangled(data, rng)
        found = kernel.read_answer(data)
        taken += found is not None
        edited += found is not None and kernel.edit_answer(found[1], b"", ID, b"2", b"3", b"4") is not None
        compare(without, "vllm", [data], close=True, spelling=not streamed, stream=streamed, usage=rng.random() < 0.5)
    assert taken > CASES // 20
    assert edited > CASES // 100


def test_a_public_name_takes_the_place_of_the_engines_own(without: Without) -> None:
    """And the id is ours, whoever edits."""
    found = compare(without, "vllm", [plain(body())], stream=False)
    assert PUBLIC.encode() in found.sent
    assert UPSTREAM.encode() not in found.sent
    assert b'"id":"chatcmpl-' + b"0" * 31 + b'7"' in found.sent
