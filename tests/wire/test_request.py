# SPDX-License-Identifier: Apache-2.0
"""Requests of the OpenAI family: what is accepted, and that a refusal names the field and what it may be."""

import json
from typing import Any

import msgspec
import pytest

from beffroi.core.errors import BadRequest
from beffroi.wire.openai.request import Request, edited, parse, refuse
from beffroi.wire.openai.structure import top_level

ASK = [{"role": "user", "content": "hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
Json = dict[str, Any]


def read(endpoint: str, body: Json | bytes) -> Request:
    """As the gateway reads a body whose structure is sound."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        fields = top_level(data)
    except msgspec.MsgspecError as why:
        refuse(why)
    return parse(endpoint, data, fields)


def chat(**more: Any) -> Request:
    """A chat request with some fields set; `...` leaves one out."""
    body = {"model": "m", "messages": ASK, **more}
    return read("chat", {name: value for name, value in body.items() if value is not ...})


def refused(endpoint: str, body: Json | bytes) -> BadRequest:
    """The refusal of a body."""
    with pytest.raises(BadRequest) as why:
        read(endpoint, body)
    assert (why.value.status, why.value.code, why.value.closes) == (400, None, False)
    assert why.value.message.endswith(".")
    return why.value


# field, wrong value, what the message must say
WRONG: list[tuple[str, Any, str]] = [
    ("model", 3, "str"), ("model", None, "str"), ("model", "", "empty"), ("model", ["m"], "str"),
    ("messages", "hello", "array"), ("messages", None, "array"), ("messages", [], ">= 1"), ("messages", {}, "array"),
    ("temperature", "hot", "float"), ("temperature", True, "float"), ("temperature", 2.1, "<= 2"), ("temperature", -0.1, ">= 0"),
    ("top_p", {}, "float"), ("top_p", 1.5, "<= 1"), ("top_p", -1, ">= 0"),
    ("n", "two", "int"), ("n", 0, ">= 1"), ("n", -1, ">= 1"), ("n", 100_000, "<= 128"), ("n", 1.5, "int"), ("n", True, "int"),
    ("max_tokens", "many", "int"), ("max_tokens", 1.5, "int"), ("max_tokens", [1], "int"), ("max_tokens", 0, ">= 1"),
    ("max_tokens", -5, ">= 1"), ("max_tokens", 10**10, "<= 1000000000"), ("max_tokens", 10**30, "int"), ("max_tokens", False, "int"),
    ("max_completion_tokens", 0, ">= 1"), ("max_completion_tokens", "1", "int"),
    ("presence_penalty", 2.5, "<= 2"), ("presence_penalty", -3, ">= -2"), ("presence_penalty", "x", "float"),
    ("frequency_penalty", -3, ">= -2"), ("frequency_penalty", 2.01, "<= 2"), ("frequency_penalty", [], "float"),
    ("stream", "true", "bool"), ("stream", 1, "bool"), ("stream_options", 3, "object"), ("stream_options", [], "object"),
    ("stop", 3, "str | array"), ("stop", {}, "str | array"), ("user", 3, "str"),
    ("tools", {}, "array"), ("tools", "f", "array"), ("tool_choice", "perhaps", "none, auto, required"), ("tool_choice", 3, "str | object"),
    ("response_format", "json", "object"), ("response_format", [], "object"),
]  # fmt: skip
INSIDE: list[tuple[str, Any, str]] = [
    ("messages", [1], "messages[0]"), ("messages", [*ASK, {}], "messages[1].role"), ("messages", [{"role": "king"}], "messages[0].role"),
    ("messages", [{"role": None, "content": "x"}], "messages[0].role"), ("messages", [{"role": "user", "content": 3}], "messages[0].content"),
    ("messages", [{"role": "user"}], "messages[0].content"), ("messages", [{"role": "tool", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "nope"}]}], "messages[0].content[0].type"),
    ("messages", [{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ("messages", [{"role": "user", "content": [{"type": "text", "text": 3}]}], "messages[0].content[0].text"),
    ("tools", [1], "tools[0]"), ("tools", [{"type": "function"}], "tools[0].function"), ("tools", [TOOL, {"type": 1}], "tools[1].type"),
    ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
    ("tool_choice", {}, "tool_choice.type"), ("response_format", {}, "response_format.type"), ("response_format", {"type": 1}, "response_format.type"),
    ("stop", ["a", 1], "stop[1]"), ("stream_options", {"include_usage": "yes"}, "stream_options.include_usage"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
def test_a_wrong_field_is_named_with_what_it_may_be(name: str, value: Any, says: str) -> None:
    """The type, the bound or the words that are accepted stand in the message, the field in `param`."""
    why = refused("chat", {"model": "m", "messages": ASK, name: value})
    assert why.param == name
    assert says in why.message
    assert f"'{name}'" in why.message


@pytest.mark.parametrize(("name", "value", "param"), INSIDE)
def test_a_fault_inside_a_field_is_named_with_its_place(name: str, value: Any, param: str) -> None:
    """Which message, which part, which tool."""
    why = refused("chat", {"model": "m", "messages": ASK, name: value})
    assert why.param == param
    assert f"'{param}'" in why.message


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        ("chat", {"messages": ASK}, "model"),
        ("chat", {"model": "m"}, "messages"),
        ("completions", {"model": "m"}, "prompt"),
        ("completions", {"model": "m", "prompt": None}, "prompt"),
        ("embeddings", {"model": "m"}, "input"),
        ("embeddings", {"input": "x"}, "model"),
    ],
)
def test_what_must_be_there_is_asked_for(endpoint: str, body: Json, param: str) -> None:
    """A missing field is named as missing."""
    assert refused(endpoint, body).param == param


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"model":"m"', b"{}x", b"{} {}", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":01}', b"{'a':1}", b'{"a":1,}', b"\xef\xbb\xbf{}",
     b'{"a":"\x00"}', b'{"a":"\n"}', rb'{"a":"\x"}', rb'{"a":"\ud800"}', rb'{"model":"\udc00\ud800"}', b'{"a":tru}', b'{1:2}'],
)  # fmt: skip
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    """Every way of being no JSON gives 400 without `param`; nothing of ours breaks."""
    why = refused("chat", body)
    assert why.param is None
    assert "JSON" in why.message


@pytest.mark.parametrize("body", [b"[]", b"[1]", b'"x"', b"3", b"null", b"true", b"-1.5"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    """An API call is one object."""
    assert "must be a JSON object" in refused("chat", body).message


def test_numbers_that_do_not_fit_are_refused_or_pass_untouched() -> None:
    """5,000 digits in a field that is read: 400. In one that is not: the engine may judge."""
    for digits in ("9" * 30, "9" * 5000, "-" + "9" * 5000):
        assert (
            refused(
                "chat", b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":%b}' % digits.encode()
            ).param
            == "max_tokens"
        )
        passed = read("chat", b'{"model":"m","messages":[{"role":"user","content":"x"}],"x_seed":%b}' % digits.encode())
        assert edited(passed.fields, {"model": "n"}).count(digits.encode()) == 1


def test_null_means_absent() -> None:
    """Clients send null for what they do not set."""
    names = [field.name for field in msgspec.structs.fields(type(chat()))]
    assert "max_tokens" in names
    optional = ("temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "stop", "stream",
                "stream_options", "tools", "tool_choice", "response_format", "user", "seed", "logit_bias", "logprobs")  # fmt: skip
    request = chat(**dict.fromkeys(optional))
    assert (request.n, request.max_tokens, request.stream, request.has_tools, request.user) == (
        1,
        None,
        False,
        False,
        None,
    )


def test_unknown_fields_pass() -> None:
    """What we do not know is the engine's affair, and stays byte for byte."""
    body = b'{"model":"m","messages":[{"role":"user","content":"x","name":"ann"}],"x_probe":{"a" : [1.50,  "\\u00e9"]},"store":false,"guided_choice":["a"]}'
    request = read("chat", body)
    assert b'"x_probe":{"a" : [1.50,  "\\u00e9"]}' in edited(request.fields, {"model": "other"})


HISTORIES = {
    "every role": [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant", "tool", "function")],
    "assistant with null": [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "18", "tool_call_id": "call_1"}],
    "assistant without content": [*ASK, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "18", "tool_call_id": "call_1"}],
    "parts for every role": [{"role": role, "content": [{"type": "text", "text": "x"}]} for role in ("system", "user", "assistant", "tool")],
    "empty text": [{"role": "user", "content": ""}],
    "no parts": [{"role": "user", "content": []}],
    "refusal part": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
    "named": [{"role": "user", "content": "x", "name": "ann"}],
    "reasoning": [{"role": "assistant", "content": "x", "reasoning_content": "y"}],
    "audio answer": [{"role": "assistant", "content": None, "audio": {"id": "a"}}],
    "function call": [{"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": "1"}],
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_every_shape_of_history_that_clients_send_is_read(name: str) -> None:
    """Null, absent and listed contents; every role of the family."""
    chat(messages=HISTORIES[name])


def test_texts_and_media_are_told_apart() -> None:
    """The guard reads texts with their role, the budget counts what is none."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    request = chat(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, image, sound, {"type": "text", "text": "c"}]},
        ]
    )
    assert request.texts == [("system", "a"), ("user", "b"), ("user", "c")]
    assert request.media == 2


@pytest.mark.parametrize("choice", ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}, None])
def test_tool_choices_of_the_family_are_read(choice: Any) -> None:
    """Words and named tools."""
    assert chat(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False).has_tools


def test_tools_of_other_types_pass() -> None:
    """Only what claims to be a function must be one."""
    assert chat(tools=[{"type": "web_search"}, {"type": "custom", "custom": {"name": "x"}}]).has_tools
    assert not chat(tools=[]).has_tools


def test_the_bound_on_the_answer_is_the_greater_of_the_two_names() -> None:
    """Which name an engine obeys is its own affair: what is reserved must cover either."""
    assert chat(max_tokens=5).max_tokens == 5
    assert chat(max_completion_tokens=6).max_tokens == 6
    assert chat(max_completion_tokens=1, max_tokens=1000).max_tokens == 1000
    assert chat(max_completion_tokens=1000, max_tokens=1).max_tokens == 1000


def test_copies_are_all_counted() -> None:
    """`n`, `best_of` and the prompts of a batch multiply what may be generated."""
    assert chat(n=3).n == 3
    ask = {"model": "m", "n": 2, "best_of": 4}
    assert read("completions", {**ask, "prompt": "x"}).n == 4
    assert read("completions", {**ask, "prompt": ["x", "y", "z"]}).n == 12
    assert read("completions", {**ask, "prompt": [1, 2, 3]}).n == 4
    assert read("completions", {**ask, "prompt": [[1, 2], [3]]}).n == 8


@pytest.mark.parametrize("prompt", [[], {}, 3, [None], ["a", 1], [[]], [-1], [True], [1.5], [[1], "a"], [["a"]]])
def test_prompts_of_no_known_shape_are_refused(prompt: Any) -> None:
    """A text, texts, tokens, or lists of tokens; nothing else, no mixture."""
    assert refused("completions", {"model": "m", "prompt": prompt}).param == "prompt"


@pytest.mark.parametrize(
    ("given", "count"),
    [("x", 1), (["x"], 1), (["x", "y"], 2), (["", "y"], 2), ([1, 2], 1), ([[1, 2], [3]], 2), (["x"] * 2048, 2048)],
)
def test_inputs_of_embeddings_are_counted(given: Any, count: int) -> None:
    """How many texts there are, in every shape of the family."""
    assert (
        read("embeddings", {"model": "m", "input": given, "encoding_format": "base64", "dimensions": 256}).inputs
        == count
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("input", v) for v in ("", [], None, {}, 3, [None], ["a", 1], [[]], [""], [-1], [True], ["x"] * 2049)]
    + [("encoding_format", "int8"), ("dimensions", 0), ("dimensions", 1.5), ("dimensions", 10**6), ("user", 1)],
)
def test_embeddings_that_cannot_be_made_are_refused(name: str, value: Any) -> None:
    """The field at fault is named."""
    assert (refused("embeddings", {"model": "m", "input": "x", name: value}).param or "").startswith(name)


def test_completions_with_messages_are_chat() -> None:
    """The reference service documents messages there; with a prompt it stays a completion."""
    assert read("completions", {"model": "m", "messages": ASK}).endpoint == "chat"
    assert read("completions", {"model": "m", "messages": ASK, "prompt": "x"}).endpoint == "completions"


def test_an_edit_changes_nothing_else() -> None:
    """The other fields keep their bytes and their order; None takes a field out."""
    request = read(
        "chat", b'{"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}], "model":"m",  "stop": null,"seed":1.0}'
    )
    assert edited(request.fields, {"model": "n", "stop": None, "stream": True}) == (
        b'{"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}],"model":"n","seed":1.0,"stream":true}'
    )


def test_a_refusal_is_short_whatever_was_sent() -> None:
    """A megabyte in the wrong place does not come back."""
    for body in (
        {"model": "m", "messages": [{"role": "k" * 10**6, "content": "x"}]},
        {"model": "m", "messages": ASK, "x" * 10**5: 1, "n": "y" * 10**6},
    ):
        assert len(refused("chat", body).message) < 400
