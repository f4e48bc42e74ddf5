# SPDX-License-Identifier: Apache-2.0
"""Engines and clients that go away in the middle: what was delivered is billed, and nobody is told that it was all."""

import pytest

from beffroi.core.errors import AuthenticationError, Draining
from beffroi.core.price import Tokens
from beffroi.core.record import Intent, Progress, Settlement
from tests.gateway.rig import LAST, PRICE, PUBLIC, UPSTREAM, Rig, chunk, head, stream
from tests.gateway.upstream import judge
from tests.gateway.upstream.dialects import legacy, llamacpp, ollama, vllm
from tests.gateway.upstream.events import CREATED, DONE, event

BASE = {"id": "chatcmpl-7f2a", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}
TWO = {"e0": "vllm", "e1": "vllm"}


def numbers(kind: str, count: int) -> list[bytes]:
    """The role and `count` tokens in the way of an engine."""
    source = {"vllm": vllm, "llamacpp": llamacpp, "ollama": ollama}[kind]().events
    roles = 0 if kind == "ollama" else 1
    return source[:roles] + [source[roles].replace(b'"Le"', b'" %d"' % n) for n in range(1, count + 1)]


@pytest.mark.parametrize("way", ["reset", "close", "no end", "error event", "cut by length"])
@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
def test_after_k_tokens_the_client_has_k_and_pays_for_k(kind: str, way: str) -> None:
    """k from 1 to 50, however the engine goes: exactly k tokens, one error event, no `[DONE]`, k on the bill."""
    for k in range(1, 51):
        rig = Rig(kind)
        run = rig.ask()
        events = numbers(kind, k)
        if way == "close":
            run.feed(head(close=True), *events)
            run.close()
        elif way == "cut by length":
            run.feed(head(length=100_000), *events)
            run.close()
        else:
            run.feed(head(), *map(chunk, events))
            if way == "error event":
                run.feed(chunk(event({"error": {"message": "out of memory", "code": 500}})))
            elif way == "no end":
                run.feed(LAST)
            else:
                run.close(ConnectionResetError())
        judge.cut(run, "".join(f" {n}" for n in range(1, k + 1)))
        record = run.settlement
        assert (record.tokens, record.source) == (Tokens(0, 0, k, 0), "relayed"), k
        assert (record.outcome, record.status, record.attempts) == ("engine_gone", 200, 1)
        assert record.cost.total == k * PRICE.output // 1_000_000
        assert not run.waits and rig.house.endpoints["e0"].busy == 0


@pytest.mark.parametrize(
    "way", ["reset", "before the head", "head only", "role only lost", "500", "503", "429", "error event", "refused"]
)
def test_with_nothing_delivered_another_engine_is_asked(way: str) -> None:
    """The client sees one whole answer; the attempt that came to nothing is settled at zero."""
    rig = Rig(TWO)
    if way == "refused":
        rig.refusing = {"e0"}
        run = rig.ask()
        while rig.book.of(Intent)[-1].attempt == 1:  # which engine comes first is drawn
            run = rig.ask()
    else:
        run = rig.ask()
        if way == "reset":
            run.close(ConnectionResetError())
        elif way == "before the head":
            run.feed(b"HTTP/1.1 2")
            run.close()
        elif way == "head only":
            run.feed(head())
            run.close()
        elif way == "role only lost":
            run.feed(head(), chunk(vllm().events[0])[:50])
            run.close()
        elif way == "error event":
            run.feed(head() + chunk(event({"error": {"message": "queue is full", "code": 503}})))
        else:
            body = b'{"error":{"message":"no"}}'
            run.feed(head(int(way), "application/json", len(body)) + body)
    assert not run.sent and run.waits
    run.feed(stream(vllm().events))
    assert judge.text_of(judge.chunks(run)) == vllm().text
    mine = [r for r in rig.book.of(Settlement) if r.request_id == run.settlement.request_id]
    intents = [r for r in rig.book.of(Intent) if r.request_id == run.settlement.request_id]
    assert [r.attempt for r in mine] == [r.attempt for r in intents] == list(range(1, len(mine) + 1))
    assert all(r.cost.total == 0 and r.tokens == Tokens() for r in mine[:-1])
    assert mine[-1].outcome == "complete" and mine[-1].attempts == len(mine)


def test_a_first_byte_that_was_delivered_is_never_followed_by_another_engine() -> None:
    """Not even the role alone, nor a comment that kept the connection alive."""
    for first in ("role", "comment"):
        rig = Rig(TWO)
        run = rig.ask()
        if first == "role":
            run.feed(head(), chunk(vllm().events[0]))
        else:
            rig.pass_(17)
            assert b": keep-alive\n\n" in run.sent
        run.close(ConnectionResetError())
        assert not run.waits
        error = judge.cut(run, "")
        assert error["code"] == "engine_broken"
        assert run.settlement.tokens == Tokens()


def test_a_comment_in_a_long_silence_leaves_the_role_to_the_first_chunk() -> None:
    """The head has gone, the answer has not begun."""
    for told in (vllm(), ollama(), llamacpp()):
        rig = Rig(told.kind)
        run = rig.ask()
        rig.pass_(17)
        run.feed(stream(told.events))
        judge.whole(run, told, asked=False)


def test_an_engine_that_counted_as_it_went_is_believed() -> None:
    """Running usage, or the usage chunk before a broken end: the exact prompt is known, and billed."""
    growing = [
        event({**BASE, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "" if not n else " x"}, "finish_reason": None}],
               "usage": {"prompt_tokens": 11, "completion_tokens": n, "total_tokens": 11 + n}})
        for n in range(5)
    ]  # fmt: skip
    run = Rig().ask()
    run.feed(head(), *map(chunk, growing))
    run.close(ConnectionResetError())
    judge.cut(run, " x x x x")
    assert (run.settlement.tokens, run.settlement.source) == (Tokens(11, 0, 4, 0), "engine")
    run = Rig().ask()
    run.feed(head(), *map(chunk, vllm().events[:-1]))
    run.close(ConnectionResetError())
    judge.cut(run, vllm().text)
    assert (run.settlement.tokens, run.settlement.source) == (Tokens(7, 4, 6, 0), "engine")


def test_an_engine_that_says_at_once_that_the_request_is_at_fault_is_believed() -> None:
    """As an event with a 4xx code, before anything else: 400, and no other engine is troubled."""
    for said in (
        {"error": {"message": "max_tokens is too large", "code": 400}},
        {"object": "error", "message": "max_tokens is too large", "code": 400},
    ):
        rig = Rig(TWO)
        run = rig.ask()
        run.feed(head() + chunk(event(said)) + chunk(DONE) + LAST)
        assert run.answer.status == 400
        assert run.answer.json["error"]["message"] == "max_tokens is too large"
        assert len(run.requests) == 1
        assert run.settlement.outcome == "engine_refused"


def test_an_error_in_the_middle_is_told_in_the_engines_words_unless_they_show_its_inside() -> None:
    """A sentence passes, a traceback does not."""
    for message, passes in (("the context is full", True), ('File "/usr/lib/vllm/engine.py", line 7', False)):
        for fault in ({"error": {"message": message}}, {"error": message}, {"object": "error", "message": message}):
            run = Rig().ask()
            run.feed(head(), *map(chunk, vllm().events[:3]), chunk(event(fault)))
            error = judge.cut(run, "Le beffroi")
            assert (message in error["message"]) is passes
            assert "vllm/engine" not in run.sent.decode()


def test_a_legacy_stream_breaks_off_in_its_own_shape() -> None:
    """Clients of completions look for `text`."""
    run = Rig("llamacpp").ask({"model": PUBLIC, "prompt": "x", "stream": True}, path="/v1/completions")
    run.feed(head(), *map(chunk, legacy().events[:3]))
    run.close(ConnectionResetError())
    last = judge.chunks(run)[-1]
    assert last["object"] == "text_completion" and last["choices"] == [
        {"index": 0, "text": "", "finish_reason": "error"}
    ]
    assert run.settlement.tokens.output == 3


@pytest.mark.parametrize("k", [0, 1, 7, 50])
def test_a_client_who_leaves_is_billed_for_what_it_was_sent(k: int) -> None:
    """And its engine is let go at once."""
    rig = Rig()
    run = rig.ask()
    run.feed(head(), *map(chunk, numbers("vllm", k)))
    engine = run.engine
    run.leave()
    transport = engine.transport
    assert transport.aborted and rig.house.endpoints["e0"].busy == 0  # type: ignore[attr-defined]
    record = run.settlement
    assert (record.outcome, record.tokens.output) == ("client_gone", k)
    assert record.source == ("relayed" if k else "none")
    assert rig.house.members["e0"].in_flight == 0 and rig.house.members["e0"].failures == 0


def test_a_client_who_leaves_at_any_moment_before_the_first_byte_costs_nothing() -> None:
    """Before the intent, while connecting, while waiting for the head."""
    for at in ("dialling", "waiting"):
        rig = Rig()
        if at == "dialling":
            rig.house.endpoints["e0"].dial = lambda done: None  # type: ignore[method-assign]
        run = rig.ask()
        run.leave()
        assert run.settlement.outcome == "client_gone"
        assert (run.settlement.tokens, run.settlement.cost.total, run.settlement.source) == (Tokens(), 0, "none")
        assert rig.house.members["e0"].in_flight == 0
        assert not rig.house.active


def test_a_slow_reader_pauses_its_engine_and_is_not_late_for_it() -> None:
    """Back-pressure both ways: reading stops, time-outs wait, and it goes on where it stopped."""
    rig = Rig(settings={"between_tokens_timeout": 3.0})
    run = rig.ask()
    run.feed(head(), *map(chunk, numbers("vllm", 3)))
    run.client.pause_writing()
    engine = run.engine.transport
    assert engine.paused  # type: ignore[attr-defined]
    rig.pass_(10)
    assert run.waits, "a paused engine is not late"
    run.client.resume_writing()
    assert not engine.paused  # type: ignore[attr-defined]
    run.feed(*map(chunk, vllm().events[-3:]), LAST)
    assert judge.text_of(judge.chunks(run)) == " 1 2 3"


def test_an_engine_connection_given_back_while_paused_reads_again() -> None:
    """The next exchange must not wait for a resume that nobody sends."""
    rig = Rig()
    run = rig.ask()
    run.feed(head(), chunk(vllm().events[0]))
    engine = run.engine
    run.client.pause_writing()
    run.feed(*map(chunk, vllm().events[1:]), LAST)
    assert not engine.transport.paused  # type: ignore[attr-defined]
    assert rig.house.endpoints["e0"].idle == [engine]


def test_what_is_cut_by_us_is_no_fault_of_the_engine() -> None:
    """A revoked key, a process that stops: told to the client, billed so far, and the engine stays in good health."""
    for error, outcome in (
        (AuthenticationError("This API key was revoked."), "refused"),
        (Draining("stopping"), "drained"),
    ):
        rig = Rig()
        run = rig.ask()
        run.feed(head(), *map(chunk, numbers("vllm", 4)))
        run.client.cut(error)
        rig.loop.turn()
        assert judge.cut(run, " 1 2 3 4")["code"] == error.code
        assert (run.settlement.outcome, run.settlement.tokens.output) == (outcome, 4)
        assert rig.house.members["e0"].failures == 0


def test_progress_is_recorded_once_a_second_with_what_was_relayed() -> None:
    """Should this process die, that much is known."""
    rig = Rig()
    run = rig.ask()
    run.feed(head(), *map(chunk, numbers("vllm", 5)))
    rig.pass_(1)
    run.feed(*map(chunk, numbers("vllm", 2)[1:]))
    rig.pass_(2)
    found = rig.book.of(Progress)
    assert [p.tokens.output for p in found] == [5, 7]
    assert found[-1].cost.output == 7 * PRICE.output // 1_000_000
