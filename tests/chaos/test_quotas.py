# SPDX-License-Identifier: Apache-2.0
"""Quotas under faults: a thousand at once on one budget, workers killed mid-flight, a clock that is wrong.

Faults B1, B2 and G6. Short by default; `--requests`, `--kills` make it long.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.cli import client
from tests.chaos.figures import note
from tests.client import Answer, Broken, chat, exchange, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, program, scaled, wait_for

AT_ONCE = min(scaled("requests", 200), 1000)
KILLS = scaled("kills", 5)
PRICE = 1_000_000  # nano-euro per output token
BOUND = 100 * PRICE + 2
PRICED = [{"id": "words", "targets": [{"engine": "e0"}], "prices": [{"input": 0, "output": 1000}]}]


def quota(served: Served, **ask: Any) -> str:
    """A quota; its id."""
    return str(client.call(served.data, "POST", "/api/v1/quotas", ask)["id"])


def uses(served: Served, identifier: str, query: str = "") -> dict[str, int]:
    """What is used of it."""
    found = client.call(served.data, "GET", f"/api/v1/quotas/{identifier}/standing{query}")
    return {use["limit"]: use["used"] for use in found["uses"]}


def flood(served: Served, keys: list[str], count: int, **more: Any) -> list[Answer]:
    """That many at the same moment, by turns with each key, for twenty end users."""

    async def everyone() -> list[Answer | BaseException]:
        answers = await asyncio.gather(
            *(
                exchange(
                    served.address,
                    request(keys[n % len(keys)], chat("count to 7", max_tokens=100, user=f"u{n % 20}", **more)),
                )
                for n in range(count)
            ),
            return_exceptions=True,
        )
        await asyncio.sleep(0.05)  # connections close
        return answers

    return [each for each in asyncio.run(everyone()) if isinstance(each, Answer)]


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.alone
def test_a_thousand_at_once_on_a_hard_budget_of_an_organisation_are_served_to_its_last_bound(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """B1: eight keys, four workers; exactly as many as fit, and spend never passes the budget."""
    engine.always("first=2.5" if AT_ONCE <= 200 else "first=15")
    served = serve(engine, workers=4, models=PRICED)
    keys = [served.new_key() for _ in range(8)]
    wide = quota(served, limits={"hard_budget": f"{20 * BOUND / 1e9:.9f}", "budget_period": "total"})
    quota(served, each_end_user=True, limits={"requests_per_minute": 1000})
    answers = flood(served, keys, AT_ONCE)
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 20
    assert statuses.count(429) == AT_ONCE - 20
    engine.always()
    wait_for(lambda: uses(served, wide)["hard_budget"] == 20 * 7 * PRICE, 10, "what was not used has come back")
    while any(answer.status != 429 for answer in flood(served, keys, AT_ONCE)):  # 503: a lock that was held for 20 ms
        continue
    rows = "SELECT SUM(input_nano + cached_nano + output_nano + reasoning_nano) AS nano FROM exchanges"
    wait_for(
        lambda: served.ledger(rows)[0]["nano"] == uses(served, wide)["hard_budget"], 10, "ledger and counters agree"
    )
    spent = served.ledger(rows)[0]["nano"]
    assert 20 * BOUND - BOUND < spent <= 20 * BOUND
    note("a hard budget of an organisation", at_once=AT_ONCE, served=20, overspent_nano=max(0, spent - 20 * BOUND))


@pytest.mark.chaos
@pytest.mark.timeout(120 + 4 * KILLS)
def test_after_kills_of_workers_nothing_is_held_within_a_minute_and_nobody_is_refused(
    serve: Callable[..., Served],
) -> None:
    """B2: workers die at random under load; at rest every scope holds nothing and has spent what the ledger has."""
    dice = random.Random(7)
    with ScriptedEngine(seed=3, tokens=(1, 30)) as engine:
        engine.always("gap=0.01")
        served = serve(engine, workers=3, models=PRICED)
        keys = [served.new_key(concurrency=50, hard_budget="9000") for _ in range(4)]
        wide = quota(served, limits={"hard_budget": "9000", "concurrency": 100, "monthly_cap": "9000"})
        project = quota(served, project="default", limits={"soft_budget": "9000", "concurrency": 100})
        users = quota(served, each_end_user=True, limits={"hard_budget": "9000", "concurrency": 10})

        async def load(until: float) -> int:
            async def one(number: int) -> int:
                done = 0
                while time.monotonic() < until:
                    body = chat(f"say {dice.random()}", stream=True, max_tokens=100, user=f"u{number}")
                    try:
                        answer = await exchange(served.address, request(keys[number % 4], body), timeout=5)
                        done += answer.status == 200
                    except (Broken, OSError, TimeoutError):
                        await asyncio.sleep(0.05)
                return done

            async def kill() -> int:
                killed = 0
                while killed < KILLS:
                    await asyncio.sleep(0.2 + dice.random())
                    if pids := served.worker_pids:
                        os.kill(dice.choice(pids), signal.SIGKILL)
                        killed += 1
                return killed

            found = await asyncio.gather(kill(), *(one(number) for number in range(12)))
            await asyncio.sleep(0.05)  # connections close
            return sum(found[1:])

        begin = time.monotonic()
        done = asyncio.run(load(begin + 3 + KILLS * 0.8))
        assert done > KILLS

        def at_rest() -> bool:
            spent = served.ledger("SELECT SUM(output_nano) AS nano FROM exchanges")[0]["nano"]
            each = sum(uses(served, users, f"?end_user=u{number}")["hard_budget"] for number in range(12))
            return (
                uses(served, wide) == {"hard_budget": spent, "monthly_cap": spent, "concurrency": 0}
                and uses(served, project) == {"soft_budget": spent, "concurrency": 0}
                and each == spent
            )

        took = wait_for(at_rest, 60, "no scope holds anything, and all have spent what the ledger has")
        assert all(answer.status == 200 for answer in flood(served, keys, 12))
        note("quotas after kills of workers", kills=KILLS, answered=done, at_rest_s=took)


PROGRAM = """
import sys, time
from pathlib import Path
from beffroi.core.clock import SystemClock
from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, MappedCounters, Used

shared = MappedCounters(Path(sys.argv[1]), worker=int(sys.argv[2]), workers=2, clock=SystemClock())
tight = Limits(requests_per_minute=3, requests_per_hour=4, hard_budget=30, budget_period="day", monthly_cap=1000)
shared.know([QuotaRecord("quo_1", 1, "full", terms=(Dated(0, tight),)),
             QuotaRecord("quo_2", 2, "free", terms=(Dated(0, Limits(requests_per_minute=1000, hard_budget=10**9)),))])
keys = {name: KeyRecord(name, name, b"", 1, 5 + n, name) for n, name in enumerate(("full", "free"))}
print("ready", flush=True)
for line in sys.stdin:
    try:
        shared.settle(shared.reserve(keys[line.strip()], "m", None, Ask(1, 1, 10, 0)), Used(1, 1, 10))
        said = "yes"
    except LimitExceeded as error:
        said = error.limit
    print(said, time.time(), flush=True)
"""


class Clocked:
    """A worker's counters in a process whose wall clock a file sets."""

    def __init__(self, folder: Path, number: int) -> None:
        self.offset = folder / f"clock{number}"
        self.set("+0")
        command = [sys.executable, "-c", PROGRAM, str(folder / "counters.bin"), str(number)]
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        env = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.offset), "FAKETIME_NO_CACHE": "1",
               "DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(ROOT / "src")}  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | env
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def set(self, offset: str) -> None:
        """`+3600`: an hour on."""
        self.offset.write_text(offset)

    def ask(self, key: str) -> tuple[str, float]:
        """What came of a request, and the process's own wall clock."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{key}\n")
        self.process.stdin.flush()
        said, at = self.process.stdout.readline().split()
        return said, float(at)


@pytest.fixture
def clocked(folder: Path) -> Iterator[Callable[[int], Clocked]]:
    """A factory; the processes end with the test."""
    program("faketime")
    made: list[Clocked] = []

    def start(number: int) -> Clocked:
        made.append(Clocked(folder, number))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.communicate()


@pytest.mark.chaos
@pytest.mark.timeout(60)
@pytest.mark.parametrize("steps", [("+3600", "-3600"), ("-90000", "+0.5")])
def test_a_wall_clock_that_steps_neither_opens_nor_stops_a_limit(
    clocked: Callable[[int], Clocked], steps: tuple[str, ...]
) -> None:
    """G6, on a real process: an hour, a day, and half a second as NTP does it; one worker's clock or both."""
    wrong, right = clocked(0), clocked(1)
    assert [wrong.ask("full")[0] for _ in range(3)] == ["yes"] * 3
    assert right.ask("full")[0] == "hard_budget"
    for step in steps:
        wrong.set(step)
        time.sleep(1.1)  # it looks at its wall clock once a second
        said, at = wrong.ask("full")
        assert said == "hard_budget"
        assert abs(at - time.time() - float(step)) < 2
        assert right.ask("full")[0] == "hard_budget"
        assert [each.ask("free")[0] for each in (wrong, right) for _ in range(20)] == ["yes"] * 40
    right.set(steps[0])
    time.sleep(1.1)
    assert right.ask("full")[0] == "hard_budget"
    assert right.ask("free")[0] == "yes"
