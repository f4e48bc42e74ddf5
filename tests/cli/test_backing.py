# SPDX-License-Identifier: Apache-2.0
"""Which engines stand behind a start, and starts that are refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from beffroi.cli.backing import choose
from beffroi.cli.serve import serve
from beffroi.config.load import EMPTY, parse
from beffroi.supervisor import engines
from tests.engines.scripted import ScriptedEngine


def test_engines_of_the_file_are_taken_as_they_are(folder: Path) -> None:
    """Nothing is looked for beside them."""
    source = parse("resources: {engines: [{name: a, url: 'http://127.0.0.1:1'}]}", "f.yaml")
    backing = choose((), source, folder)
    assert (backing.resources, backing.engine, backing.line) == (None, None, "a")


def test_an_engine_that_is_found_is_served_and_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """And the embedded one is not started."""
    found = engines.Found("ollama", "http://127.0.0.1:11434", "ollama", (engines.Served("llama3:8b", None),))
    monkeypatch.setattr(engines, "on_loopback", lambda: [found])
    backing = choose((), EMPTY, folder)
    assert backing.resources is not None
    assert [model["id"] for model in backing.resources["models"]] == ["llama3:8b"]
    assert backing.engine is None
    assert backing.line == "ollama at http://127.0.0.1:11434 (found on this machine)"


def test_where_there_is_none_our_own_is_started(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The line says where was looked."""
    monkeypatch.setattr(engines, "on_loopback", list)
    backing = choose((), EMPTY, folder)
    assert backing.resources is not None
    assert backing.engine is not None
    assert [model["id"] for model in backing.resources["models"]] == ["beffroi-tiny"]
    assert "11434 (Ollama)" in backing.line


def test_our_own_can_be_asked_for_beside_others(engine: ScriptedEngine, folder: Path) -> None:
    """`--engine embedded`, once more than one is wanted."""
    backing = choose(("embedded", engine.url), EMPTY, folder)
    assert backing.resources is not None
    assert backing.engine is not None
    assert [one["name"] for one in backing.resources["engines"]] == ["embedded", "openai"]
    assert [model["id"] for model in backing.resources["models"]] == ["beffroi-tiny", "words"]


def test_what_the_file_says_of_a_model_counts(engine: ScriptedEngine, folder: Path) -> None:
    """A model that stands in the file, or an alias of one, is not added a second time."""
    source = parse("resources: {models: [{id: mine, aliases: [words]}]}", "f.yaml")
    backing = choose((engine.url,), source, folder)
    assert backing.resources is not None
    assert backing.resources["models"] == []
    assert len(backing.resources["engines"]) == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("server: {prot: 1}", "f.yaml:1:10: server.prot"),
        ("server: {control_host: 0.0.0.0}", "control port must stay on loopback"),
    ],
)
def test_a_start_that_is_refused_says_why_and_makes_nothing(folder: Path, document: str, reason: str) -> None:
    """Status 2, no traceback, no data directory."""
    (folder / "f.yaml").write_text(document)
    done = CliRunner().invoke(serve, ["--config", str(folder / "f.yaml"), "--data", str(folder / "data")])
    assert done.exit_code == 2
    assert reason in done.output
    assert not (folder / "data").exists()
