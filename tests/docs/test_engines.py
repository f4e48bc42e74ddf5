# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/engines.md: each configuration serves the model that it names, from an engine at the port that it names.

llama.cpp is the real server; the others are a scripted engine, as the page says.
"""

import base64
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from beffroi.config.compile import compile_config
from beffroi.config.load import parse
from beffroi.supervisor.engines import USUAL
from tests.docs.blocks import of
from tests.docs.terminal import Terminal
from tests.harness import KEY, ROOT, program

PAGE = "docs/how-to/engines.md"
HERE = str(Path(sys.executable).parent)
HEADINGS = ("Ollama", "vLLM", "SGLang", "llama.cpp")


def configuration(heading: str) -> str:
    """The YAML under a heading."""
    return next(block.text for block in of(PAGE, "yaml") if block.heading == heading)


@pytest.fixture
def terminal(folder: Path) -> Terminal:
    """With the programs of this environment."""
    program("curl")
    place = folder / "here"
    place.mkdir()
    return Terminal(place, {"PATH": f"{HERE}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"})


def engine(terminal: Terminal, heading: str, port: int, model: str) -> None:
    """Start one in the terminal's network; returns when it answers its list of models."""
    if heading == "llama.cpp":
        gguf = ROOT / "src/beffroi/embedded/tiny.gguf"
        told = json.dumps({"model": str(gguf), "alias": model, "host": "127.0.0.1", "port": port, "ready_fd": 3})
        command = f"BEFFROI_CHILD='{told}' python -c 'from beffroi.embedded.process import main; main()' 3>ready"
    else:
        command = f"python -m tests.engines.scripted --port {port} --models '{model}'"
    terminal.enter(f"{command} >engine.log 2>&1 &")
    terminal.enter(
        f"for try in $(seq 100); do curl -sf http://127.0.0.1:{port}/v1/models && break; sleep 0.1; done; "
        f"curl -sf http://127.0.0.1:{port}/v1/models"
    )


def ask(terminal: Terminal, model: str, key: str) -> str:
    """One question, by the public name."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is 2 + 3?"}]})
    return terminal.enter(
        f"curl -sf http://127.0.0.1:8400/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'"
    )


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_configuration_of_an_engine_serves_its_model(terminal: Terminal, heading: str) -> None:
    """By its public name, at the engine's usual port, under the name that the engine knows."""
    text = configuration(heading)
    told = yaml.safe_load(text)["resources"]
    (one,), (model,) = told["engines"], told["models"]
    with terminal:
        engine(terminal, heading, urlsplit(one["url"]).port or 0, model["targets"][0]["model"])
        (terminal.folder / "beffroi.yaml").write_text(text)
        found = KEY.search(terminal.serve("beffroi serve --config beffroi.yaml"))
        assert found
        answer = json.loads(ask(terminal, model["id"], found[0]))
        assert answer["model"] == model["id"]
        assert answer["backend"] == {"engine_type": one["kind"], "machine_name": one["name"]}
        if heading != "llama.cpp":
            heard = terminal.enter(f"curl -s {one['url']}/requests")
            assert any(
                json.loads(base64.b64decode(request["body"]))["model"] == model["targets"][0]["model"]
                for request in json.loads(heard)
                if request["method"] == "POST"
            )
        terminal.interrupt()


def test_the_short_way_serves_all_that_an_engine_has(terminal: Terminal) -> None:
    """The command of the page, and a start without any option finds the same engine."""
    (block,) = [block for block in of(PAGE, "sh") if block.heading == "The short way"]
    with terminal:
        engine(terminal, "vLLM", 8000, "one,two")
        found = KEY.search(terminal.serve(block.text))
        assert found
        assert json.loads(ask(terminal, "two", found[0]))["model"] == "two"
        assert "found on this machine" in terminal.serve("beffroi serve")
        terminal.interrupt()


def test_several_engines_behind_one_model_are_one_pool() -> None:
    """It compiles, and the key is taken from the environment."""
    text = configuration("Several engines behind one model")
    config = compile_config([parse(text, "example.yaml")], 1, {"GPU_KEY": "k"})
    assert [len(model.targets) for model in config.models] == [2]
    assert {engine.api_key for engine in config.engines} == {"k"}


def test_the_page_names_the_ports_that_are_looked_at() -> None:
    """As the code has them."""
    page = " ".join((ROOT / PAGE).read_text("utf-8").split())
    for name, port in USUAL.items():
        assert re.search(rf"{port} \({name}\)", page), name
