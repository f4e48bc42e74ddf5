# SPDX-License-Identifier: Apache-2.0
"""`beffroi bench`: a bounded load, on the embedded engine and on one that misbehaves."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from beffroi.cli.bench.client import Client, Place
from beffroi.cli.bench.figures import Figures, Plan, quantile
from beffroi.cli.bench.load import Load
from beffroi.cli.web import Gateway
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, free_port, wait_for
from tests.tiny import SMALL, client

BENCH = ("-m", "beffroi", "bench")


def test_a_load_is_counted_and_measured(tiny: Served) -> None:
    """All requests answered; times in order; tokens by the engine's own count; each in the ledger."""
    before = tiny.cli("usage")["usage"]
    done = client(tiny, *BENCH, "-n", "30", "-c", "3", "--max-tokens", "20", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["requests"] == {"answered": 30, "failed": 0, "cut": 0, "stopped": False}
    assert found["model"] == SMALL and found["faults"] == {}
    for part in ("first_token_seconds", "between_tokens_seconds", "whole_answer_seconds"):
        figures = list(found[part].values())
        assert figures == sorted(figures) and figures[0] >= 0, part
    assert found["first_token_seconds"]["p50"] <= found["whole_answer_seconds"]["p50"]
    assert 30 <= found["tokens"]["output"] <= 600
    assert found["requests_per_second"] == pytest.approx(30 / found["seconds"], rel=0.01)

    def made() -> int:
        rows = tiny.cli("usage")["usage"]
        return sum(row["output_tokens"] for row in rows) - sum(row["output_tokens"] for row in before)

    deadline = time.monotonic() + 10
    while made() < found["tokens"]["output"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert made() - found["tokens"]["output"] <= 1, "the ledger has what the bench counted, and the one trial before it"


def test_people_read_a_table_and_programs_csv(tiny: Served) -> None:
    """Plain in a pipe; microseconds in CSV."""
    done = client(tiny, *BENCH, "-n", "4", "-c", "2", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert f"{SMALL} at http://127.0.0.1:{tiny.port}/v1, streamed, 2 at once" in done.stdout
    assert "4 answered, 0 failed" in done.stdout and "tokens/s made" in done.stdout
    heading = next(line for line in done.stdout.splitlines() if line.startswith("MEASURE"))
    assert heading.split() == ["MEASURE", "P50", "P90", "P99", "MAX"]
    done = client(tiny, *BENCH, "-n", "4", "-c", "2", "--max-tokens", "8", "--plain", "--csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["measure"] == "whole answer" and int(row["p50_us"]) > 0, "a plain answer has no first token"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-n", "0"), "0 is not in the range"),
        (("-c", "5", "-n", "3"), "5 clients cannot share 3 requests"),
        (("--seconds", "0"), "not in the range"),
        (("--max-tokens", "-1"), "not in the range"),
        (("--url", "ftp://x"), "is no URL of an API"),
        (("--url", "http://127.0.0.1:99999"), "is no URL of an API"),
    ],
)
def test_nonsense_is_refused(tiny: Served, arguments: tuple[str, ...], said: str) -> None:
    """Before a request is sent; status 2."""
    done = client(tiny, *BENCH, *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_wrong_key_a_wrong_model_and_nobody_there_are_told_before_the_load(tiny: Served) -> None:
    """One sentence, status 1, and what to do."""
    for arguments, said in (
        (("--key", "bf-wrong"), "beffroi keys create"),
        (("--model", "granite"), f"did you mean {SMALL}?"),
        (("--url", f"http://127.0.0.1:{free_port()}"), "beffroi serve"),
    ):
        done = client(tiny, *BENCH, *arguments)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    done = client(tiny, *BENCH, BEFFROI_API_KEY="")
    assert done.returncode == 2 and "BEFFROI_API_KEY" in done.stderr


def test_requests_that_fail_are_counted_by_why(tiny: Served) -> None:
    """A key with five requests a minute: the trial, the list and the answered ones use it up."""
    key = tiny.new_key(requests_per_minute=5)
    done = client(tiny, *BENCH, "-n", "12", "-c", "2", "--max-tokens", "4", "--json", BEFFROI_API_KEY=key)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["requests"]["answered"] == 4 and found["faults"] == {"429 rate_limit_exceeded": 8}


def test_ctrl_c_ends_it_early_and_shows_what_there_is(tiny: Served) -> None:
    """Within seconds."""
    command = [sys.executable, *BENCH, "-n", "1000000", "--seconds", "600", "--json"]
    told = {"PYTHONPATH": str(ROOT / "src"), "BEFFROI_API_KEY": tiny.key, "BEFFROI_DATA": str(tiny.data)}
    before = tiny.metric("beffroi_requests_total")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | told) as running:
        wait_for(lambda: tiny.metric("beffroi_requests_total") > before + 20, 20, "the load is on")
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=10)
    found = json.loads(out)
    assert found["requests"]["stopped"] is True and found["requests"]["answered"] > 0
    assert found["url"] == f"http://127.0.0.1:{tiny.port}/v1", "found by the data directory's own word"


# --- the client itself, against an engine that follows a script --------------------------------------------------------


@pytest.fixture
def load(engine: ScriptedEngine) -> Callable[..., Figures]:
    """Puts a load straight on the scripted engine."""

    def run(*faults: str, **changes: object) -> Figures:
        engine.script(*faults)
        bounds = {
            "concurrency": 1,
            "requests": 1,
            "seconds": 5.0,
            "streamed": True,
            "max_tokens": 8,
            "prompt": "hello there",
        }
        plan = Plan("words", **(bounds | changes))  # type: ignore[arg-type]
        return asyncio.run(Load(Gateway(f"{engine.url}/v1", "k"), plan, lambda _: None).run())

    return run


def test_gaps_and_first_tokens_are_those_of_the_stream(load: Callable[..., Figures]) -> None:
    """An engine that waits 50 ms between its pieces."""
    figures = load("gap=0.05")
    assert figures.answered == 1 and len(figures.first) == 1
    assert all(0.03 < gap < 5 for gap in figures.gaps) and len(figures.gaps) >= 1
    assert figures.total[0] >= figures.first[0] + sum(figures.gaps) - 0.001


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("status=503", "503"),
        ("close;rst", "connection"),
        ("cut_after=1", "connection lost"),
        ("no_done", "without [DONE]"),
    ],
)
def test_each_way_to_fail_has_its_name(load: Callable[..., Figures], fault: str, why: str) -> None:
    """And the connection is opened again for the next request."""
    figures = load(fault, requests=2)
    assert (figures.answered, figures.failed) == (1, 1), figures.faults
    assert why in next(iter(figures.faults)), figures.faults


def test_when_time_is_up_what_is_open_is_cut(load: Callable[..., Figures]) -> None:
    """An engine that is silent: the load ends after its time and as much again."""
    began = time.monotonic()
    figures = load("hang", seconds=0.5)
    assert (figures.answered, figures.cut) == (0, 1) and time.monotonic() - began < 10


def test_one_request_has_its_own_limit(engine: ScriptedEngine) -> None:
    """A client that waits in vain says so."""
    engine.script("hang")

    async def ask() -> str:
        one = Client(Place(engine.host, engine.port, None, ""))
        return (
            await one.ask(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 0.3)
        ).fault

    assert asyncio.run(ask()) == "no answer in 0.3 s"


def test_quantiles_are_values_that_occurred() -> None:
    """The nearest rank."""
    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, part) for part in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert quantile([7.0], 0.5) == 7 and quantile([], 0.5) is None
