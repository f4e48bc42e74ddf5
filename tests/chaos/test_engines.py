# SPDX-License-Identifier: Apache-2.0
"""Engines that die, hang, slow down or break off: what their clients notice of it, in short form."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.figures import note
from tests.client import Answer, Broken, chat, exchange, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, scaled, wait_for

SECONDS = scaled("fault_seconds", 6)


@pytest.fixture
def engines() -> Iterator[list[ScriptedEngine]]:
    """Six engines."""
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedEngine()) for _ in range(6)]


async def load(
    served: Served, seconds: float, clients: int, *, stream: float = 0.5, pause: float = 0.05
) -> list[tuple[float, Answer | Exception]]:
    """Clients that ask for so long; → how each request went, and how long it took."""
    out: list[tuple[float, Answer | Exception]] = []
    end = time.monotonic() + seconds
    dice = random.Random(4)

    async def client() -> None:
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                answer: Answer | Exception = await exchange(
                    served.address, request(served.key, chat("count to 5", stream=dice.random() < stream)), timeout=30
                )
            except (Broken, OSError, TimeoutError) as error:
                answer = error
            out.append((time.monotonic() - begin, answer))
            await asyncio.sleep(pause)

    await asyncio.gather(*(client() for _ in range(clients)))
    return out


def judge(results: list[tuple[float, Answer | Exception]]) -> Counter[str]:
    """complete, told (a started stream that ended with the error event), or what went wrong."""
    count: Counter[str] = Counter()
    for _, answer in results:
        if isinstance(answer, Exception):
            count[f"broken: {answer}"] += 1
        elif answer.status != 200:
            count[f"{answer.status}: {answer.body[:120]!r}"] += 1
        elif answer.body.startswith(b"data:") and answer.events[-1] != b"[DONE]":
            last = json.loads(answer.events[-1])
            told = "error" in last and last["choices"][0]["finish_reason"] == "error"
            count["told" if told else f"cut without a word: {answer.body[-120:]!r}"] += 1
        elif answer.text != "1 2 3 4 5":
            count[f"wrong text: {answer.text}"] += 1
        else:
            count["complete"] += 1
    return count


@pytest.mark.chaos
@pytest.mark.timeout(60 + 2 * SECONDS)
def test_engines_that_die_are_not_seen_by_requests_that_had_not_begun(
    serve: Callable[..., Served], engines: list[ScriptedEngine]
) -> None:
    """One of six dies each second and comes back: what had begun ends with the error event, all else is served (U1)."""
    for engine in engines:
        engine.always("gap=0.004;first=0.01")
    served = serve(*engines)

    async def killing() -> None:
        place = 0
        end = time.monotonic() + SECONDS
        await asyncio.sleep(1)
        while time.monotonic() < end - 1:
            engine = engines[place % len(engines)]
            await asyncio.to_thread(engine.stop)
            await asyncio.sleep(0.6)
            await asyncio.to_thread(engine.start)
            await asyncio.sleep(0.4)
            place += 1

    async def both() -> list[tuple[float, Answer | Exception]]:
        killer = asyncio.create_task(killing())
        results = await load(served, SECONDS, 12)
        await killer
        return results

    results = asyncio.run(both())
    count = judge(results)
    assert set(count) <= {"complete", "told"}, count
    attempts = len(served.settled({a.get("x-request-id") or "" for _, a in results if isinstance(a, Answer)}))
    rows = served.ledger("SELECT COUNT(*) AS n FROM exchanges")[0]["n"]
    note("U1: engines die", requests=len(results), told=count["told"], attempts_per_request=rows / attempts)
    assert rows / attempts <= 1.10


@pytest.mark.chaos
@pytest.mark.timeout(60)
def test_an_engine_that_never_answers_is_left_aside(
    serve: Callable[..., Served], engines: list[ScriptedEngine]
) -> None:
    """It accepts and says nothing: no client sees an error, and after a few time-outs it is asked no more (U2)."""
    served = serve(*engines, settings={"first_token_timeout": 0.5})
    asyncio.run(load(served, 2, 12, stream=1.0))
    engines[0].always("hang")
    results = asyncio.run(load(served, 6, 12, stream=1.0))
    count = judge(results)
    assert set(count) == {"complete"}, count
    asked = engines[0].stats["requests"]
    begin = len(engines[0].entries)
    asyncio.run(load(served, 1, 6, stream=1.0))
    assert len(engines[0].entries) - begin <= 2, f"still asked, {asked} so far"


@pytest.mark.chaos
@pytest.mark.timeout(60)
def test_a_slow_engine_gets_less_than_half_of_its_share(
    serve: Callable[..., Served], engines: list[ScriptedEngine]
) -> None:
    """Four times slower than the others; outstanding work says so (U3)."""
    for engine in engines:
        engine.always("gap=0.02")
    engines[0].always("gap=0.08")
    served = serve(*engines)
    asyncio.run(load(served, 5, 48, pause=0))
    shares = [engine.stats["requests"] for engine in engines]
    assert shares[0] / sum(shares) <= 0.5 / len(engines), shares


@pytest.mark.chaos
@pytest.mark.timeout(60)
def test_engines_that_all_fail_are_not_flooded_with_retries(
    serve: Callable[..., Served], engines: list[ScriptedEngine]
) -> None:
    """Every engine answers 500: each client is told so, soon, and attempts stay within a fifth of the requests (U4)."""
    for engine in engines:
        engine.always("status=500")
    served = serve(*engines)
    results = asyncio.run(load(served, 4, 12))
    answers = [a for _, a in results if isinstance(a, Answer)]
    assert len(answers) == len(results)
    assert {a.status for a in answers} <= {502, 503}, Counter(a.status for a in answers)
    assert all(a.get("retry-after") for a in answers)
    assert all(a.json["error"]["code"] for a in answers)
    attempts = sum(engine.stats["requests"] for engine in engines)
    assert attempts <= 1.2 * len(results) + 3, (attempts, len(results))
    times = sorted(t for t, _ in results)
    assert times[len(times) // 2] <= 0.05, times[len(times) // 2]
    note("U4: all engines fail", requests=len(results), attempts=attempts, p50_ms=1000 * times[len(times) // 2])


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_service_returns_soon_after_an_engine_does(serve: Callable[..., Served], engine: ScriptedEngine) -> None:
    """All engines down for a while, then one is back: requests are served within five seconds of it (U5)."""
    served = serve(engine)
    assert served.chat().status == 200
    engine.stop()
    down = time.monotonic() + SECONDS
    while time.monotonic() < down:
        assert served.chat().status in (502, 503)
        time.sleep(0.05)
    engine.start()
    waited = wait_for(lambda: served.chat().status == 200, 10, "service")
    note("U5: service after all were down", seconds=waited)
    assert waited <= 5


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_stream_cut_after_k_tokens_delivers_and_bills_k(serve: Callable[..., Served], engine: ScriptedEngine) -> None:
    """No token twice, none lost, an error event at the end, no [DONE]; with nothing delivered another engine is asked (U6)."""
    with ScriptedEngine() as other:
        served = serve(engine, other)
        cuts = [*range(1, 21), 30, 49] if scaled("kills", 5) < 50 else range(1, 51)
        billed: dict[str, int] = {}
        for k in cuts:
            for one in (engine, other):
                one.always(f"cut_after={k};rst" if k % 2 else f"cut_after={k}")
            answer = served.chat("count to 60", stream=True)
            assert answer.text == " ".join(map(str, range(1, k + 1)))
            last = json.loads(answer.events[-1])
            assert last["error"]["code"]
            assert last["choices"][0]["finish_reason"] == "error"
            assert b"[DONE]" not in answer.events
            billed[answer.get("x-request-id") or ""] = k
        rows = served.settled(billed)
        assert {i: [r["output_tokens"] for r in rows[i]] for i in billed} == {i: [k] for i, k in billed.items()}
        assert {rows[i][0]["outcome"] for i in billed} == {"engine_gone"}
        for one in (engine, other):
            one.always()
        for fault in ("close", "close;rst", "head_only", "cut_after=0;rst", "status=500", "status=503"):
            for one in (engine, other):
                one.script(fault)
            before = engine.stats["requests"] + other.stats["requests"]
            answers = [served.chat("count to 5", stream=True) for _ in range(2)]
            tried = engine.stats["requests"] + other.stats["requests"] - before
            if all(a.status == 200 for a in answers):
                assert [a.text for a in answers] == ["1 2 3 4 5"] * 2
            else:  # both scripted the fault, and the budget of three retries a minute is used up
                assert {a.status for a in answers} <= {200, 502, 503}
            assert tried >= 2
