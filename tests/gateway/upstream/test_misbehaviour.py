# SPDX-License-Identifier: Apache-2.0
"""Engines that break the rules of their own streams: the client still gets sound events, and pays for what it got."""

from typing import Any

import pytest

from beffroi.core.price import Tokens
from tests.client import chat
from tests.gateway.rig import LAST, PUBLIC, UPSTREAM, Rig, Run, chunk, head, stream
from tests.gateway.upstream import judge
from tests.gateway.upstream.dialects import ALL, vllm
from tests.gateway.upstream.events import CREATED, DONE, PIECES, TEXT, USAGE, Dialect, event

BASE = {"id": "chatcmpl-7f2a", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}


def said(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """One chunk of a chat."""
    return event(
        {**BASE, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}], **more}
    )


ROLE, STOP = said({"role": "assistant", "content": ""}), said({}, "stop")
COUNT = event({**BASE, "choices": [], "usage": USAGE})
WORDS = [said({"content": piece}) for piece in PIECES]


def served(events: list[bytes], kind: str = "vllm", **more: Any) -> Run:
    """An answer of those events, each in a read of its own, to a chat that streams."""
    run = Rig(kind).ask(**more)
    run.feed(head(), *map(chunk, events), LAST)
    return run


def at_once(events: list[bytes], kind: str = "vllm", **more: Any) -> Run:
    """The same in one read."""
    run = Rig(kind).ask(**more)
    run.feed(stream(events))
    return run


BOTH = pytest.mark.parametrize("answer", [served, at_once], ids=["event by event", "at once"])


@BOTH
@pytest.mark.parametrize("asked", [False, True])
def test_without_done_the_reason_to_end_is_the_end(answer: Any, asked: bool) -> None:
    """Some engines forget `[DONE]`."""
    judge.whole(answer([ROLE, *WORDS, STOP, COUNT], usage=asked), Dialect("vllm", []), asked=asked)


@BOTH
def test_without_a_reason_done_is_the_end(answer: Any) -> None:
    """Clients cannot do without a reason: `stop` is the best guess for an answer that is whole."""
    judge.whole(answer([ROLE, *WORDS, COUNT, DONE]), Dialect("vllm", []), asked=False)


@BOTH
@pytest.mark.parametrize("asked", [False, True])
def test_usage_that_never_comes_is_counted_and_shown_as_billed(answer: Any, asked: bool) -> None:
    """A token for each event with text; of the prompt nothing, for nothing is known of this model yet."""
    run = answer([ROLE, *WORDS, STOP, DONE], usage=asked)
    usage = judge.chunks(run)[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 6, 6)
    assert (run.settlement.tokens, run.settlement.source) == (Tokens(0, 0, 6, 0), "relayed")
    assert run.settlement.cost.total == 6 * 4000


def test_usage_that_never_comes_is_low_once_the_model_is_known() -> None:
    """The prompt is billed at the lowest ratio seen, and the client is shown the same number."""
    rig = Rig("vllm")
    first = rig.ask()
    first.feed(stream([ROLE, *WORDS, STOP, COUNT, DONE]))
    second = rig.ask()
    second.feed(stream([ROLE, *WORDS, STOP, DONE]))
    shown = judge.chunks(second)[-1]["usage"]["prompt_tokens"]
    assert shown == second.settlement.tokens.input == 11


@BOTH
def test_zero_usage_is_billed_as_zero(answer: Any) -> None:
    """An engine's own word stands, also when it is nothing."""
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    run = answer([ROLE, *WORDS, STOP, event({**BASE, "choices": [], "usage": zero}), DONE])
    assert judge.chunks(run)[-1]["usage"]["completion_tokens"] == 0
    assert (run.settlement.tokens, run.settlement.source, run.settlement.cost.total) == (Tokens(), "engine", 0)


@BOTH
def test_the_last_usage_is_the_one_that_counts(answer: Any) -> None:
    """Twice, the second right; in the last chunk that has choices; on every chunk as it grows."""
    wrong = event({**BASE, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    judge.whole(answer([ROLE, *WORDS, STOP, wrong, COUNT, DONE]), Dialect("vllm", []), asked=False)
    judge.whole(answer([ROLE, *WORDS, said({}, "stop", usage=USAGE), DONE]), Dialect("vllm", []), asked=False)
    growing = [
        said({"content": piece}, usage={"prompt_tokens": 11, "completion_tokens": number, "total_tokens": 11 + number})
        for number, piece in enumerate(PIECES, 1)
    ]
    none = {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}
    role = said({"role": "assistant", "content": ""}, usage=none)
    judge.whole(answer([role, *growing, STOP, DONE]), Dialect("vllm", []), asked=False)


def test_nonsense_in_usage_is_no_usage() -> None:
    """Text, negative counts, fractions, more cached than there are: bounded, and it adds up."""
    for usage in (
        {"prompt_tokens": "11", "completion_tokens": -6},
        {"prompt_tokens": 1.5, "completion_tokens": True},
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 50}},
        {"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 50}},
        {"prompt_tokens": 10**30, "completion_tokens": 2},
    ):
        run = served([ROLE, *WORDS, STOP, event({**BASE, "choices": [], "usage": usage}), DONE])
        shown, tokens = judge.chunks(run)[-1]["usage"], run.settlement.tokens
        assert shown["prompt_tokens"] == tokens.input + tokens.cached <= 5
        assert shown["completion_tokens"] == tokens.output + tokens.reasoning <= 2
        assert shown["total_tokens"] == shown["prompt_tokens"] + shown["completion_tokens"]
        assert min(tokens.input, tokens.cached, tokens.output, tokens.reasoning) >= 0
    for junk in ([], "many", 7, {"tokens": 3}):
        run = served([ROLE, *WORDS, STOP, event({**BASE, "choices": [], "usage": junk}), DONE])
        assert run.settlement.source == "relayed"


@BOTH
def test_what_follows_the_reason_to_end_stands_before_it(answer: Any) -> None:
    """Text after the end is not lost, the reason stays last, and is said once."""
    late = [said({"content": " late"}), said({}), said({"content": ""}, "stop"), COUNT, DONE]
    told = Dialect("vllm", [], text=TEXT + " late")
    judge.whole(answer([ROLE, *WORDS, STOP, *late]), told, asked=False)


@BOTH
def test_nothing_counts_after_done(answer: Any) -> None:
    """Nor is anything of it passed on."""
    judge.whole(
        answer([ROLE, *WORDS, STOP, COUNT, DONE, said({"content": "ghost"}), DONE]), Dialect("vllm", []), asked=False
    )


def test_half_a_character_is_never_passed_on() -> None:
    """Clients' readers die of it: the stream ends with an error event, on the fast way and on the slow one."""
    half = said({"content": "é"}).replace("é".encode(), b"\xc3")
    for kind in ("vllm", "ollama"):
        run = Rig(kind).ask()
        run.feed(head(), *map(chunk, [ROLE, *WORDS[:2], half]))
        judge.cut(run, "Le beffroi")
        assert not run.waits
    run = Rig().ask()
    run.feed(head() + chunk(ROLE), b"".join(map(chunk, [WORDS[0], half, WORDS[1]])))
    assert b'\xc3"' not in run.sent
    assert b"[DONE]" not in run.sent


@pytest.mark.parametrize(
    "junk",
    [
        b"data: {not json\n\n",
        b"data: [1]\n\n",
        b'data: "text"\n\n',
        b'data: {"choices": [5]}\n\n',
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_an_event_that_is_no_chunk_ends_the_stream(junk: bytes) -> None:
    """As an error event where something was delivered, as another try where nothing was."""
    run = Rig().ask()
    run.feed(head(), *map(chunk, [ROLE, *WORDS[:3], junk]))
    error = judge.cut(run, "".join(PIECES[:3]))
    assert error["code"] == "engine_broken"
    assert run.settlement.tokens.output == 3
    run = Rig({"e0": "vllm", "e1": "vllm"}).ask()
    run.feed(head() + chunk(junk))
    assert run.waits and not run.sent, "nothing was delivered: another engine is asked"


@pytest.mark.parametrize(
    "noise",
    [
        b"<html>no event</html>\n\n",
        b": comment\n\n",
        b"retry: 5\n\n",
        b"event: ping\n\n",
        b"data: null\n\n",
        b"\n\n",
        b"data:\n\n",
    ],
)
@BOTH
def test_what_is_no_data_is_not_passed_on_and_not_counted(answer: Any, noise: bytes) -> None:
    """At the start, in the middle and at the end."""
    events = [noise, ROLE, noise, *WORDS[:3], noise, noise, *WORDS[3:], noise, STOP, noise, COUNT, noise, DONE, noise]
    judge.whole(answer(events), Dialect("vllm", []), asked=False)
    run = Rig().ask()
    run.feed(head(), *map(chunk, [noise, ROLE, *WORDS[:3], noise, noise]))
    run.close(ConnectionResetError())
    judge.cut(run, "".join(PIECES[:3]))
    assert run.settlement.tokens.output == 3


def test_done_alone_is_no_answer() -> None:
    """Nothing was said: another engine is asked."""
    for events in ([DONE], [b": hello\n\n", DONE], []):
        run = Rig({"e0": "vllm", "e1": "vllm"}).ask()
        run.feed(stream(events))
        assert run.waits and not run.sent


def test_a_stream_that_is_whole_is_whole_however_its_connection_ends() -> None:
    """`[DONE]` has come: a reset after it, or a framing that never ends, takes nothing away."""
    told = vllm()
    run = Rig().ask()
    run.feed(head(), *map(chunk, told.events))
    run.close(ConnectionResetError())
    judge.whole(run, told, asked=False)
    rig = Rig()
    run = rig.ask()
    run.feed(head(), *map(chunk, told.events))
    assert not run.over
    rig.pass_(4)
    judge.whole(run, told, asked=False)


def test_dialects_are_recognised_also_when_the_operator_did_not_name_them() -> None:
    """`kind: openai` promises nothing: what comes is looked at."""
    for name, told in ALL.items():
        if told.tools or "/chat/" not in told.path:
            continue
        run = Rig("openai").ask()
        run.feed(head(), *map(chunk, told.events), LAST)
        found = judge.chunks(run)
        assert judge.text_of(found) == told.text, name
        assert len({c["created"] for c in found}) == 1
        assert sum(bool(c["choices"] and c["choices"][0]["delta"].get("role")) for c in found) == 1


def test_a_client_who_did_not_ask_never_sees_the_engines_usage_chunk() -> None:
    """And the engine is always asked for it."""
    rig = Rig()
    for body in (
        chat(model=PUBLIC, stream=True, usage=False),
        chat(model=PUBLIC, stream=True, usage=False, stream_options={"include_usage": False}),
    ):
        run = rig.ask(body)
        assert run.upstream["stream_options"] == {"include_usage": True}
        run.feed(stream(vllm().events))
        judge.whole(run, vllm(), asked=False)
