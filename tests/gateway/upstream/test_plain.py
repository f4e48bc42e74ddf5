# SPDX-License-Identifier: Apache-2.0
"""Answers that come whole: what passes untouched, what is set, what an engine's error becomes."""

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from beffroi.core.price import Tokens
from beffroi.gateway.upstream.dialect import wants_logprobs
from tests.client import chat
from tests.gateway.rig import LAST, PUBLIC, UPSTREAM, Rig, Run, chunk, head, plain
from tests.gateway.upstream.dialects import ALL

USAGE = {"prompt_tokens": 11, "total_tokens": 17, "completion_tokens": 6}
TWO = {"e0": "vllm", "e1": "vllm"}


def body(**more: Any) -> dict[str, Any]:
    """A sound answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Ding"},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 5,
        "model": UPSTREAM,
        "choices": [choice],
        "usage": dict(USAGE),
    } | more


def ask(rig: Rig, **more: Any) -> Run:
    """A chat that does not stream."""
    return rig.ask(chat("hello", model=PUBLIC, **more))


def answered(data: Any, kind: str = "vllm", status: int = 200, **more: Any) -> Run:
    """A chat with that answer of the engine."""
    run = ask(Rig(kind), **more)
    run.feed(plain(data, status))
    return run


def test_an_answer_gets_our_id_the_public_name_usage_and_backend_and_keeps_the_rest() -> None:
    """Also fields that nobody here knows, byte for byte."""
    odd = {
        "system_fingerprint": "fp",
        "prompt_logprobs": None,
        "kv_transfer_params": {"ü": [1e-9, 12345678901234567890]},
    }
    told = body(**odd)
    data = plain(told)
    rig = Rig()
    for at in range(1, len(data)):
        run = ask(rig)
        run.feed(data[:at], data[at:])
        got = run.answer.json
        assert (
            got["id"]
            == "chatcmpl-" + run.settlement.request_id[4:]
            == "chatcmpl-" + (run.answer.get("x-request-id") or "")[4:]
        )
        assert got["model"] == PUBLIC
        assert got["backend"] == {"engine_type": "vllm", "machine_name": "machine-e0"}
        assert got["usage"] == USAGE | {
            "reasoning_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        assert {k: v for k, v in got.items() if k not in ("id", "model", "usage", "backend")} == {
            k: v for k, v in told.items() if k not in ("id", "model", "usage")
        }
        assert run.settlement.tokens == Tokens(11, 0, 6, 0)
    assert b"1e-9" in run.sent or b"1e-09" in run.sent


def test_every_token_class_is_told_apart() -> None:
    """Cached is part of the prompt, reasoning part of the completion; `reasoning_tokens` stands also at the top."""
    usage = USAGE | {
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    run = answered(body(usage=usage))
    assert run.settlement.tokens == Tokens(7, 4, 4, 2)
    assert run.answer.json["usage"]["reasoning_tokens"] == 2
    assert run.answer.json["usage"]["prompt_tokens_details"]["audio_tokens"] == 0
    run = answered(body(usage=USAGE | {"reasoning_tokens": 3}))
    assert run.settlement.tokens == Tokens(11, 0, 3, 3)


def test_reasoning_that_the_engine_does_not_split_is_marked() -> None:
    """It is billed as output, and the record says that it may be more (decision D22)."""
    message = {"role": "assistant", "reasoning_content": "Hm.", "content": "Ding"}
    run = answered(body(choices=[{"index": 0, "message": message, "finish_reason": "stop"}]))
    assert run.settlement.findings == ("reasoning_unsplit",)
    assert run.settlement.tokens.output == 6
    run = answered(
        body(choices=[{"index": 0, "message": message | {"reasoning_content": None}, "finish_reason": "stop"}])
    )
    assert run.settlement.findings == ()
    run = answered(
        body(choices=[{"index": 0, "message": message, "finish_reason": "stop"}], usage=USAGE | {"reasoning_tokens": 1})
    )
    assert run.settlement.findings == ()
    for told in (ALL["vllm"], ALL["vllm_reasoning"], ALL["ollama_reasoning"]):
        for kind in (told.kind, "openai"):
            run = Rig(kind).ask()
            run.feed(head(), *map(chunk, told.events), LAST)
            unsplit = bool(told.reasoning) and not told.tokens[3]
            assert run.settlement.findings == (("reasoning_unsplit",) if unsplit else ())


@pytest.mark.parametrize("usage", [None, "absent", {}, {"tokens": 3}])
def test_without_usage_the_client_is_shown_what_it_pays(usage: Any) -> None:
    """Never null, never absent: clients fall over it. Never more than was used."""
    told = body(usage=usage)
    if usage == "absent":
        del told["usage"]
    run = answered(told)
    shown = run.answer.json["usage"]
    tokens = run.settlement.tokens
    assert (
        (shown["prompt_tokens"], shown["completion_tokens"])
        == (tokens.input + tokens.cached, tokens.completion)
        == (0, 0)
    )
    assert run.settlement.source == "relayed"


def test_what_clients_cannot_do_without_is_added() -> None:
    """Index, reason, role; tool calls with id, type, and arguments as text."""
    calls = [{"function": {"name": "bell", "arguments": {"n": 3}}}, {"function": {"name": "hour", "arguments": "{}"}}]
    run = answered(body(choices=[{"message": {"content": None, "tool_calls": calls}}]))
    choice = run.answer.json["choices"][0]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    got = choice["message"]["tool_calls"]
    assert [c["function"] for c in got] == [
        {"name": "bell", "arguments": '{"n":3}'},
        {"name": "hour", "arguments": "{}"},
    ]
    assert len({c["id"] for c in got}) == 2 and {c["type"] for c in got} == {"function"}
    run = answered(body(choices=[{"index": 0, "message": {"role": "assistant", "content": "x"}}]))
    assert run.answer.json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"{}", b"\xff\xfe", b'{"data": []}', b"[" * 100_000, b'{"a":' * 60_000,
        json.dumps(body(choices=[])).encode(), json.dumps(body(choices=None)).encode(), json.dumps(body(choices="x")).encode(),
        b'{"choices": [{"index": 0}', b'{"error": {"message": "oops"}}',
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_asked_of_another_engine(data: bytes) -> None:
    """Nothing of it reaches the client."""
    run = ask(Rig(TWO))
    run.feed(plain(data))
    assert run.waits and not run.sent
    run.feed(plain(body()))
    assert run.answer.status == 200
    assert run.settlement.attempts == 2


@pytest.mark.parametrize(
    ("status", "said", "outcome", "retried"),
    [
        (400, 400, "engine_refused", False),
        (404, 404, "engine_refused", False),
        (413, 413, "engine_refused", False),
        (422, 422, "engine_refused", False),
        (418, 400, "engine_refused", False),
        (401, 502, "engine_gone", True),
        (403, 502, "engine_gone", True),
        (429, 502, "engine_gone", True),
        (500, 502, "engine_gone", True),
        (502, 502, "engine_gone", True),
        (503, 502, "engine_gone", True),
        (302, 502, "engine_gone", True),
        (201, 502, "engine_gone", True),
        (999, 502, "engine_gone", True),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_engines_error_is_the_requests_fault_or_its_own(
    status: int, said: int, outcome: str, retried: bool, streamed: bool
) -> None:
    """4xx passes on, but for those that are between us and the engine; the rest is tried elsewhere first."""
    rig = Rig(TWO)
    run = ask(rig, stream=streamed)
    error = plain({"error": {"message": "secret-of-the-engine", "type": "x", "code": status, "param": "top_k"}}, status)
    run.feed(error)
    assert run.waits is retried
    while run.waits:  # the two engines, and one of them again
        run.feed(error)
    assert len(run.requests) == (3 if retried else 1)
    answer = run.answer
    assert answer.status == said
    fault = answer.json["error"]
    assert isinstance(fault["code"], str) and answer.json["detail"] == fault["message"]
    assert ("secret-of-the-engine" in fault["message"]) is not retried
    assert fault["param"] == (None if retried else "top_k")
    assert (answer.get("retry-after") is not None) is retried
    assert (run.settlement.outcome, run.settlement.status, run.settlement.cost.total) == (outcome, said, 0)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"error": {"message": "max_tokens must be at least 1", "code": 400}}, "max_tokens must be at least 1"),
        (
            {"object": "error", "message": "This model's maximum context length is 2048 tokens."},
            "maximum context length",
        ),
        ({"detail": "too many images"}, "too many images"),
        ({"error": "no such tool"}, "no such tool"),
        ({"error": {"message": f"The model `{UPSTREAM}` takes no images"}}, f"`{PUBLIC}`"),
        ({"error": {"message": "[json.exception.type_error.302] type must be string"}}, None),
        ({"error": {"message": 'Traceback (most recent call last):\n File "/opt/vllm/x.py"'}}, None),
        ({"error": {"message": "segfault at 0x7f00deadbeef in ggml.cpp"}}, None),
        (b"<html>Bad Request</html>", None),
        (b"", None),
        ({"error": {"message": "x" * 5000}}, "x" * 1000),
        ({"error": {"message": ["list"]}}, None),
    ],
)
def test_an_engines_complaint_is_passed_on_unless_it_shows_its_inside(data: Any, shown: str | None) -> None:
    """Whoever reads it can mend the request, and learns nothing of our machines."""
    run = answered(data, status=400)
    message = run.answer.json["error"]["message"]
    if shown is None:
        assert message.startswith("The engine refused the request")
    else:
        assert shown in message
    assert len(message) <= 1000
    for secret in ("json.exception", "Traceback", "vllm", "0x7f", "ggml", UPSTREAM, "html"):
        assert secret not in message


def test_an_answer_beyond_all_measure_is_dropped() -> None:
    """`max_answer` bounds the memory that an engine can make us hold; an error answer has less."""
    for status, limit in ((200, 4096), (500, 64 << 10)):
        run = ask(Rig(settings={"max_answer": 4096}))
        while run.waits:
            engine, fed = run.engine, 0
            run.feed(head(status, "application/json", 1 << 30))
            while engine.answer is not None and fed < 1 << 20:
                engine.data_received(b" " * 1024)
                fed += 1024
            run.rig.loop.turn()
            assert fed <= limit + 2048
            assert engine.transport.aborted  # type: ignore[attr-defined]
        assert run.answer.status == 502


def test_a_plain_answer_up_to_the_close_is_whole_only_when_its_json_is() -> None:
    """RFC 9112 allows it; a cut cannot be told from an end but by what was said."""
    data = json.dumps(body()).encode()
    for cut in (len(data), len(data) - 1, 10):
        run = ask(Rig())
        while run.waits:
            run.feed(head(200, "application/json", close=True) + data[:cut])
            run.close()
        assert run.answer.status == (200 if cut == len(data) else 502)


def test_interim_answers_are_passed_over() -> None:
    """100 and 103 are not the answer."""
    run = ask(Rig())
    run.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + plain(body()))
    assert run.answer.status == 200


def test_several_choices_of_llamacpp_are_billed_by_the_tokens_that_their_logprobs_list() -> None:
    """Its usage is that of one choice. The client gets the logprobs if it asked for them; without them nothing is guessed."""

    def choice(index: int, tokens: int) -> dict[str, Any]:
        listed = {"content": [{"token": "a", "logprob": -0.5}] * tokens}
        message = {"role": "assistant", "content": "a" * tokens}
        return {"index": index, "message": message, "finish_reason": "stop", "logprobs": listed}

    told = body(choices=[choice(0, 3), choice(1, 5)], usage={"prompt_tokens": 9, "completion_tokens": 3})
    for asked in ({}, {"logprobs": True}):
        run = answered(told, "llamacpp", n=2, **asked)
        assert run.upstream["logprobs"] is True
        assert run.answer.json["usage"]["completion_tokens"] == 8
        assert run.settlement.tokens == Tokens(9, 0, 8, 0)
        shown = [bool(choice["logprobs"]) for choice in run.answer.json["choices"]]
        assert shown == [bool(asked)] * 2
    assert "logprobs" not in answered(told, "vllm", n=2).upstream
    bare = [{**choice(index, 3), "logprobs": None} for index in (0, 1)]
    run = answered(body(choices=bare, usage={"prompt_tokens": 9, "completion_tokens": 3}), "llamacpp", n=2)
    assert run.settlement.tokens == Tokens(9, 0, 3, 0)


@pytest.mark.parametrize(
    ("said", "wanted"), [(b"0", True), (b"2", True), (b"true", True), (b"false", False), (b"null", False)]
)
def test_none_beside_the_chosen_tokens_is_asked_for_too(said: bytes, wanted: bool) -> None:
    """`logprobs: 0` in a completion lists the tokens that were chosen: they are the client's to see."""
    request: Any = SimpleNamespace(fields={"logprobs": msgspec.Raw(said)})
    assert wants_logprobs(request) is wanted
    request.fields.clear()
    assert wants_logprobs(request) is False
