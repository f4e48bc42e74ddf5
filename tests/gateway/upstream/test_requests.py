# SPDX-License-Identifier: Apache-2.0
"""What an engine is sent: the client's bytes, and only what must differ."""

import json
from typing import Any

import pytest

from beffroi.core.snapshot import Limits
from tests.client import chat, request
from tests.gateway.rig import PUBLIC, UPSTREAM, Rig, plain

HARD = Limits(hard_budget=10**15)


def sent(rig: Rig, body: dict[str, Any], path: str = "/v1/chat/completions") -> dict[str, Any]:
    """The request that reaches the engine."""
    return rig.ask(body, path=path).upstream


def test_a_body_that_needs_no_change_leaves_as_it_came() -> None:
    """Byte for byte: blanks, escapes, key order, fields that nobody here knows."""
    rig = Rig(max_model_len=None)
    for model in rig.house.view.models.values():
        model.upstream["e0"] = PUBLIC
    raw = b'{ "messages":[ {"role":"user","content":"caf\\u00e9 \xc3\xa9"} ],\n "x_unknown":{"a":1e5}, "model" : "public-name" }'
    run = rig.ask(chat(model=PUBLIC))
    run.client.connection_lost(None)
    run = rig.ask(raw)  # type: ignore[arg-type]
    assert run.requests[-1][1].endswith(b"\r\n\r\n" + raw)


def test_only_headers_of_ours_reach_an_engine() -> None:
    """Neither the client's key nor its cookies, nor anything that it invents (decision D8)."""
    rig = Rig()
    run = rig.ask()
    run.client.connection_lost(None)
    run = rig.ask()
    run.leave()
    data = request(
        rig.key,
        chat(model=PUBLIC),
        headers=("Cookie: session=1", "X-Forwarded-Host: evil", "OpenAI-Organization: o", "X-Request-Id: mine"),
    )
    run.client.__init__(rig)  # type: ignore[misc, arg-type]
    run.client.connection_made(run.transport)
    run.client.data_received(data)
    rig.loop.turn()
    lines = run.requests[-1][1].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    names = {line.partition(":")[0] for line in lines[1:]}
    assert names == {"host", "content-type", "accept", "x-request-id", "content-length"}
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert not any("mine" in line for line in lines)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
def test_the_engine_hears_its_own_name_of_the_model(path: str) -> None:
    """And nothing else changes."""
    body = chat("hi", model=PUBLIC, temperature=0.5, top_k=40, chat_template_kwargs={"x": [1]}, seed=7)
    assert sent(Rig(), body, path) == body | {"model": UPSTREAM}


@pytest.mark.parametrize(
    ("asked", "spec", "hard", "bound", "reserved"),
    [
        ({}, {}, False, None, 32768),
        ({}, {}, True, 1024, 1024),
        ({}, {"default_max_tokens": 50}, True, 50, 50),
        ({}, {"default_max_tokens": 5000, "max_output": 200}, True, 200, 200),
        ({"max_tokens": 10}, {}, True, 10, 10),
        ({"max_tokens": 10, "n": 3}, {}, True, 10, 30),
        ({"max_tokens": 60_000}, {"max_output": 4096}, False, 4096, 4096),
        ({"max_tokens": 60_000}, {"max_output": 4096}, True, 4096, 4096),
        ({"max_tokens": 60_000}, {}, False, None, 32768),
        ({"max_tokens": 60_000}, {}, True, None, 32768),
        ({"max_completion_tokens": 60_000}, {"max_output": 4096}, True, 4096, 4096),
        ({"max_tokens": None}, {}, True, 1024, 1024),
    ],
)
def test_the_bound_on_an_answer_is_injected_clamped_or_left_out(
    asked: dict[str, Any], spec: dict[str, Any], hard: bool, bound: int | None, reserved: int
) -> None:
    """A hard budget needs one; more than the model can give is clamped; more than its context holds is left to the engine."""
    rig = Rig(limits=HARD if hard else Limits(), **spec)
    body = sent(rig, chat("hi", model=PUBLIC, **asked))
    name = "max_completion_tokens" if "max_completion_tokens" in asked else "max_tokens"
    assert body.get(name) == bound
    ask = rig.counters.asks[-1]
    price = 21_000_000_000 * reserved // 1_000_000
    assert (ask.bound >= price) is hard
    if hard:
        assert ask.bound - price < 900 * 2200, "the rest is the prompt"


@pytest.mark.parametrize("kind", ["llamacpp", "vllm", "sglang", "ollama", "openai"])
def test_no_other_spelling_gets_past_the_bound_of_a_hard_budget(kind: str) -> None:
    """llama.cpp takes `n_predict` before `max_tokens`, and `n_cmpl` before `n`; the bound stands under every name that is read."""
    rig = Rig(kind, limits=HARD)
    body = sent(rig, chat("hi", model=PUBLIC, max_tokens=10, n_predict=10_000, n_cmpl=50))
    assert (body["max_tokens"], body.get("n_predict"), body.get("n_cmpl")) == (10, None, None)
    body = sent(rig, chat("hi", model=PUBLIC, n_predict=10_000))
    assert (body["max_tokens"], body.get("n_predict")) == (1024, None)
    for names in (
        {"max_tokens": 10_000, "max_completion_tokens": 10},
        {"max_tokens": 10, "max_completion_tokens": 10_000},
    ):
        body = sent(rig, chat("hi", model=PUBLIC, **names))
        said = {body[name] for name in ("max_tokens", "max_completion_tokens") if name in body}
        assert max(said) * 21_000 <= rig.counters.asks[-1].bound
    body = sent(Rig(kind), chat("hi", model=PUBLIC, n_predict=7))
    assert body["n_predict"] == 7, "without a bound of ours it is the client's affair"


def test_an_engine_that_knows_only_max_tokens_is_told_under_that_name() -> None:
    """Ollama ignores `max_completion_tokens`: an answer without bound would follow."""
    assert sent(Rig("ollama"), chat("hi", model=PUBLIC, max_completion_tokens=10))["max_tokens"] == 10
    assert "max_tokens" not in sent(Rig("vllm"), chat("hi", model=PUBLIC, max_completion_tokens=10))


def test_llamacpp_is_not_shown_tools_that_must_not_be_used() -> None:
    """It shows them to the model although `tool_choice` is none."""
    tools = [{"type": "function", "function": {"name": "bell"}}]
    body = sent(Rig("llamacpp"), chat("hi", model=PUBLIC, tools=tools, tool_choice="none"))
    assert "tools" not in body and "tool_choice" not in body
    for kind, choice in (("llamacpp", "auto"), ("vllm", "none")):
        assert sent(Rig(kind), chat("hi", model=PUBLIC, tools=tools, tool_choice=choice))["tools"] == tools


def test_messages_sent_to_completions_are_a_chat() -> None:
    """As the reference service documents it."""
    run = Rig().ask(chat("hi", model=PUBLIC), path="/v1/completions")
    assert run.requests[-1][1].startswith(b"POST /v1/chat/completions ")
    run.feed(
        plain({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]})
    )
    assert run.answer.json["object"] == "chat.completion"
    assert json.loads(run.answer.body)["id"].startswith("chatcmpl-")
