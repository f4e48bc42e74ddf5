# SPDX-License-Identifier: Apache-2.0
"""Attempts on engines: how many, on which, how long each may take, and what never gets a second one."""

from typing import Any

import pytest
from msgspec.structs import replace

from beffroi.core.record import Intent, Settlement
from tests.client import chat
from tests.gateway.rig import LAST, PUBLIC, Rig, Run, chunk, head, plain, stream
from tests.gateway.upstream import judge
from tests.gateway.upstream.dialects import vllm

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Ding"}, "finish_reason": "stop"}]}
BROKEN = plain({"error": {"message": "no"}}, 500)


def engines(count: int) -> dict[str, str]:
    """That many engines."""
    return {f"e{n}": "vllm" for n in range(count)}


def whole(rig: Rig, **more: Any) -> Run:
    """A request whose answer comes whole."""
    return rig.ask(chat("hello", model=PUBLIC, **more))


def fail(run: Run) -> None:
    """Every engine that is asked answers 500."""
    while run.waits:
        run.feed(BROKEN)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_request_is_tried_three_times_at_most(streamed: bool) -> None:
    """On three different engines where there are three; each attempt has its intent and its settlement."""
    rig = Rig(engines(5))
    run = rig.ask(stream=streamed)
    fail(run)
    asked = [name for name, _ in run.requests]
    assert len(asked) == 3 == len(set(asked))
    assert run.answer.status == 502
    assert run.answer.get("retry-after")
    assert [i.attempt for i in rig.book.of(Intent)] == [s.attempt for s in rig.book.of(Settlement)] == [1, 2, 3]
    assert [i.engine for i in rig.book.of(Intent)] == [s.engine for s in rig.book.of(Settlement)] == asked
    assert all(member.in_flight == 0 for member in rig.house.members.values())


def test_all_engines_failing_get_few_attempts_more_than_requests() -> None:
    """Three retries, then a tenth: the clients are told, the engines are not flooded (U4)."""
    rig = Rig(engines(3))
    attempts = 0
    for _ in range(200):
        run = whole(rig)
        fail(run)
        attempts += run.settlement.attempts
        assert run.answer.status == 502 and run.answer.get("retry-after")
    assert attempts <= 200 * 1.1 + 3
    assert rig.house.metrics.engines["e0"].retries <= 23


def test_the_requests_own_fault_is_not_tried_again_and_not_held_against_the_engine() -> None:
    """A thousand bad requests of one client must not take an engine from the others."""
    rig = Rig()
    for _ in range(10):
        run = whole(rig)
        run.feed(plain({"error": {"message": "bad"}}, 400))
        assert run.answer.status == 400 and run.settlement.attempts == 1
    assert rig.house.members["e0"].failures == 0


def test_three_failures_of_different_requests_leave_an_engine_aside() -> None:
    """And an answer brings it back."""
    rig = Rig(engines(2))
    rig.refusing = {"e0"}
    for _ in range(30):
        run = whole(rig)
        run.feed(plain(ANSWER))
        assert run.answer.status == 200
    intents = [i.engine for i in rig.book.of(Intent)]
    assert intents.count("e0") == 3
    assert rig.house.members["e0"].ejected_until
    rig.refusing = set()
    rig.pass_(6)
    for _ in range(10):
        whole(rig).feed(plain(ANSWER))
    assert not rig.house.members["e0"].ejected_until


def test_a_trial_that_streams_lets_others_in_with_its_first_byte() -> None:
    """A stream can take an hour: the engine's health is known long before."""
    rig = Rig(engines(2))
    bad = rig.house.members["e0"]
    for _ in range(3):
        bad.failed(rig.house.tick)
    rig.pass_(6)
    rig.house.members["e1"].in_flight = 100
    trial = rig.ask()
    assert rig.book.of(Intent)[-1].engine == "e0" and bad.probing
    rig.ask().leave()
    assert rig.book.of(Intent)[-1].engine == "e1", "one at a time"
    trial.feed(head(), chunk(vllm().events[0]))
    rig.ask().leave()
    assert rig.book.of(Intent)[-1].engine == "e0"


# time ---------------------------------------------------------------------------------------------------------------


def test_a_first_token_that_does_not_come_sends_the_request_elsewhere() -> None:
    """After `first_token_timeout`, never before; on a kept connection as on a new one, and once."""
    for kept in (False, True):
        rig = Rig(engines(2), settings={"first_token_timeout": 5.0})
        if kept:
            for _ in range(20):
                rig.ask().feed(stream(vllm().events))
        run = rig.ask()
        before = len(run.requests)
        rig.pass_(5)
        assert len(run.requests) == before, "not before its time"
        rig.pass_(2)
        assert len(run.requests) == before + 1
        first, second = (
            (name for name, _ in run.requests[-2:])
            if not kept
            else (rig.book.of(Intent)[-2].engine, rig.book.of(Intent)[-1].engine)
        )
        assert first != second, "the engine that hangs is not asked again"
        run.feed(stream(vllm().events))
        assert judge.text_of(judge.chunks(run)) == vllm().text
        assert [s.outcome for s in rig.book.of(Settlement)][-2:] == ["engine_timeout", "complete"]


def test_a_head_without_a_token_is_no_first_token() -> None:
    """Some engines send it at once and compute later."""
    rig = Rig(engines(2), settings={"first_token_timeout": 5.0})
    run = rig.ask()
    run.feed(head())
    rig.pass_(7)
    assert len(run.requests) == 2


def test_a_stream_that_stops_between_tokens_ends_with_an_error() -> None:
    """After `between_tokens_timeout`; what came is billed."""
    rig = Rig(settings={"between_tokens_timeout": 4.0})
    run = rig.ask()
    for word in vllm().events[:4]:
        run.feed(*([head()] if not run.sent else []), chunk(word))
        rig.pass_(3)
    assert not run.over
    rig.pass_(4)
    assert judge.cut(run, "Le beffroi" + ' "sonne"')["code"] == "engine_timeout"
    assert (run.settlement.outcome, run.settlement.tokens.output) == ("engine_timeout", 3)
    assert not run.waits


def test_a_plain_answer_that_does_not_come_in_time_is_not_asked_again() -> None:
    """600 s were enough; another 600 would help nobody (decision D10). Also when its head has come."""
    for started in (False, True):
        rig = Rig(engines(3), settings={"answer_timeout": 5.0})
        run = whole(rig)
        if started:
            run.feed(head(200, "application/json", 500) + b"{")
        rig.pass_(5)
        assert run.waits, "not before its time"
        rig.pass_(2)
        assert run.answer.status == 504 and run.answer.json["error"]["code"] == "engine_timeout"
        assert len(run.requests) == 1
        assert (run.settlement.outcome, run.settlement.attempts) == ("engine_timeout", 1)


def test_a_connection_that_is_not_accepted_sends_the_request_elsewhere_streamed_or_not() -> None:
    """Nothing was served; also as the second attempt, after an engine that answered 500."""
    for streamed in (True, False):
        rig = Rig(engines(3))
        rig.stuck = {"e0", "e1"}
        run = rig.ask(stream=streamed)
        run.feed(stream(vllm().events) if streamed else plain(ANSWER))
        assert run.answer.status == 200
        assert run.settlement.engine == "e2"
    rig = Rig(engines(3))
    run = whole(rig)
    rig.stuck = {"e0", "e1", "e2"} - {run.engine.endpoint.spec.name}
    rig.stuck = {min(rig.stuck)}
    run.feed(BROKEN)
    run.feed(plain(ANSWER))
    assert run.answer.status == 200, "an engine that does not accept is no answer that came late"


# connections --------------------------------------------------------------------------------------------------------


def test_a_kept_connection_that_the_engine_had_closed_is_replaced_silently() -> None:
    """No attempt is counted, nothing is held against it: it closed an idle connection, as it may."""
    for error in (None, ConnectionResetError()):
        rig = Rig()
        rig.ask().feed(stream(vllm().events))
        run = rig.ask()
        assert len(rig.dialled) == 1, "kept"
        run.close(error)
        assert len(rig.dialled) == 2
        run.feed(stream(vllm().events))
        judge.whole(run, vllm(), asked=False)
        assert run.settlement.attempts == 1
        assert rig.house.members["e0"].failures == 0
        assert rig.house.retries.allow(rig.house.tick)


def test_a_new_connection_that_closes_is_a_failure() -> None:
    """So is a kept one that had begun to answer, and the replacement of a kept one."""
    rig = Rig(engines(2))
    rig.ask().close()
    assert rig.book.of(Intent)[-1].attempt == 2
    rig = Rig()
    rig.ask().feed(stream(vllm().events))
    run = rig.ask()
    run.feed(b"HTTP/1.1 ")
    run.close()
    assert rig.book.of(Intent)[-1].attempt == 2
    rig = Rig()
    rig.ask().feed(stream(vllm().events))
    run = rig.ask()
    run.close()
    run.close()
    assert rig.book.of(Intent)[-1].attempt == 2


def test_idle_connections_are_used_last_in_first_out_and_closed_when_cold() -> None:
    """So that spare ones grow cold; and one that the engine closes is forgotten."""
    rig = Rig()
    runs = [rig.ask() for _ in range(3)]
    connections = list(rig.dialled)
    for run in runs:
        run.engine.data_received(stream(vllm().events))
        rig.loop.turn()
    idle = rig.house.endpoints["e0"].idle
    assert set(idle) == set(connections)
    warm = idle[-1]
    rig.ask()
    assert warm.answer is not None
    idle[0].connection_lost(None)
    assert len(idle) == 1
    cold = idle[0]
    rig.pass_(62)
    assert not idle
    assert cold.transport.aborted  # type: ignore[attr-defined]


def test_an_engine_that_closes_after_its_answer_is_not_kept() -> None:
    """`connection: close`, HTTP/1.0, or bytes that nobody asked for."""
    for answer in (
        head(close=True, length=None) + b"".join(vllm().events),
        head(more="connection: close\r\n") + b"".join(map(chunk, vllm().events)) + LAST,
        (head(length=len(b"".join(vllm().events))) + b"".join(vllm().events)).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        rig = Rig()
        run = rig.ask()
        run.feed(answer)
        if run.waits:
            run.close()
        judge.whole(run, vllm(), asked=False)
        assert not rig.house.endpoints["e0"].idle
    rig = Rig()
    rig.ask().feed(stream(vllm().events))
    rig.dialled[0].data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert rig.dialled[0].transport.aborted  # type: ignore[attr-defined]


def test_a_configuration_that_drops_an_engine_lets_its_streams_end() -> None:
    """Open exchanges keep the view they began with; the connection is not kept afterwards."""
    rig = Rig(engines(2))
    run = rig.ask()
    run.feed(head(), *map(chunk, vllm().events[:3]))
    name, engine = run.engine.endpoint.spec.name, run.engine
    left = tuple(spec for spec in rig.config.engines if spec.name != name)
    model = rig.config.models[0]
    targets = tuple(target for target in model.targets if target.engine != name)
    rig.house.swap(replace(rig.config, revision=2, engines=left, models=(replace(model, targets=targets),)))
    run.feed(*map(chunk, vllm().events[3:]), LAST)
    assert judge.text_of(judge.chunks(run)) == vllm().text
    assert engine.transport.aborted  # type: ignore[attr-defined]
    assert name not in rig.house.members
