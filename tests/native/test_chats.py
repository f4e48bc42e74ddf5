# SPDX-License-Identifier: Apache-2.0
"""A chat request's fields, with the kernel and without: what the kernel takes, its twin reads as the same request."""

import json
import random
from typing import Any

import msgspec
import pytest

from beffroi.core.errors import BadRequest
from beffroi.core.kernel import Kernel
from beffroi.gateway.guard.structure import Structure
from beffroi.wire.openai import structure
from beffroi.wire.openai.request import Request, glance, parse, refuse
from tests.native.conftest import CASES

DEPTH, TOKENS = 16, 5000
TEXTS = (
    "",
    "hello",
    "Grüße, 🏰",
    'a "quote" \\ and / more',
    "\n\t",
    "\u0000",
    "\u2028",
    "\ud800",
    "\udc00\ud800",
    "a\\u0041",
    "x" * 300,
)
NUMBERS = (
    0,
    1,
    2,
    -1,
    -2,
    128,
    129,
    0.5,
    2.0,
    2.000000000000001,
    -2.5,
    1e-9,
    1e300,
    1_000_000_000,
    1_000_000_001,
    10**20,
    2**31,
    2**32 + 1,  # one, to whoever keeps but half of it
    2**64 + 1,
    10**14 + 1,
    True,
)
ANYTHING = (None, True, False, "x", "", [], {}, [1, [2, {"a": None}]], {"a": {"b": [0]}}, *NUMBERS)
FIELDS = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p",
    "presence_penalty", "frequency_penalty", "stop", "user", "seed", "logit_bias", "logprobs", "metadata", "tools", "tool_choice",
    "response_format", "prompt", "best_of", "n_predict", "Model", "ſtream", "top_k", "", "x\ty",
)  # fmt: skip


def twin(body: bytes) -> Request:
    """What `gateway/read.py` does with a body that is not plain."""
    for _ in structure.whole([body], DEPTH, TOKENS):
        pass
    try:
        fields = structure.top_level(body)
    except msgspec.MsgspecError as why:
        refuse(why)
    structure.check_case(fields)
    if not structure.is_single(body, fields):
        for _ in structure.check_keys(body, fields):
            pass
    return parse("chat", body, fields)


def same(body: bytes) -> bool:
    """Compare where the kernel takes a body; whether it does."""
    found = glance("chat", body, DEPTH, TOKENS)
    if found is None:
        return False
    try:
        wanted = twin(body)
    except BadRequest as why:
        raise AssertionError(f"taken, and not sound ({why.message}): {body!r}") from why
    for slot in ("endpoint", "model", "stream", "asked_usage", "n", "max_tokens", "media", "inputs", "has_tools", "user", "body", "texts"):  # fmt: skip
        assert getattr(found, slot) == getattr(wanted, slot), (slot, body)
    assert not (found.bland and Structure({}).suspects(body)), body
    assert list(found.names) == list(wanted.names), body
    assert {name: bytes(raw) for name, raw in found.fields.items()} == {
        name: bytes(raw) for name, raw in wanted.fields.items()
    }
    return True


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}


@pytest.mark.parametrize(
    "sent",
    [
        chat(),
        chat(stream=True, stream_options={"include_usage": True}),
        chat(stream=False, stream_options=None, max_tokens=5, max_completion_tokens=9, n=3, user="u"),
        chat(temperature=0.7, top_p=1, presence_penalty=-2, frequency_penalty=1.25, stop=["a", "b"], seed=1),
        chat(messages=[{"role": "system", "content": "é"}, {"role": "assistant", "content": None}, {"role": "tool", "content": "1"}]),
        chat(messages=[{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}], metadata={"a": "b"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
def test_plain_requests_are_taken(kernel: Kernel, sent: dict[str, Any], spaces: tuple[str, str]) -> None:
    """And are what the twin reads, in any spacing, escaped or not."""
    for ascii_ in (True, False):
        body = json.dumps(sent, separators=spaces, ensure_ascii=ascii_).encode()
        assert same(body)
        assert same(b" \r\n" + body + b"\t\n")


@pytest.mark.parametrize(
    "sent",
    [
        chat(tools=[{"type": "function", "function": {"name": "f"}}]),
        chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
        chat(response_format={"type": "json_object"}),
        chat(n_predict=5),
        chat(Model="m"),
        chat(model=""),
        chat(n=0),
        chat(n=129),
        chat(n=2**32 + 1),
        chat(n=2**64 + 1),
        chat(temperature=2.5),
        chat(max_tokens=0),
        chat(messages=[]),
        chat(messages=[{"role": "user"}]),
        chat(messages=[{"role": "robot", "content": "a"}]),
        {"messages": [{"role": "user", "content": "a"}]},
        {"model": "m"},
    ],
)
def test_what_is_not_plain_is_left_to_the_twin(kernel: Kernel, sent: dict[str, Any]) -> None:
    """Rich requests and wrong ones alike."""
    assert kernel.glance_chat(json.dumps(sent).encode(), DEPTH) is None


def test_a_key_that_repeats_is_left_to_the_twin(kernel: Kernel) -> None:
    """Which refuses it where two readers could differ."""
    body = json.dumps(chat(stream=False)).encode()
    assert kernel.glance_chat(body, DEPTH) is not None
    for again in (b'"stream":true', b'"model":"x"', b'"seed":1,"seed":2', b'"\\u006dodel":"x"'):
        assert kernel.glance_chat(body[:-1] + b"," + again + b"}", DEPTH) is None


def test_depth_is_counted_as_the_setting_says(kernel: Kernel) -> None:
    """One level more is left to the twin, which refuses it."""
    for levels in range(1, 80):
        body = b'{"model":"m","messages":[{"role":"user","content":"a"}],"metadata":%b1%b}' % (
            b"[" * levels,
            b"]" * levels,
        )
        assert (kernel.glance_chat(body, DEPTH) is not None) is (levels < DEPTH)
        assert (kernel.glance_chat(body, 1000) is not None) is (levels < 64)


def test_what_is_sent_as_text_arrives_as_text(kernel: Kernel) -> None:
    """Bytes that are not UTF-8, and control characters, are no JSON."""
    for bad in (
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\x00",
        b"\x1f",
        b"\\x",
        b"\\ud800",
        b"\\udc00",
        b"\\ud800\\u0041",
        b"\\u12g4",
        b"\\",
    ):
        for filling in range(10):
            body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"a" * filling + bad)
            assert kernel.glance_chat(body, DEPTH) is None


@pytest.mark.timeout(0)
def test_changed_requests_are_the_same_or_left_to_the_twin(kernel: Kernel) -> None:
    """Random fields with random values, then a few bytes changed."""
    taken = 0
    for case in range(CASES):
        rng = random.Random(case)
        sent = {} if rng.random() < 0.02 else chat()
        for _ in range(rng.randrange(5)):
            sent[rng.choice(FIELDS)] = rng.choice(
                (*ANYTHING, *TEXTS, {"include_usage": rng.choice(ANYTHING)}, [rng.choice(TEXTS)])
            )
        if rng.random() < 0.5:
            message = {
                "role": rng.choice(("user", "assistant", "tool", "robot")),
                "content": rng.choice((*TEXTS, None, [])),
            }
            if rng.random() < 0.3:
                message[rng.choice(("name", "role ", "tool_calls", "content"))] = rng.choice(ANYTHING)
            sent["messages"] = [message] * rng.randrange(1, 3)
        text = json.dumps(sent, separators=rng.choice(((",", ":"), (", ", ": "))), ensure_ascii=rng.random() < 0.5)
        body = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            at = rng.randrange(len(body) + 1)
            body[at : at + rng.randrange(3)] = rng.choice((b"", b'"', b"\\", b"{", b"}", b"[", b",", b":", b"1", b"e", b".", b"-", b"0", b" ", b"\xc3", b"\xe9", b"\x07", b"nul", b"null", b"true"))  # fmt: skip
        taken += same(bytes(body))
    assert taken > CASES // 10
