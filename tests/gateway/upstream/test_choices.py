# SPDX-License-Identifier: Apache-2.0
"""Several answers at once, tool calls, and answers of one chunk: each choice gets what clients need."""

from typing import Any

import pytest

from beffroi.core.price import Tokens
from tests.gateway.upstream import judge
from tests.gateway.upstream.events import DONE, Dialect, event
from tests.gateway.upstream.test_misbehaviour import BASE, COUNT, at_once, said, served


def test_two_answers_at_once_keep_their_own_ends() -> None:
    """n = 2: each choice has its role first and its reason last; llama.cpp's two usages are summed, the prompt once."""
    events = [
        said({"role": "assistant", "content": None}, index=1),
        said({"content": "A"}, index=1),
        said({"role": "assistant", "content": None}),
        said({"content": "B"}),
        said({"content": "C"}, "length", index=1),
        event(
            {
                **BASE,
                "choices": [],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 2,
                    "total_tokens": 11,
                    "prompt_tokens_details": {"cached_tokens": 0},
                },
            }
        ),
        said({"content": "D"}),
        said({"content": "E"}, "stop"),
        event(
            {
                **BASE,
                "choices": [],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 12,
                    "prompt_tokens_details": {"cached_tokens": 8},
                },
            }
        ),
        DONE,
    ]
    for answer in (served, at_once):
        run = answer(events, "llamacpp", n=2)
        found = judge.chunks(run)
        for index, text, finish in ((0, "BDE", "stop"), (1, "AC", "length")):
            mine = [c["choices"][0] for c in found if c["choices"][0]["index"] == index]
            assert "".join(c["delta"].get("content") or "" for c in mine) == text
            assert [n for n, c in enumerate(mine) if c["delta"].get("role")] == [0]
            assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [finish] == [mine[-1]["finish_reason"]]
            assert not mine[-1]["delta"]
        assert run.settlement.tokens == Tokens(9, 0, 5, 0)
        assert [n for n, c in enumerate(found) if c.get("usage")] == [len(found) - 1]


@pytest.mark.parametrize("tools", [True, False], ids=["tools offered", "tools not offered"])
def test_tool_calls_get_what_clients_need(tools: bool) -> None:
    """No id, no type, no index, arguments as an object; two calls in two chunks are two calls."""
    bare = [
        said(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "bell", "arguments": {"n": 3}}}],
            }
        ),
        said({"tool_calls": [{"index": None, "function": {"name": "hour", "arguments": ""}}]}),
        said({"tool_calls": [{"function": {"arguments": '{"a":'}}]}),
        said({"tool_calls": [{"function": {"arguments": "1}"}}]}),
        said({}, "tool_calls"),
        COUNT,
        DONE,
    ]
    more: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "bell"}}]} if tools else {}
    for answer in (served, at_once):
        run = answer(bare, **more)
        calls = judge.calls_of(judge.chunks(run))
        assert [(name, arguments) for _, name, arguments in calls] == [("bell", '{"n":3}'), ("hour", '{"a":1}')]
        assert len({id_ for id_, _, _ in calls}) == 2
        assert run.settlement.finish_reason == "tool_calls"


def test_an_answer_of_one_chunk_is_told_in_two() -> None:
    """Role, text and reason at once: the reason gets a chunk of its own."""
    judge.whole(
        served([said({"role": "assistant", "content": "Yes"}, "stop"), COUNT, DONE]),
        Dialect("vllm", [], text="Yes"),
        asked=False,
    )
    judge.whole(
        served([said({"role": "assistant", "content": ""}, "stop"), COUNT, DONE]),
        Dialect("vllm", [], text=""),
        asked=False,
    )
