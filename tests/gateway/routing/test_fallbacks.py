# SPDX-License-Identifier: Apache-2.0
"""Models that stand in for a model whose engines have failed: when, in which order, at whose price, for which keys."""

from typing import Any

import pytest
from msgspec.structs import replace

from beffroi.core.price import Price, cost_of
from beffroi.core.record import Intent, Settlement
from beffroi.core.snapshot import Limits, ModelSpec, Target
from tests.client import chat
from tests.gateway.rig import PRICE, PUBLIC, Rig, Run, chunk, head, plain, stream
from tests.gateway.upstream.dialects import vllm

DEAR = Price("dear", input=9_000_000_000, output=90_000_000_000, reasoning=90_000_000_000)
CHEAP = Price("cheap", input=1_000_000, output=2_000_000, reasoning=2_000_000)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Ding"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
BROKEN = plain({"error": {"message": "no"}}, 500)


def rig(
    *fallbacks: str, engines: int = 3, limits: Limits | None = None, models: frozenset[str] | None = None, **more: Any
) -> Rig:
    """`public-name` on e0, `second` on e1, `third` on e2, each with one engine; `more` are fields of `second`."""
    made = Rig({f"e{n}": "vllm" for n in range(engines)}, limits=limits)
    first = replace(made.config.models[0], targets=(Target("e0", "up-1"),), fallbacks=fallbacks)
    second = ModelSpec("second", (Target("e1", "up-2"),), **({"prices": (DEAR,)} | more))
    third = ModelSpec("third", (Target("e2", "up-3"),), prices=(CHEAP,), fallbacks=(PUBLIC,))
    made.house.swap(replace(made.config, revision=2, models=(first, second, third)))
    if models is not None:
        (public, record), *_ = made.house.keys.by_public.items()
        made.house.keys.by_public[public] = replace(record, models=models)
    return made


def fail(run: Run, times: int = 3) -> Run:
    """The engines that are asked answer 500, so many times."""
    for _ in range(times):
        run.feed(BROKEN)
    return run


def asked(run: Run) -> list[str]:
    """The engines that had the request, in order."""
    return [name for name, _ in run.requests]


@pytest.mark.parametrize("streamed", [True, False])
def test_when_its_own_attempts_are_used_up_the_next_model_takes_the_request(streamed: bool) -> None:
    """Under its upstream name; the client reads its public name, and nothing of the failures."""
    made = rig("second")
    run = fail(made.ask(chat("hello", model=PUBLIC, stream=streamed, usage=False)))
    assert asked(run) == ["e0", "e0", "e0", "e1"]
    assert run.upstream["model"] == "up-2"
    run.feed(stream(vllm().events) if streamed else plain(ANSWER))
    assert run.answer.status == 200
    shown = run.answer.chunks[-1] if streamed else run.answer.json
    assert shown["model"] == "second"
    assert all(member.in_flight == 0 for member in made.house.members.values())


def test_each_attempt_is_recorded_with_its_own_model_and_price() -> None:
    """Those that failed cost nothing; the one that served costs what its model costs."""
    made = rig("second")
    run = fail(made.ask(chat("hello", model=PUBLIC)))
    run.feed(plain(ANSWER))
    intents, settled = made.book.of(Intent), made.book.of(Settlement)
    assert [(i.attempt, i.model, i.engine, i.price_version) for i in intents] == [
        (1, PUBLIC, "e0", "2026-01"),
        (2, PUBLIC, "e0", "2026-01"),
        (3, PUBLIC, "e0", "2026-01"),
        (4, "second", "e1", "dear"),
    ]
    assert [(s.attempt, s.model, s.price_version, s.cost.total) for s in settled[:3]] == [
        (n, PUBLIC, "2026-01", 0) for n in (1, 2, 3)
    ]
    last = settled[3]
    assert (last.attempt, last.model, last.price_version, last.attempts) == (4, "second", "dear", 4)
    assert last.cost == cost_of(last.tokens, DEAR)
    assert last.cost.total == 7 * 9_000 + 3 * 90_000
    assert made.counters.used[-1].cost == last.cost.total


def test_a_whole_chain_that_fails_is_one_error_and_bounded() -> None:
    """The client hears of the last failure; each model had its attempts and no more, and no fallback of a fallback."""
    made = rig("second", "third")
    run = made.ask(chat("hello", model=PUBLIC))
    while run.waits:
        run.feed(BROKEN)
    assert run.answer.status == 502
    # three retries are in the budget, and all of them go to the first: the others have one attempt each
    assert asked(run) == ["e0", "e0", "e0", "e1", "e1", "e2"]
    assert [s.cost.total for s in made.book.of(Settlement)] == [0] * 6
    assert made.book.of(Settlement)[-1].model == "third"


def test_without_a_retry_left_the_fallback_still_has_its_turn() -> None:
    """The budget of retries protects engines that fail; when a pool is down for all, all of its requests find the other."""
    made = rig("second")
    for _ in range(30):
        run = made.ask(chat("hello", model=PUBLIC))
        while made.book.of(Intent)[-1].engine == "e0":
            run.feed(BROKEN)
        run.feed(plain(ANSWER))
        assert run.answer.status == 200
    counts = [i.engine for i in made.book.of(Intent)]
    assert counts.count("e1") == 30
    assert counts.count("e0") <= 30 * 1.1 + 4


def test_while_all_its_engines_are_left_aside_nobody_waits_for_them() -> None:
    """The fallback is asked at once; when the time for a trial has come, one request at a time goes to see."""
    made = rig("second", "third")
    ejected = made.house.members["e0"]
    for _ in range(3):
        ejected.failed(made.house.tick)
    run = made.ask(chat("hello", model=PUBLIC))
    run.feed(plain(ANSWER))
    (intent,) = made.book.of(Intent)
    assert (intent.attempt, intent.model, intent.engine, intent.price_version) == (1, "second", "e1", "dear")
    assert (run.answer.json["model"], made.book.of(Settlement)[-1].attempts) == ("second", 1)
    made.pass_(6)
    trial = made.ask(chat("hello", model=PUBLIC))
    assert made.book.of(Intent)[-1].engine == "e0"
    made.ask(chat("hello", model=PUBLIC)).feed(plain(ANSWER))
    assert made.book.of(Intent)[-1].engine == "e1"
    trial.feed(plain(ANSWER))
    made.ask(chat("hello", model=PUBLIC)).feed(plain(ANSWER))
    assert made.book.of(Intent)[-1].engine == "e0", "it is well again"


def test_when_those_of_the_fallback_are_left_aside_too_the_next_one_is_asked_and_then_its_own() -> None:
    """Better a trial than a certain refusal, and then as ever."""
    made = rig("second", "third")
    for name, then in (("e0", "e1"), ("e1", "e2"), ("e2", "e0")):
        for _ in range(3):
            made.house.members[name].failed(made.house.tick)
        made.ask(chat("hello", model=PUBLIC)).leave()
        assert made.book.of(Intent)[-1].engine == then


def test_a_fallback_whose_engines_are_left_aside_is_passed_over_after_failures_too() -> None:
    """Its time-outs are known already; where every fallback is left aside, the first one is asked all the same."""
    made = rig("second", "third")
    for _ in range(3):
        made.house.members["e1"].failed(made.house.tick)
    run = fail(made.ask(chat("hello", model=PUBLIC)))
    assert asked(run) == ["e0", "e0", "e0", "e2"]
    run.feed(plain(ANSWER))
    assert run.answer.json["model"] == "third"
    made = rig("second")
    for _ in range(3):
        made.house.members["e1"].failed(made.house.tick)
    assert asked(fail(made.ask(chat("hello", model=PUBLIC))))[3:] == ["e1"]


def test_nothing_follows_the_first_byte() -> None:
    """A stream that breaks on its way has been another model's word already."""
    made = rig("second")
    run = made.ask()
    run.feed(head(), *[chunk(event) for event in vllm().events[:3]])
    run.close()
    assert run.over
    assert asked(run) == ["e0"]
    assert made.book.of(Settlement)[-1].model == PUBLIC


def test_the_requests_own_fault_goes_to_the_client() -> None:
    """And so does a refusal that another model would repeat."""
    made = rig("second")
    run = made.ask(chat("hello", model=PUBLIC))
    run.feed(plain({"error": {"message": "too long"}}, 400))
    assert run.answer.status == 400
    assert asked(run) == ["e0"]


def test_a_key_needs_permission_for_the_fallback_too() -> None:
    """One that may not use it gets the failure of its own model; one further down that it may use is taken."""
    for permitted, then in (({PUBLIC}, []), ({PUBLIC, "third"}, ["e2"]), ({PUBLIC, "second", "third"}, ["e1"])):
        made = rig("second", "third", models=frozenset(permitted))
        run = fail(made.ask(chat("hello", model=PUBLIC)))
        assert asked(run) == ["e0"] * 3 + then
        if not then:
            assert run.answer.status == 502


def test_a_fallback_that_does_not_serve_what_is_asked_is_passed_over() -> None:
    """Embeddings are not answered by a model for chat."""
    made = rig("second", "third", endpoints=("embeddings",))
    run = fail(made.ask(chat("hello", model=PUBLIC)))
    assert asked(run)[-1] == "e2"


def test_the_reservation_holds_the_dearest_of_the_chain() -> None:
    """To the nano-unit: what the dear model could cost at most is what the request of the cheap one holds."""
    hard = Limits(hard_budget=10**15, soft_budget=10**15)
    alone, dear = rig(limits=hard), rig("second", "third", limits=hard)
    body = chat("hello", model=PUBLIC, max_tokens=100)
    for made in (alone, dear):
        made.ask(body)
    there = chat("hello", model="second", max_tokens=100)
    other = rig(limits=hard)
    other.ask(there)
    size = len(str(body)) - len(str(there))  # names of other lengths: other bounds of the input
    held, wanted = dear.counters.asks[0], other.counters.asks[0]
    assert held.bound - wanted.bound == size * 9_000
    assert held.bound > alone.counters.asks[0].bound
    assert held.estimate >= wanted.estimate > alone.counters.asks[0].estimate


def test_a_bound_of_the_fallback_is_sent_where_a_hard_budget_needs_one() -> None:
    """Its own default, not that of the model that failed; and its own largest answer."""
    limits = Limits(hard_budget=10**15)
    run = fail(rig("second", limits=limits, default_max_tokens=77).ask(chat("hello", model=PUBLIC)))
    assert run.upstream["max_tokens"] == 77
    run = fail(rig("second", limits=limits, max_output=50).ask(chat("hello", model=PUBLIC, max_tokens=500)))
    assert run.upstream["max_tokens"] == 50


def test_two_models_may_stand_in_for_each_other() -> None:
    """The list of the model that was asked for counts, and it ends: nothing goes in circles."""
    made = rig("third")
    run = made.ask(chat("hello", model="third"))
    while run.waits:
        run.feed(BROKEN)
    assert run.answer.status == 502
    assert set(asked(run)) == {"e0", "e2"}
    assert len(asked(run)) <= 6


def test_a_client_who_leaves_during_the_fallback_is_billed_by_it() -> None:
    """What had passed, at the price of the model that made it."""
    made = rig("second")
    run = fail(made.ask())
    run.feed(head(), *[chunk(event) for event in vllm().events[:5]])
    run.leave()
    last = made.book.of(Settlement)[-1]
    assert (last.model, last.outcome) == ("second", "client_gone")
    assert last.cost == cost_of(last.tokens, DEAR)
    assert last.tokens.output > 0


def test_a_model_without_fallbacks_fails_as_before() -> None:
    """Three attempts, one error."""
    made = rig()
    run = fail(made.ask(chat("hello", model=PUBLIC)))
    assert (run.answer.status, asked(run)) == (502, ["e0"] * 3)
    assert made.counters.asks[0].bound == 0
    assert made.book.of(Settlement)[-1].price_version == PRICE.version
