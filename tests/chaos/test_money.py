# SPDX-License-Identifier: Apache-2.0
"""The ledger agrees with the engine's own log, and a budget holds to the last token."""

import asyncio
import random
import threading
import time
from collections.abc import Callable

import pytest

from tests.chaos import witness
from tests.chaos.figures import note
from tests.client import Answer, Broken, call, chat, exchange, request
from tests.engines.ledger import Entry
from tests.engines.scripted import ScriptedEngine
from tests.harness import Json, Served, scaled, wait_for

REQUESTS = scaled("requests", 1000)
LEAVING = 0.10


@pytest.mark.chaos
@pytest.mark.timeout(120 + REQUESTS // 20)
def test_completed_requests_agree_exactly_and_abandoned_ones_lie_between(serve: Callable[..., Served]) -> None:
    """Token counts are drawn at random by the engine; one client in ten leaves at a random moment."""
    with ScriptedEngine(seed=5, tokens=(1, 60)) as engine:
        engine.always("gap=0.001")
        served = serve(engine, workers=2)
        told: dict[str, witness.Seen] = {}
        left: dict[str, int] = {}  # request id → tokens received
        dice = random.Random(1)

        async def one(gate: asyncio.Semaphore) -> None:
            stream, leave, after = dice.random() < 0.7, dice.random() < LEAVING, dice.randint(0, 20)
            data = request(served.key, chat(f"say {dice.random()}", stream=stream))
            async with gate:
                if not leave:
                    answer = await exchange(served.address, data)
                    assert answer.status == 200, answer.body
                    told[answer.get("x-request-id") or ""] = witness.seen(answer)
                elif stream:
                    answer = await exchange(
                        served.address, data, until=lambda a: received(a) >= after, reset=dice.random() < 0.5
                    )
                    if answer.events and answer.events[-1] == b"[DONE]":
                        told[answer.get("x-request-id") or ""] = witness.seen(answer)
                    else:
                        left[answer.get("x-request-id") or ""] = received(answer)
                else:
                    try:
                        await exchange(served.address, data, timeout=after / 1000 + 0.001)
                    except (TimeoutError, Broken):
                        return

        async def everyone() -> None:
            gate = asyncio.Semaphore(64)
            await asyncio.gather(*(one(gate) for _ in range(REQUESTS)))

        asyncio.run(everyone())
        wait_for(lambda: engine.stats["open"] == 0, 5, "the engine is idle")
        entries = {entry.request_id: entry for entry in engine.entries}
        rows = served.settled(entries, within=30)
        for request_id, one_told in told.items():
            entry = entries[request_id]
            exact = (entry.prompt - entry.cached, entry.cached, entry.completion - entry.reasoning, entry.reasoning)
            assert (
                tokens(rows[request_id])
                == exact
                == (one_told.input, one_told.cached, one_told.output, one_told.reasoning)
            )
        for request_id, got in left.items():
            _, _, output, reasoning = tokens(rows[request_id])
            assert got <= output + reasoning <= entries[request_id].made, request_id
        for request_id, entry in entries.items():  # plain requests whose client left before it knew their id
            if request_id not in told and request_id not in left:
                assert_within(entry, rows[request_id])
        assert len(left) > REQUESTS * LEAVING / 4, "too few left to mean anything"
        note("ledger against the engine's log", requests=REQUESTS, complete=len(told), abandoned=REQUESTS - len(told))


def received(answer: Answer) -> int:
    """Tokens of a stream that have arrived, whole events only."""
    whole = answer.body.rpartition(b"\n\n")[0]
    return whole.count(b'"content":') - whole.count(b'"content":""')


def tokens(rows: list[Json]) -> tuple[int, int, int, int]:
    """The one row's token classes."""
    assert len(rows) == 1, rows
    row = rows[0]
    return row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"]


def assert_within(entry: Entry, rows: list[Json]) -> None:
    """Billed at most what was made."""
    input_tokens, cached, output, reasoning = tokens(rows)
    assert input_tokens + cached <= entry.prompt
    assert output + reasoning <= entry.made


PRICE = 1_000_000  # nano-euro per token, so that a bound of 100 tokens is 0.1 €
PRICED = [{"id": "words", "targets": [{"engine": "e0"}], "prices": [{"input": 0, "output": 1000}]}]


def flood(served: Served, key: str, count: int, *, max_tokens: int = 100) -> list[Answer]:
    """That many requests at the same moment, each on its own connection."""
    data = request(key, chat("count to 7", max_tokens=max_tokens))

    async def everyone() -> list[Answer]:
        return list(await asyncio.gather(*(exchange(served.address, data) for _ in range(count))))

    return asyncio.run(everyone())


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_hard_budget_for_ten_serves_exactly_ten_of_a_hundred(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """Over four workers, at the same moment; what settling returns can be spent at once, and spend never passes it."""
    engine.always("first=2.5")
    served = serve(engine, workers=4, models=PRICED)
    # Ten bounds of 100 output tokens at 0.001 €, and the two nano-units that each bound adds for rounding.
    key = served.new_key(hard_budget="1.00000002", budget_period="total")
    answers = flood(served, key, 100)
    statuses = [a.status for a in answers]
    assert statuses.count(200) == 10, statuses
    refused = [a for a in answers if a.status != 200]
    assert {a.status for a in refused} == {429}
    assert {a.json["error"]["code"] for a in refused} == {"insufficient_quota"}
    engine.always()
    spent = 10 * 7 * PRICE
    while spent + 100 * PRICE + 2 <= 1_000_000_020:  # the rest of each reservation came back
        answer = call(served.address, request(key, chat("count to 7", max_tokens=100)))
        assert answer.status == 200, answer.body
        answers.append(answer)
        spent += 7 * PRICE
    assert call(served.address, request(key, chat("count to 7", max_tokens=100))).status == 429
    ids = [a.get("x-request-id") or "" for a in answers if a.status == 200]
    served.settled(ids)
    total = served.ledger("SELECT SUM(input_nano + cached_nano + output_nano + reasoning_nano) AS nano FROM exchanges")[
        0
    ]["nano"]
    assert total == spent <= 1_000_000_020


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_soft_budget_is_passed_by_what_is_in_flight_at_most(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """Overspend is at most the estimate's error of the requests in flight when it ran out; then all are refused."""
    served = serve(engine, workers=4, models=PRICED)
    flood(served, served.key, 200, max_tokens=40)  # teaches the estimate of every worker: 7 tokens an answer
    key = served.new_key(soft_budget="0.1", budget_period="total")
    engine.always("first=0.5")
    flight = flood(served, key, 60, max_tokens=40)
    served_now = sum(a.status == 200 for a in flight)
    assert 0 < served_now < 60, "the rest of 0.1 € is enough for some"
    engine.always()
    rows = served.settled([a.get("x-request-id") or "" for a in flight if a.status == 200])
    total = sum(row["output_nano"] for a in flight if a.status == 200 for row in rows[a.get("x-request-id") or ""])
    assert total <= 100_000_000 + served_now * 40 * PRICE
    if total >= 100_000_000:
        assert call(served.address, request(key, chat("count to 7"))).status == 429


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_rate_limit_over_four_workers_admits_all_of_it_and_no_more(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """300 a minute, 500 asked at once: 300 served. Clients that ask without pause get the same in the long run (≤ 1 %)."""
    served = serve(engine, workers=4)
    key = served.new_key(requests_per_minute=300)
    statuses = [a.status for a in flood(served, key, 500)]
    assert statuses.count(200) == 300
    assert statuses.count(429) == 200
    minutes = scaled("limit_minutes", 0)
    if minutes:
        key = served.new_key(requests_per_minute=300)
        begin, admitted = time.monotonic(), [0] * 8

        def client(place: int) -> None:
            while time.monotonic() - begin < minutes * 60:
                admitted[place] += call(served.address, request(key, chat("count to 1"))).status == 200
                time.sleep(0.05)

        threads = [threading.Thread(target=client, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A sliding window lets a full minute in at its start, then the rate: minutes + 1 windows at most.
        share = sum(admitted) / (300 * minutes)
        note("a rate limit over four workers", minutes=minutes, admitted=sum(admitted), share=share)
        assert 0.99 <= share <= 1 + 1 / minutes * 0.01 + 1 / 60
