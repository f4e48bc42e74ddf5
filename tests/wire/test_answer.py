# SPDX-License-Identifier: Apache-2.0
"""Answers of engines, read as hostile: counts of every dialect, sound tool calls, nothing of an engine's inside."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beffroi.core.price import Tokens
from beffroi.wire.openai.answer import (
    MAX_COUNT,
    counted_usage,
    fault_of,
    finish_of,
    mend_calls,
    mend_choices,
    read_answer,
    read_raw_usage,
    read_usage,
    write_answer,
)

DEEP = b"[" * 100_000 + b"]" * 100_000
DIALECTS = {
    "openai": (
        {"prompt_tokens": 19, "completion_tokens": 40, "total_tokens": 59, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0}}, Tokens(15, 4, 10, 30)),
    "vllm": ({"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": None}, Tokens(7, 0, 5, 0)),
    "vllm reasoning": ({"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "reasoning_tokens": 3}, Tokens(7, 0, 2, 3)),
    "llamacpp": ({"completion_tokens": 6, "prompt_tokens": 8, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 8}}, Tokens(0, 8, 6, 0)),
    "ollama": ({"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324}, Tokens(26, 0, 298, 0)),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Tokens(8, 0, 0, 0)),
    "only completion": ({"completion_tokens": 8}, Tokens(0, 0, 8, 0)),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Tokens(0, 0, 0, 0)),
}  # fmt: skip
HOSTILE = {
    "negative": ({"prompt_tokens": -5, "completion_tokens": -1}, Tokens(0, 0, 0, 0)),
    "huge": ({"prompt_tokens": MAX_COUNT + 1, "completion_tokens": 10**30}, Tokens(0, 0, 0, 0)),
    "text": ({"prompt_tokens": "12", "completion_tokens": "many"}, Tokens(0, 0, 0, 0)),
    "floats": ({"prompt_tokens": 1.5, "completion_tokens": float("inf")}, Tokens(0, 0, 0, 0)),
    "truth": ({"prompt_tokens": True, "completion_tokens": [3]}, Tokens(0, 0, 0, 0)),
    "more cached than sent": ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 50}}, Tokens(0, 5, 1, 0)),
    "negative cached": ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -50}}, Tokens(5, 0, 1, 0)),
    "more thought than said": ({"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 9}}, Tokens(5, 0, 0, 1)),
    "details of another kind": ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": [1], "completion_tokens_details": "x"}, Tokens(5, 0, 1, 0)),
    "a wrong total": ({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 10**9}, Tokens(5, 0, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS | HOSTILE)
def test_usage_is_read_whatever_the_engine(name: str) -> None:
    """The billing classes, and an object for the client that has every field and adds up."""
    given_, tokens = (DIALECTS | HOSTILE)[name]
    usage = read_usage(json.loads(json.dumps(given_)))
    assert usage is not None
    assert usage.tokens == tokens
    shown = usage.shown
    assert shown["prompt_tokens"] == tokens.input + tokens.cached
    assert shown["completion_tokens"] == tokens.output + tokens.reasoning
    assert shown["total_tokens"] == shown["prompt_tokens"] + shown["completion_tokens"]
    assert shown["reasoning_tokens"] == shown["completion_tokens_details"]["reasoning_tokens"] == tokens.reasoning
    assert shown["prompt_tokens_details"]["cached_tokens"] == tokens.cached


@pytest.mark.parametrize("given_", [None, [], "x", 3, {}, {"total_tokens": 5}, {"usage": {"prompt_tokens": 1}}])
def test_what_is_no_usage_is_none(given_: Any) -> None:
    """Then we count ourselves, and the record says so."""
    assert read_usage(given_) is None


def test_details_that_we_do_not_know_stay() -> None:
    """An engine may count more than we bill."""
    usage = read_usage(
        {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "cost": 3,
            "completion_tokens_details": {"accepted_prediction_tokens": 1},
        }
    )
    assert usage is not None
    assert usage.shown["cost"] == 3
    assert usage.shown["completion_tokens_details"] == {"accepted_prediction_tokens": 1, "reasoning_tokens": 0}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
                "reasoning_tokens",
            ]
        ),
        _JSON,
    )
)
def test_no_usage_breaks_the_account(given_: dict[str, Any]) -> None:
    """Any JSON at all in any place: counts are whole, not negative, bounded, and add up."""
    usage = read_usage(given_)
    if usage is not None:
        tokens = usage.tokens
        for count in (tokens.input, tokens.cached, tokens.output, tokens.reasoning):
            assert type(count) is int and 0 <= count <= MAX_COUNT
        assert usage.shown["total_tokens"] == tokens.input + tokens.cached + tokens.output + tokens.reasoning


@pytest.mark.parametrize(
    "raw", [b'{"prompt_tokens":1e999}', b'{"prompt_tokens":' + b"9" * 5000 + b"}", b'{"prompt_tokens":1,"x":"\xff"}', b'{"prompt_tokens":1,"x":' + DEEP + b"}"]
)  # fmt: skip
def test_usage_that_no_reader_takes_is_none(raw: bytes) -> None:
    """Numbers without end, text that is no text, a thousand levels: no exception passes."""
    assert read_raw_usage(Raw(raw)) is None


def test_our_own_count_has_the_same_shape() -> None:
    """A client sees one shape, whoever counted."""
    ours, theirs = counted_usage(3, 4), read_usage({"prompt_tokens": 3, "completion_tokens": 4})
    assert theirs is not None
    assert ours.shown == theirs.shown
    assert ours.tokens == theirs.tokens


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"{not json",
        b'{"a":\xff}',
        b'{"\xff":1}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":' + DEEP + b"}",
        b"<html>",
    ],
)
def test_a_body_that_is_no_answer_is_none(body: bytes) -> None:
    """Not an object, not UTF-8, not JSON, too deep."""
    assert read_answer(body) is None


def test_what_is_not_ours_to_change_stays_byte_for_byte() -> None:
    """Numbers keep their digits, text its escapes, fields their order."""
    fields = read_answer(b'{ "id":"x", "choices":[{"n":1.50, "s":"\\u00e9"}] ,"model":"up","service_tier":null}')
    assert fields is not None
    assert write_answer(fields, {"model": "public", "usage": {}}) == (
        b'{"id":"x","choices":[{"n":1.50, "s":"\\u00e9"}],"model":"public","service_tier":null,"usage":{}}'
    )


def test_tool_calls_of_a_plain_answer_get_what_clients_need() -> None:
    """Id and type where they lack, arguments always as text; what is sound stays."""
    raw = Raw(
        b'[{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":"\\u00e9"}}},'
        b'{"id":"call_7","type":"function","function":{"name":"g","arguments":"{}"}},{"id":3,"type":null,"function":{"name":"h","arguments":[1]}}]}}]'
    )
    (choice,) = mend_choices(raw, "req_0123456789abcdef0123456789abcdef")
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    first, second, third = choice["message"]["tool_calls"]
    assert first == {
        "function": {"name": "f", "arguments": '{"a":"é"}'},
        "id": "call_89abcdef0123456789abcdef0",
        "type": "function",
    }
    assert second == {"id": "call_7", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    assert (type(third["id"]), third["type"], third["function"]["arguments"]) == (str, "function", "[1]")
    assert len({first["id"], second["id"], third["id"]}) == 3


def test_streamed_tool_calls_get_an_index_in_each_piece_and_a_name_in_the_first() -> None:
    """Only the piece that names the function opens a call; the others continue it."""
    first = {"tool_calls": [{"function": {"name": "f", "arguments": ""}}, {"function": {"name": "g"}}]}
    mend_calls(first, "req_x", streamed=True)
    assert [(c["index"], c["type"], c["id"]) for c in first["tool_calls"]] == [
        (0, "function", "call_req_x0"),
        (1, "function", "call_req_x1"),
    ]
    later: dict[str, Any] = {"tool_calls": [{"index": 1, "function": {"arguments": '{"a"'}}]}
    mend_calls(later, "req_x", streamed=True)
    assert later == {"tool_calls": [{"index": 1, "function": {"arguments": '{"a"'}}]}


@pytest.mark.parametrize(
    "calls",
    [
        None,
        {},
        "x",
        [1, None, "y"],
        [{"function": 3}],
        [{"function": None}],
        [{"index": "0", "function": {"name": ["x"]}}],
        [{"index": True}],
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_calls_of_no_shape_break_nothing(calls: Any, streamed: bool) -> None:
    """The engine's nonsense stays nonsense; we do not fall over it."""
    message = {"tool_calls": calls}
    mend_calls(message, "req_x", streamed=streamed)
    for call in message["tool_calls"] or []:
        if streamed and isinstance(call, dict):
            assert type(call["index"]) is int


@pytest.mark.parametrize("raw", [b"{}", b"null", b'"x"', b"[" + DEEP + b"]"])
def test_choices_that_are_no_list_are_a_fault(raw: bytes) -> None:
    """The caller hears one kind of error."""
    with pytest.raises(msgspec.MsgspecError):
        mend_choices(Raw(raw), "req_x")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b'[{"finish_reason":"length"},{"finish_reason":"stop"}]', "length"), (b"[]", None), (b"{}", None), (b'[{"finish_reason":3}]', None), (b"[3]", None),
     (b'[{"finish_reason":"\xff"}]', None), (b'[{"finish_reason":"stop","x":' + DEEP + b"}]", None), (None, None)],
)  # fmt: skip
def test_the_finish_reason_is_that_of_the_first_choice(raw: bytes | None, reason: str | None) -> None:
    """Or none, of choices that cannot be read."""
    assert finish_of(Raw(raw) if raw is not None else None) == reason


WITHHELD = "The engine refused the request; check its fields against what the model supports."


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (
            b'{"error":{"message":"max_tokens is too large","type":"BadRequestError","param":"max_tokens","code":400}}',
            "max_tokens is too large",
            "max_tokens",
        ),
        (b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}', "too long", None),
        (b'{"error":"model not found"}', "model not found", None),
        (b'{"detail":"not supported"}', "not supported", None),
        (b'{"error":{"code":400,"message":"bad grammar","type":"invalid_request_error"}}', "bad grammar", None),
        (b'{"error":{"message":"x","param":7}}', "x", None),
        (b'{"error":{"message":["x"]}}', WITHHELD, None),
        (b'{"detail":[{"loc":["body"],"msg":"x"}]}', WITHHELD, None),
        (b"", WITHHELD, None),
        (b"<html>502</html>", WITHHELD, None),
        (b'{"error":{"message":"\xff"}}', WITHHELD, None),
        (b'{"error":' + DEEP + b"}", WITHHELD, None),
        (b'{"error":{"message":""}}', WITHHELD, None),
    ],
)
def test_an_engines_error_is_read_in_every_dialect(body: bytes, message: str, param: str | None) -> None:
    """Message and field, wherever this engine puts them."""
    assert fault_of(body) == (message, param)


@pytest.mark.parametrize(
    "text", ["Traceback (most recent call last):", 'File "/srv/x", line 3', "[json.exception.parse_error.101] x", "in server.cpp:12", "/usr/lib/x", "at 0x7f00deadbeef", "vllm/engine.py failed"]
)  # fmt: skip
def test_an_engines_inside_is_not_shown(text: str) -> None:
    """Paths, addresses, stack traces and C++ exceptions stay with the operator."""
    assert fault_of(json.dumps({"error": {"message": f"failed: {text}"}}).encode())[0] == WITHHELD


def test_an_endless_message_is_cut() -> None:
    """A refusal of an engine fits on a screen."""
    message, param = fault_of(json.dumps({"error": {"message": "x" * 10**6, "param": "y" * 10**6}}).encode())
    assert (len(message), len(param or "")) == (1000, 200)
