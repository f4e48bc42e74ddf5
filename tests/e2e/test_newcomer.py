# SPDX-License-Identifier: Apache-2.0
"""What a newcomer meets: `beffroi serve` with no file and no engine, the embedded engine behind it, and the pasted examples."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import Broken, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import KEY, Served, alive, free_port, get, program, tree, wait_for

Start = Callable[..., Served]
CURL = re.compile(r"^curl (?:.+\n)+", re.MULTILINE)
PYTHON = re.compile(r"^(?:import os; )?from openai import .*\n(?:.+\n)+", re.MULTILINE)


@pytest.fixture
def newcomer(serve: Start) -> Served:
    """A first start."""
    served = serve(bare=True, arguments=("--engine", "embedded"), workers=2)
    wait_for(lambda: "Ctrl-C stops" in served.output, 10, "the page is printed")
    return served


def paste(command: list[str], served: Served) -> str:
    """What an example prints."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"BEFFROI_API_KEY": served.key},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_it_prints_works_as_pasted(newcomer: Served) -> None:
    """The curl command answers, the five lines of Python stream, and both are in the books under the key that was printed."""
    program("curl")
    (line,) = CURL.findall(newcomer.output)
    answer = json.loads(paste(["sh", "-c", line], newcomer))
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["model"] == "beffroi-tiny"
    assert answer["backend"]["engine_type"] == "llamacpp"
    (example,) = PYTHON.findall(newcomer.output)
    assert example.count("\n") == 5
    assert paste([sys.executable, "-c", example], newcomer).startswith("Once upon a time")
    wait_for(lambda: len(newcomer.ledger()) == 2, 10, "two rows in the ledger")


def test_a_second_start_finds_everything_again(newcomer: Served) -> None:
    """The same key works and is not shown again; what it used is still known."""
    answer = newcomer.chat("What is 2 + 3?", model="beffroi-tiny")
    assert answer.text == "2 + 3 = 5"
    assert newcomer.stop() == 0
    first = newcomer.output
    newcomer.start()
    wait_for(lambda: newcomer.output.count("Ctrl-C stops") == 2, 10, "the page is printed again")
    second = newcomer.output.removeprefix(first)
    assert len(KEY.findall(first)) == 3
    assert KEY.findall(second) == []
    assert "keys create" in second
    (line,) = CURL.findall(second)
    assert "Paris" in paste(["sh", "-c", line], newcomer)
    (example,) = PYTHON.findall(second)
    assert paste([sys.executable, "-c", example], newcomer).startswith("Once upon a time")
    wait_for(lambda: len(newcomer.ledger()) == 3, 10, "three rows in the ledger")


def test_ctrl_c_finishes_open_answers_first(beffroi: Served, engine: ScriptedEngine) -> None:
    """A stream that runs comes whole while new connections are refused; then nothing is left."""
    pids = tree(beffroi.pid)
    engine.always("gap=0.1")
    with beffroi.connect() as client, ThreadPoolExecutor() as pool:
        client.send(request(beffroi.key, chat("word " * 20, stream=True)))
        reading = pool.submit(client.answer)
        wait_for(lambda: engine.stats["open"] == 1, 5, "the stream runs")
        assert beffroi.popen
        beffroi.popen.send_signal(signal.SIGINT)
        wait_for(lambda: get(beffroi.port, "/livez")[0] == 0, 1, "the port is closed")
        assert not reading.done()
        assert reading.result(20).events[-1] == b"[DONE]"
        assert beffroi.popen.wait(5) == 0
    assert not any(alive(pid) for pid in pids)
    beffroi.start()
    (row,) = beffroi.settled([reading.result().get("x-request-id") or ""]).values()
    assert row[0]["outcome"] == "complete"


def test_a_second_ctrl_c_cuts_them(beffroi: Served, engine: ScriptedEngine) -> None:
    """Whoever cannot wait does not have to; what was cut is settled."""
    engine.always("gap=0.5")
    with beffroi.connect() as client, ThreadPoolExecutor() as pool:
        client.send(request(beffroi.key, chat("word " * 200, stream=True)))
        reading = pool.submit(client.answer)
        wait_for(lambda: engine.stats["open"] == 1, 5, "the stream runs")
        assert beffroi.popen
        beffroi.popen.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            beffroi.popen.wait(1)
        beffroi.popen.send_signal(signal.SIGINT)
        assert beffroi.popen.wait(5) == 0
        with contextlib.suppress(Broken):
            assert b"[DONE]" not in reading.result(5).events
    beffroi.start()
    wait_for(lambda: len(beffroi.ledger()) == 1, 5, "one row in the ledger")
    (row,) = beffroi.ledger()
    assert row["outcome"] != "complete"


def test_after_kill_9_of_the_whole_tree_it_is_ready_again_within_two_seconds(newcomer: Served) -> None:
    """Engine, control and workers."""
    newcomer.kill()
    began = time.monotonic()
    newcomer.start()
    assert time.monotonic() - began < 2.0 * patience()
    assert newcomer.chat("What is 1 + 1?", model="beffroi-tiny").status == 200


def patience() -> float:
    """How much slower this machine is now than when it is idle: other work shares its cores."""
    began = time.perf_counter()
    sum(range(3_000_000))
    return max(1.0, (time.perf_counter() - began) / 0.05)


def test_an_engine_that_dies_is_replaced_and_requests_go_on(newcomer: Served) -> None:
    """The supervisor starts another on the same socket; the pool takes it back."""
    (engine,) = newcomer.children("beffroi.embedded")
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: newcomer.chat("What is 1 + 1?", model="beffroi-tiny").status == 200, 10, "answers again")


def test_embeddings_are_served_by_the_same_engine(newcomer: Served) -> None:
    """With usage, and the same vector for the same text."""
    from openai import OpenAI

    with OpenAI(base_url=f"http://127.0.0.1:{newcomer.port}/v1", api_key=newcomer.key) as client:
        texts = ["the cat is here", "Bonjour le monde."]
        answer = client.embeddings.create(model="beffroi-tiny", input=texts)
        alone = client.embeddings.create(model="beffroi-tiny", input=texts[0])
    assert answer.usage.prompt_tokens > 0
    assert alone.data[0].embedding == pytest.approx(answer.data[0].embedding, abs=1e-4)


def test_an_engine_that_is_not_there_is_an_error_in_words(serve: Start) -> None:
    """Status 1, the URL, and what to do."""
    served = serve(bare=True, arguments=("--engine", f"http://127.0.0.1:{free_port()}"), ready=False)
    assert served.popen is not None
    assert served.popen.wait(20) == 1
    assert "No engine answers at http://127.0.0.1:" in served.output
    assert "Traceback" not in served.output
