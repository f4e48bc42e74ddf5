# SPDX-License-Identifier: Apache-2.0
"""Embeddings: one call for most engines, one text at a time for those whose texts change each other's vectors."""

import base64
import struct
from typing import Any

import pytest

from beffroi.core.price import Tokens
from tests.client import chat
from tests.gateway.rig import PUBLIC, UPSTREAM, Rig, Run, plain

TWO = {"e0": "vllm", "e1": "vllm"}
CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Ding"}, "finish_reason": "stop"}]}


def embed(rig: Rig, given: Any, **more: Any) -> Run:
    """An embeddings call."""
    return rig.ask({"model": PUBLIC, "input": given, **more}, path="/v1/embeddings")


def row(number: int, vector: Any) -> dict[str, Any]:
    """One row of an answer."""
    return {"object": "embedding", "index": number, "embedding": vector}


@pytest.mark.parametrize("given", ["text", ["one"], ["one", "two"], [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_go_to_the_engine_as_they_came(given: Any) -> None:
    """One call, whatever the input is; base64 passes as it comes."""
    run = embed(Rig("vllm"), given, encoding_format="base64", dimensions=8)
    assert run.upstream == {"model": UPSTREAM, "input": given, "encoding_format": "base64", "dimensions": 8}
    vector = base64.b64encode(struct.pack("<2f", 0.5, 0.25)).decode()
    run.feed(
        plain(
            {
                "object": "list",
                "data": [row(0, vector)],
                "model": UPSTREAM,
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            }
        )
    )
    got = run.answer.json
    assert got["data"] == [row(0, vector)]
    assert (got["model"], got["usage"]["prompt_tokens"], got["usage"]["total_tokens"]) == (PUBLIC, 4, 4)
    assert run.settlement.tokens == Tokens(4, 0, 0, 0)


def test_llamacpp_is_asked_for_one_text_at_a_time() -> None:
    """The vectors of one call would change each other; the joined answer is in order, its usage the sum."""
    for given in (["a", "b", "c"], [[1, 2], [3], [4]]):
        rig = Rig("llamacpp")
        run = embed(rig, given, encoding_format="float")
        for number, one in enumerate(given):
            assert run.upstream == {"model": UPSTREAM, "input": one, "encoding_format": "float"}
            run.feed(
                plain(
                    {
                        "data": [row(0, [number, 0.5])],
                        "usage": {"prompt_tokens": number + 1, "total_tokens": number + 1},
                    }
                )
            )
        got = run.answer.json
        assert got["data"] == [row(number, [number, 0.5]) for number in range(3)]
        assert got["usage"]["prompt_tokens"] == 6 == run.settlement.tokens.input
        assert got["object"] == "list" and got["model"] == PUBLIC and got["backend"]["engine_type"] == "llamacpp"
        assert run.settlement.attempts == 1 and len(rig.dialled) == 1, "one connection, one attempt"
    run = embed(Rig("llamacpp"), [1, 2, 3])
    assert run.upstream["input"] == [1, 2, 3], "tokens are one text"


@pytest.mark.parametrize(
    "bad", [{"data": []}, {"data": [row(0, [1]), row(1, [2])]}, {"data": 5}, {"data": [5]}, b"{", {"choices": []}]
)
def test_one_bad_vector_among_several_fails_the_attempt(bad: Any) -> None:
    """The whole call is tried on another engine, from the first text."""
    rig = Rig({"e0": "llamacpp", "e1": "llamacpp"})
    run = embed(rig, ["a", "b"])
    run.feed(plain({"data": [row(0, [1])]}))
    run.feed(plain(bad))
    assert run.waits and run.upstream["input"] == "a"
    run.feed(plain({"data": [row(0, [1])]}))
    run.feed(plain({"data": [row(0, [2])]}))
    assert [r["embedding"] for r in run.answer.json["data"]] == [[1], [2]]


def test_an_answer_of_the_other_kind_is_no_answer() -> None:
    """Choices to an embeddings call, vectors to a chat."""
    run = embed(Rig(TWO), "x")
    run.feed(plain(CHAT))
    assert run.waits and not run.sent
    run = Rig(TWO).ask(chat("hello", model=PUBLIC))
    run.feed(plain({"object": "list", "data": [row(0, [1])], "usage": {"prompt_tokens": 1}}))
    assert run.waits and not run.sent
