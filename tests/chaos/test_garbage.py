# SPDX-License-Identifier: Apache-2.0
"""Engines that speak badly: nothing crashes, nothing hangs, and nobody pays for what was not made (U7)."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from tests.client import Answer, chat, exchange, request
from tests.engines.faults import GARBAGE
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served

HARMLESS = {"crlf", "no_done", "usage_missing", "usage_zero", "usage_twice", "usage_in_last", "no_space", "byte_by_byte", "two_writes", "many_in_one",
            "comments", "null_usage", "running_usage", "after_finish"}  # fmt: skip
BROKEN = set(GARBAGE) - HARMLESS
# Bytes that need no edit pass as they came (decision D7): their client sees what the engine sent, or the error event.
MAY_PASS = {"half_utf8", "not_json", "not_sse"}
FRAMES = ["framing=length", "framing=close", "framing=close;no_done", "keep_alive=0", "head_bytes=60000", "head_count=500", "content_type=text/html",
          "bad_length", "body_bytes=3000000"]  # fmt: skip


@pytest.fixture
def served(serve: Callable[..., Served], engine: ScriptedEngine) -> Served:
    """One worker; its process id must not change."""
    return serve(engine)


def sound_after(served: Served, workers: list[int]) -> None:
    """The next request is served, by the same processes."""
    answer = served.chat("count to 3", stream=True)
    assert answer.text == "1 2 3"
    assert served.worker_pids == workers


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_garbage_neither_crashes_nor_hangs_nor_is_billed(served: Served, engine: ScriptedEngine) -> None:
    """Every kind, alone and in pairs with bytes that trickle; each stream ends well or with the error event, in time."""
    workers = served.worker_pids
    billed: dict[str, str] = {}
    for kind in GARBAGE:
        for extra in ("", "+byte_by_byte", "+two_writes"):
            if kind == "long_line" and extra:
                continue  # ten million writes prove nothing more
            engine.script(f"garbage={kind}{extra}")
            begin = time.monotonic()
            answer = asyncio.run(
                exchange(served.address, request(served.key, chat("count to 5", stream=True)), timeout=15)
            )
            took = time.monotonic() - begin
            assert took <= (1.5 if "byte" in extra or kind == "byte_by_byte" else 1.0), f"{kind}{extra}: {took:.2f} s"
            check(kind, answer)
            billed[answer.get("x-request-id") or ""] = kind
    sound_after(served, workers)
    rows = served.settled(billed)
    for request_id, kind in billed.items():
        row = rows[request_id][-1]
        output = row["output_tokens"]
        if kind == "usage_zero":
            assert (row["input_tokens"], output) == (0, 0)
        elif kind in HARMLESS:
            assert output == 5, (kind, row)
        else:
            assert output <= 6, (kind, row)


def check(kind: str, answer: Answer) -> None:
    """What its client must get."""
    if answer.status != 200:
        assert kind in BROKEN, (kind, answer.status, answer.body)
        assert answer.json["error"]["code"]
        return
    if kind in MAY_PASS:
        return
    for event in answer.events:
        if event != b"[DONE]":
            json.loads(event)  # each is JSON, whatever came in
    assert b"\r" not in answer.body
    if kind in HARMLESS:
        assert answer.text.startswith("1 2 3 4 5"), (kind, answer.body[-400:])
        assert answer.events[-1] == b"[DONE]", (kind, answer.body[-300:])
        usages = [c["usage"] for c in answer.chunks if c.get("usage")]
        assert len(usages) == 1, kind
        if kind in ("usage_twice", "usage_in_last", "running_usage"):
            assert usages[0]["completion_tokens"] == 5


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("stream", [False, True])
def test_heads_and_framing_of_every_kind(served: Served, engine: ScriptedEngine, stream: bool) -> None:
    """Length, close or chunks; heads too large, a wrong type: an answer or a clear error, never a hang."""
    workers = served.worker_pids
    for fault in FRAMES:
        engine.script(*[fault] * 3)  # what is retried meets it again
        begin = time.monotonic()
        answer = served.chat("count to 5", stream=stream)
        assert time.monotonic() - begin <= 1.5, fault
        sound = fault.startswith(("framing", "keep_alive")) or (fault == "body_bytes=3000000")
        if sound or answer.status == 200:
            assert answer.status == 200, (fault, answer.body)
            assert answer.text == "1 2 3 4 5" or b'"error"' in answer.body, (fault, answer.body[:300])
        else:
            assert answer.status in (502, 503, 504), (fault, answer.status)
            assert answer.json["error"]["code"]
        for name in ("set-cookie", "x-engine-internal", "x-pad"):
            assert answer.get(name) is None
        engine.reset_script()
    sound_after(served, workers)


@pytest.mark.chaos
def test_tool_calls_of_engines_that_give_them_badly_are_mended(served: Served, engine: ScriptedEngine) -> None:
    """Arguments as an object become a JSON string; id, index and type are there, plain and streamed."""
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
        },
    }
    for stream in (False, True):
        engine.script("tool_object;tool_bare")
        answer = served.chat("look", stream=stream, tools=[tool], tool_choice="required")
        assert answer.status == 200, answer.body
        if stream:
            calls = [
                call
                for c in answer.chunks
                if c.get("choices")
                for call in c["choices"][0]["delta"].get("tool_calls") or []
            ]
            assert all("index" in call for call in calls)
            assert calls[0]["id"]
            assert calls[0]["type"] == "function"
            assert all(isinstance(call["function"].get("arguments", ""), str) for call in calls)
        else:
            call = answer.json["choices"][0]["message"]["tool_calls"][0]
            assert (call["type"], bool(call["id"])) == ("function", True)
            assert json.loads(call["function"]["arguments"]) == {"where": "x"}
