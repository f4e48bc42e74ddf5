# SPDX-License-Identifier: Apache-2.0
"""What files of other gateways become serves.

Every model and alias answers, engines hear the names and keys they know, and the ledger has the prices.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.importer.conftest import Imported, Importer
from tests.client import Answer, call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served


class Moved(NamedTuple):
    """A Beffroi that serves an imported file, with the engines behind it by name of their host."""

    served: Served
    engines: dict[str, ScriptedEngine]
    imported: Imported

    def heard(self, host: str) -> tuple[str, str | None]:
        """The model and the key of the last request that an engine got."""
        last = self.engines[host].generations()[-1]
        return last.json["model"], last.get("authorization")

    def ask(self, model: str, key: str | None = None) -> Answer:
        """One chat request."""
        return call(self.served.address, request(key or self.served.key, chat(model=model)))

    def embed(self, model: str) -> Answer:
        """One embeddings request."""
        body = {"model": model, "input": "hello there"}
        return call(self.served.address, request(self.served.key, body, path="/v1/embeddings"))

    def cost(self, answer: Answer, *, input: int, output: int = 0) -> str:  # noqa: A002  # as the price list names it
        """What an answer must cost at prices in nano-units per token, and what the ledger says."""
        name = answer.get("x-request-id") or ""
        row = self.served.settled([name])[name][-1]
        usage = answer.json["usage"]
        expected = usage["prompt_tokens"] * input + usage.get("completion_tokens", 0) * output
        assert sum(row[f"{kind}_nano"] for kind in ("input", "cached", "output", "reasoning")) == expected > 0
        return str(row["currency"])


def moved(
    folder: Path, stack: ExitStack, sample: str, keys: dict[str, str | None], env: dict[str, str], *options: str
) -> Moved:
    """Import a sample, its hosts replaced by scripted engines that want the given keys, and serve it."""
    engines = {host: stack.enter_context(ScriptedEngine(api_key=key)) for host, key in keys.items()}
    importer = Importer(folder)
    places = {host: engine.url for host, engine in engines.items() if host != "qwen"}
    urls = {"QWEN_BASE": f"{engines['qwen'].url}/v1"} if "qwen" in engines else {}
    kind = sample.partition("-")[0]
    done = importer(kind, importer.sample(sample, **places), *options, env=env | urls)
    assert done.config.exists(), done.output + done.error
    served = Served(folder / "data", bare=True, arguments=("--config", str(done.config)), env=env)
    stack.callback(served.kill)
    served.start()
    return Moved(served, engines, done)


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """The university's file."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("c")
        keys = {"gpu1": "ck-1", "gpu2": "ck-1", "embed": None}
        listing = str(Path(__file__).parent / "samples" / "litellm-keys.json")
        yield moved(folder, stack, "litellm-campus.yaml", keys, {"CAMPUS_VLLM_KEY": "ck-1"}, "--keys", listing)


@pytest.fixture(scope="module")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """The agency's file; its keys of engines stand in files now."""
    with ExitStack() as stack:
        keys = {"qwen": "sk-qwen-4f81b7c2", "desk": None, "vault": "vk-0c9d55e1"}
        yield moved(tmp_path_factory.mktemp("a"), stack, "litellm-agency.yaml", keys, {})


@pytest.fixture(scope="module")
def ministry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """The ministry's file."""
    with ExitStack() as stack:
        keys = {"h100_a": "mk-9", "h100_b": "mk-9", "tei": "tei-5d1f0a"}
        yield moved(tmp_path_factory.mktemp("m"), stack, "opengatellm-ministry.yml", keys, {"VLLM_KEY": "mk-9"})


def test_deployments_of_one_name_are_one_pool(campus: Moved) -> None:
    """Both machines get requests, with the key that the environment has and the name they know."""
    answers = [campus.ask(model) for model in ["campus-chat", "gpt-4o-mini"] * 12]
    assert [answer.status for answer in answers] == [200] * 24
    assert {answer.json["model"] for answer in answers} == {"campus-chat"}
    for host in ("gpu1", "gpu2"):
        assert campus.heard(host) == ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "Bearer ck-1")


def test_prices_per_token_are_the_ledgers_prices(campus: Moved) -> None:
    """1.5e-07 and 6e-7 dollars a token are 150 and 600 nano-dollars, to the last one."""
    answer = campus.ask("campus-chat")
    assert campus.cost(answer, input=150, output=600) == "USD"


def test_embeddings_are_served_under_both_names_and_chat_is_not(campus: Moved) -> None:
    """The mode of the old file says what the model can be asked for; a placeholder of a key is not sent."""
    for name in ("bge-m3", "text-embedding-3-small"):
        answer = campus.embed(name)
        assert answer.status == 200, answer.body
        assert campus.heard("embed") == ("BAAI/bge-m3", None)
        assert campus.cost(answer, input=20) == "USD"
    assert campus.ask("bge-m3").status in (400, 404)


def test_the_script_makes_keys_that_hold_their_limits(campus: Moved) -> None:
    """Run as the report says: a name and a key a line, and the third request of a minute is refused."""
    script = campus.imported.folder / "beffroi-keys.sh"
    done = subprocess.run(
        ["sh", str(script), "one more"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ
        | {
            "BEFFROI": f"{sys.executable} -m beffroi",
            "BEFFROI_DATA": str(campus.served.data),
            "PYTHONPATH": str(ROOT / "src"),
        },
    )
    assert done.returncode == 0, done.stderr
    keys = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(keys) == ["timetable bot", "library's search", "one more"]
    bot = [campus.ask("campus-chat", keys["timetable bot"]).status for _ in range(3)]
    assert bot == [200, 200, 429]
    assert campus.ask("bge-m3", keys["timetable bot"]).status == 403
    assert campus.ask("campus-chat", keys["one more"]).status == 200
    limits = {key["name"]: key for key in campus.served.cli("keys", "list")}
    assert limits["timetable bot"]["limits"] == {
        "requests_per_minute": 2,
        "tokens_per_minute": 20_000,
        "concurrency": 4,
        "soft_budget": 20_500_000_000,
        "budget_period": "month",
    } | {name: value for name, value in limits["timetable bot"]["limits"].items() if value is None}


def test_keys_from_the_file_reach_their_engines_and_the_file_is_clean(agency: Moved) -> None:
    """A literal key and one of `environment_variables` stand in files of mode 0600; the configuration names them."""
    assert agency.ask("assistant").status == 200
    assert agency.heard("qwen") == ("Qwen/Qwen3-32B", "Bearer sk-qwen-4f81b7c2")
    assert agency.ask("vault").status == 200
    assert agency.heard("vault") == ("google/gemma-3-27b-it", "Bearer vk-0c9d55e1")
    written = agency.imported.config.read_text() + agency.imported.output
    assert not [
        secret for secret in ("sk-qwen-4f81b7c2", "vk-0c9d55e1", "sk-proj-9a77c3d1e0", "sk-agency") if secret in written
    ]
    secrets = agency.imported.folder / "beffroi.secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in secrets.iterdir()] == [0o600, 0o600]


def test_an_alias_serves_and_what_was_remote_does_not(agency: Moved) -> None:
    """`best` is `assistant`; names of services that are somebody else's are unknown."""
    answer = agency.ask("best")
    assert (answer.status, answer.json["model"]) == (200, "assistant")
    assert agency.cost(answer, input=500, output=2000) == "USD"
    assert agency.ask("drafts").status == 200
    assert agency.heard("desk")[0] == "qwen3:4b"
    assert [agency.ask(name).status for name in ("gpt-4o", "gpt-4", "claude", "dictation")] == [404] * 4


def test_its_fallbacks_serve(agency: Moved) -> None:
    """The engine of `assistant` fails: `vault` answers, and the ledger has a row for each."""
    agency.engines["qwen"].always("status=503")
    answer = agency.ask("best")
    agency.engines["qwen"].always()
    assert (answer.status, answer.json["model"]) == (200, "vault")
    name = answer.get("x-request-id") or ""
    rows = agency.served.settled([name])[name]
    assert [row["model"] for row in rows] == ["assistant"] * (len(rows) - 1) + ["vault"]


def test_a_file_of_opengatellm_serves(ministry: Moved) -> None:
    """One pool of two machines, both other names, euros a million tokens, and embeddings with a key of their own."""
    for name in ["ministry-large", "openweight-large", "chat"] * 6:
        answer = ministry.ask(name)
        assert (answer.status, answer.json["model"]) == (200, "ministry-large")
    for host in ("h100_a", "h100_b"):
        assert ministry.heard(host) == ("openai/gpt-oss-120b", "Bearer mk-9")
    assert ministry.cost(answer, input=250, output=1100) == "EUR"
    answer = ministry.embed("embeddings")
    assert answer.status == 200
    assert ministry.heard("tei") == ("BAAI/bge-m3", "Bearer tei-5d1f0a")
    assert ministry.cost(answer, input=10) == "EUR"
    assert ministry.ask("transcription").status == 404
