# SPDX-License-Identifier: Apache-2.0
"""Fallbacks through the whole: an engine that fails, another model that serves, and a budget exact to the nano-unit."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client import Answer, Conn, call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, free_port, wait_for

OWN, THEIRS = 1_000, 9_000  # nano-euro for each token made: 1 € and 9 € a million
BODY = chat("hello", model="own", max_tokens=30)


class Chain:
    """A running Beffroi whose model `own` is on a bad engine and falls back on `other`, which is dearer."""

    def __init__(self, folder: Path, bad: ScriptedEngine, good: ScriptedEngine) -> None:
        self.bad, self.good = bad, good
        self.served = Served(
            folder / "data",
            {"bad": bad.url, "good": good.url, "absent": f"http://127.0.0.1:{free_port()}"},
            workers=2,
            models=[
                {"id": "own", "targets": [{"engine": "bad"}], "prices": [{"output": 1}], "fallbacks": ["other"]},
                {"id": "other", "targets": [{"engine": "good", "model": "org/Other"}], "prices": [{"output": 9}]},
                {"id": "gone", "targets": [{"engine": "absent"}], "fallbacks": ["other"]},
            ],
        ).start()

    def ask(self, key: str, **more: object) -> Answer:
        """One request for the model that fails."""
        return call(self.served.address, request(key, BODY | more))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One for all tests of this file."""
    with ExitStack() as stack:
        bad, good = stack.enter_context(ScriptedEngine()), stack.enter_context(ScriptedEngine())
        bad.always("status=500")
        made = Chain(tmp_path_factory.mktemp("f"), bad, good)
        stack.callback(made.served.kill)
        yield made


def test_the_bill_is_that_of_the_model_which_served(chain: Chain) -> None:
    """Failed attempts have rows of their own that cost nothing; the client reads who answered."""
    failed, told = [], ""
    for streamed in (True, False, True, False):
        answer = chain.served.chat(model="own", stream=streamed)
        assert answer.status == 200
        assert (answer.chunks[0] if streamed else answer.json)["model"] == "other"
        name = answer.get("x-request-id") or ""
        *before, last = chain.served.settled([name])[name]
        failed += before
        told = told or (timeline(chain, name) if before else "")
        assert (last["model"], last["engine"], last["outcome"]) == ("other", "good", "complete")
        assert last["output_nano"] == last["output_tokens"] * THEIRS > 0
    assert {(row["model"], row["engine"], row["output_nano"]) for row in failed} == {("own", "bad", 0)}
    assert chain.good.generations()[-1].json["model"] == "org/Other"
    assert "own on bad (openai), then other on good (openai)" in told


def test_an_engine_that_is_not_there_is_a_failure_too(chain: Chain) -> None:
    """Nothing listens on its port."""
    assert chain.served.chat(model="gone").json["model"] == "other"


def test_a_hard_budget_is_held_at_the_dearest_and_never_passed(chain: Chain) -> None:
    """One request's bound at the dear price is admitted, and not one nano-unit less."""
    held = 30 * THEIRS + 2
    for budget, status in ((held, 200), (held - 1, 429)):
        key = chain.served.new_key(hard_budget=f"{budget / 1e9:.9f}", budget_period="total")
        assert chain.ask(key).status == status


def test_a_budget_over_many_fallbacks_at_once_is_spent_exactly(chain: Chain) -> None:
    """Forty requests in parallel over two workers: what was admitted was billed, and the sum is within the budget."""
    budget = 5 * (30 * THEIRS + 2)
    key = chain.served.new_key(hard_budget=f"{budget / 1e9:.9f}", budget_period="total")
    chain.good.always("tokens=30;first=0.05")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: chain.ask(key), range(40)))
    chain.good.always()
    names = [answer.get("x-request-id") or "" for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 429}
    rows = chain.served.settled(names)
    spent = sum(row["output_nano"] for name in names for row in rows[name])
    assert spent == len(names) * 30 * THEIRS == 5 * 30 * THEIRS
    (found,) = [one for one in chain.served.cli("keys", "list") if one["name"] == key_name(chain, key)]
    assert found["limits"]["hard_budget"] == budget


def test_a_client_who_leaves_a_fallback_frees_what_it_held(chain: Chain) -> None:
    """The reservation of the dearest comes back whole but for what was made."""
    key = chain.served.new_key(hard_budget=f"{(30 * THEIRS + 2 + 29 * THEIRS) / 1e9:.9f}", budget_period="total")
    chain.good.always("tokens=25;gap=0.1")
    with Conn(chain.served.address) as client:
        client.send(request(key, BODY | {"stream": True}))
        client.answer(until=lambda answer: len(answer.events) > 2)
        assert chain.ask(key).status == 429, "while it runs the dearest bound is held"
    chain.good.always()
    wait_for(lambda: chain.ask(key).status == 200, 5, "what it held is free")
    assert chain.served.cli("journal", "verify")["ok"] is True


def timeline(chain: Chain, request_id: str) -> str:
    """What `beffroi requests show` prints."""
    command = [sys.executable, "-m", "beffroi", "requests", "show", request_id, "--data", str(chain.served.data)]
    return subprocess.run(command, env=chain.served.env, capture_output=True, text=True, timeout=30, check=True).stdout


def key_name(chain: Chain, key: str) -> str:
    """The name of a key, by its public part."""
    (found,) = [one for one in chain.served.cli("keys", "list") if one["public"] in key]
    return str(found["name"])
