# SPDX-License-Identifier: Apache-2.0
"""What must be written before what may leave: the order of journal, engine, counters and client."""

import pytest

from beffroi.core.errors import JournalUnavailable
from beffroi.core.record import Intent, Settlement
from tests.client import chat
from tests.gateway.rig import LAST, PUBLIC, Rig, chunk, head, plain, stream
from tests.gateway.upstream.dialects import vllm

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Ding"}, "finish_reason": "stop"}]}
FULL = JournalUnavailable("The journal cannot be written.", retry_after=1)


@pytest.mark.parametrize("streamed", [True, False])
def test_no_byte_leaves_for_an_engine_before_its_intent_is_written(streamed: bool) -> None:
    """Nor is a connection opened for it."""
    rig = Rig()
    rig.book.holds = True
    run = rig.ask(stream=streamed)
    assert [type(r) for r in rig.book.records] == [Intent]
    assert not rig.dialled
    rig.book.go_on()
    assert len(run.requests) == 1


def test_an_intent_that_cannot_be_written_is_a_refusal_and_no_engine_hears_of_it() -> None:
    """At once, or after the write failed: 503, settled as attempt 0."""
    for late in (False, True):
        rig = Rig()
        if late:
            rig.book.holds = True
            run = rig.ask()
            rig.book.holds = False
            rig.book.go_on(FULL)
        else:
            rig.book.refuses = FULL
            run = rig.ask()
        assert run.answer.status == 503 and run.answer.json["error"]["code"] == "journal_unavailable"
        assert not rig.dialled
        assert (run.settlement.attempt, run.settlement.outcome) == (0, "journal_failed")
        assert rig.counters.used[-1].cost == 0, "the reservation came back"


def test_the_second_attempt_has_an_intent_of_its_own_before_its_engine_hears() -> None:
    """And the first is settled."""
    rig = Rig({"e0": "vllm", "e1": "vllm"})
    run = rig.ask()
    rig.book.holds = True
    run.close(ConnectionResetError())
    assert [(type(r), r.attempt) for r in rig.book.records] == [(Intent, 1), (Settlement, 1), (Intent, 2)]
    assert len(run.requests) == 1
    rig.book.go_on()
    assert len(run.requests) == 2


def test_the_last_bytes_wait_for_the_settlement() -> None:
    """A client that has seen the end is in the journal."""
    rig = Rig()
    run = rig.ask()
    rig.book.holds = True
    run.feed(stream(vllm().events))
    assert len(rig.book.of(Settlement)) == 1
    assert b"[DONE]" not in run.sent
    rig.book.go_on()
    assert b"[DONE]" in run.sent
    rig.book.holds = False
    run = rig.ask(chat("hi", model=PUBLIC))
    rig.book.holds = True
    run.feed(plain(ANSWER))
    assert not run.sent
    rig.book.go_on()
    assert run.answer.status == 200


def test_refusals_wait_for_their_record_too() -> None:
    """Of a key that is known."""
    rig = Rig()
    rig.book.holds = True
    run = rig.ask(chat("hi", model="nobody"))
    assert len(rig.book.of(Settlement)) == 1 and not run.sent
    rig.book.go_on()
    assert run.answer.status == 404


def test_what_was_not_recorded_is_not_served_whole() -> None:
    """A stream that had begun is cut without its end, an answer that had not becomes a refusal."""
    rig = Rig()
    run = rig.ask()
    run.feed(head(), *map(chunk, vllm().events[:3]))
    rig.book.holds = True
    run.feed(*map(chunk, vllm().events[3:]), LAST)
    rig.book.go_on(FULL)
    assert run.transport.aborted and b"[DONE]" not in run.sent
    rig.book.holds = False
    run = rig.ask(chat("hi", model=PUBLIC))
    rig.book.holds = True
    run.feed(plain(ANSWER))
    rig.book.go_on(FULL)
    assert run.answer.status == 503
    assert b"Ding" not in run.sent


def test_counters_are_settled_once_for_every_request_that_was_admitted() -> None:
    """However it ended: whole, broken, refused by the engine, left by its client."""
    rig = Rig()
    for end in ("whole", "broken", "rejected", "left", "no engine"):
        if end == "no engine":
            rig.refusing = {"e0"}
        run = rig.ask()
        if end == "whole":
            run.feed(stream(vllm().events))
        elif end == "broken":
            run.feed(head(), chunk(vllm().events[0]), chunk(vllm().events[1]))
            run.close(ConnectionResetError())
        elif end == "rejected":
            run.feed(plain({"error": {"message": "no"}}, 400))
        elif end == "left":
            run.leave()
        assert len(rig.counters.used) == len(rig.counters.asks), end
        assert not rig.house.active, end
    assert rig.counters.used[0].output == 6 and rig.counters.used[1].output == 1
    rig.refusing = set()
    rig.ask(chat("hi", model="nobody"))
    assert len(rig.counters.used) == len(rig.counters.asks) == 5, "what was refused before was never admitted"


def test_every_intent_has_one_settlement() -> None:
    """Matched by request and attempt, over all ends there are."""
    rig = Rig({"e0": "vllm", "e1": "vllm"})
    for _ in range(3):
        run = rig.ask()
        while run.waits:
            run.feed(plain({"error": {"message": "no"}}, 500))
        rig.ask().leave()
        rig.ask().feed(stream(vllm().events))
        broken = rig.ask()
        broken.feed(head(), chunk(vllm().events[0]))
        broken.close()
    intents = [(r.request_id, r.attempt) for r in rig.book.of(Intent)]
    settled = [(r.request_id, r.attempt) for r in rig.book.of(Settlement)]
    assert sorted(intents) == sorted(settled)
    assert len(set(settled)) == len(settled)
