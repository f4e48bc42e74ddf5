# SPDX-License-Identifier: Apache-2.0
"""`beffroi init`: a small file from five answers or from options, never over another."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from beffroi.cli.data import data_directory
from beffroi.cli.main import main
from beffroi.config.examine import examine
from beffroi.config.load import load
from beffroi.config.schema import Document
from beffroi.supervisor import engines
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, free_port


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory on a machine without engines."""
    for name in ("BEFFROI_CONFIG", "BEFFROI_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(engines, "on_loopback", list)
    return folder


def run(*arguments: str) -> Result:
    """One command without a terminal."""
    return CliRunner().invoke(main, ["init", *arguments])


def test_without_an_engine_the_file_says_so_and_changes_nothing(here: Path) -> None:
    """Beffroi looks for one itself; what to do next is printed."""
    done = run()
    assert done.exit_code == 0, done.output
    assert load(here / "beffroi.yaml", {}).document == Document()
    assert "No engine here" in (here / "beffroi.yaml").read_text()
    assert "Wrote beffroi.yaml" in done.output and "config check" in done.output and "serve" in done.output


def test_the_engines_found_on_this_machine_are_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their dialect, models and context; a model that two of them have gets both."""
    vllm = engines.Found("vllm", "http://127.0.0.1:8000", "vllm", (engines.Served("org/M", 4096),))
    ollama = engines.Found(
        "ollama", "http://127.0.0.1:11434", "ollama", (engines.Served("org/M", None), engines.Served("small:1b", None))
    )
    monkeypatch.setattr(engines, "on_loopback", lambda: [vllm, ollama])
    assert run("--price", "0.9 4").exit_code == 0
    served = load(here / "beffroi.yaml", {}).document.resources
    assert [(engine.name, engine.kind) for engine in served.engines] == [("vllm", "vllm"), ("ollama", "ollama")]
    both, small = served.models
    assert (both.id, both.max_model_len) == ("org/M", 4096)
    assert [target.engine for target in both.targets] == ["vllm", "ollama"]
    assert [target.engine for target in small.targets] == ["ollama"]
    assert [(price.input, price.output) for price in both.prices] == [(0.9, 4)]
    assert examine(here / "beffroi.yaml", {}).problems == []


def test_options_answer_everything(here: Path, engine: ScriptedEngine) -> None:
    """An engine that answers is asked for its models; a model may have another name for clients."""
    arguments = [
        "--engine",
        engine.url,
        "--model",
        "chat=words",
        "--price",
        "1/2",
        "--listen",
        "[::1]:9000",
        "--data",
        "d",
    ]
    done = run("mine.yaml", "--yes", *arguments)
    assert done.exit_code == 0, done.output
    document = load(here / "mine.yaml", {}).document
    assert (document.server.host, document.server.port, document.server.data) == ("::1", 9000, "d")
    (model,) = document.resources.models
    assert (model.id, [target.model for target in model.targets]) == ("chat", ["words"])
    assert "serve --config mine.yaml" in done.output and "BEFFROI_DATA=d" in done.output


def test_the_data_directory_is_where_the_person_is_not_where_the_file_is(here: Path) -> None:
    """Relative paths of a file count from its folder; what was typed counts from here."""
    (here / "etc").mkdir()
    assert run("etc/b.yaml", "--data", "d").exit_code == 0
    assert load(here / "etc" / "b.yaml", {}).document.server.data == str(here / "d")
    assert run("--data", "d").exit_code == 0
    assert data_directory(None) == here / "d"  # every other command finds it too


def test_an_engine_that_does_not_run_yet_can_be_named_with_its_models(here: Path) -> None:
    """Without them nothing is written, and the message says what would help."""
    url = f"http://127.0.0.1:{free_port()}"
    done = run("--engine", url)
    assert done.exit_code == 1 and "--model" in done.output and not (here / "beffroi.yaml").exists()
    done = run("--engine", url + "/v1", "--model", "m", "--engine-key", "env:LATER")
    assert done.exit_code == 0 and "does not answer now" in done.output and "LATER" in done.output
    (engine,) = load(here / "beffroi.yaml", {}).document.resources.engines
    assert (engine.url, engine.api_key) == (url, "env:LATER")


def test_a_file_that_is_there_stays(here: Path) -> None:
    """Unless it is told otherwise, in so many words."""
    (here / "beffroi.yaml").write_text("server: {port: 1}\n")
    done = run("--yes")
    assert done.exit_code == 1 and "--force" in done.output
    assert (here / "beffroi.yaml").read_text() == "server: {port: 1}\n"
    assert run("--yes", "--force", "--listen", "127.0.0.1:9000").exit_code == 0
    assert load(here / "beffroi.yaml", {}).document.server.port == 9000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["beffroi.toml"], "YAML"),
        (["--listen", "here"], "HOST:PORT"),
        (["--listen", "0.0.0.0:99999"], "HOST:PORT"),
        (["--engine", "ftp://x", "--model", "m"], "no engine's URL"),
        (["--engine", "http://127.0.0.1:1", "--model", "a b"], "visible ASCII"),
        (["--engine", "http://127.0.0.1:1", "--model", "m", "--price", "9"], "two amounts"),
        (["--engine", "http://127.0.0.1:1", "--model", "m", "--price", "9 many"], "amount"),
        (["--engine", "http://127.0.0.1:1", "--engine", "embedded", "--model", "m"], "serve --engine embedded"),
        (["--engine", "http://127.0.0.1:1", "--model", "m", "--engine-key", "sk-canary"], "env:NAME"),
        (["no/such/folder.yaml"], "cannot be written"),
    ],
)
def test_an_answer_that_would_be_refused_writes_nothing(here: Path, arguments: list[str], said: str) -> None:
    """Said before it stands in a file; a key never."""
    done = run(*arguments)
    assert done.exit_code == 1 and said in done.output and "canary" not in done.output
    assert list(here.iterdir()) == []


def test_a_model_that_the_engine_has_not_is_refused(here: Path, engine: ScriptedEngine) -> None:
    """With those that it has."""
    done = run("--engine", engine.url, "--model", "wrods")
    assert done.exit_code == 1 and "words" in done.output and not (here / "beffroi.yaml").exists()


def test_json_says_what_was_written(here: Path) -> None:
    """For programs; nothing is asked."""
    said = json.loads(run("--json", "--listen", "127.0.0.1:9000").stdout)
    assert said == {"file": "beffroi.yaml", "server": {"port": 9000}, "resources": {}}


def test_five_questions_at_a_terminal(here: Path, engine: ScriptedEngine) -> None:
    """What cannot be is told and asked for again; an empty answer takes the default; what an option says is not asked."""
    answers = [f"127.0.0.1:{free_port()}", engine.url, "wrods", "", "much", "0.9 4", "here", "", ""]
    said = typed(here, [], answers)
    assert [said.count(f"{number}/5") for number in range(1, 6)] == [2, 2, 2, 2, 1]
    assert "No engine answers" in said and "no engine lists the model wrods" in said
    document = load(here / "beffroi.yaml", {}).document
    assert [model.id for model in document.resources.models] == ["words"]
    assert document.resources.models[0].prices[0].output == 4
    assert document.server == Document().server
    said = typed(here, ["two.yaml", "--engine", engine.url, "--price", "0", "--data", "d"], ["words", "127.0.0.1:9000"])
    assert "1/5" not in said and "3/5" not in said and "5/5" not in said
    assert load(here / "two.yaml", {}).document.server.port == 9000


def typed(here: Path, arguments: list[str], answers: list[str]) -> str:
    """What a terminal shows when somebody types the answers."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "beffroi", "init", *arguments]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=here, env=environ) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the program is
            while part := os.read(ours, 4096):
                shown += part
        assert process.wait(20) == 0, shown.decode()
    os.close(ours)
    return shown.decode()


def test_at_a_terminal_an_engine_whose_models_were_named_need_not_run(here: Path) -> None:
    """Its address is kept and not asked for again; without its models, the way out is told."""
    url = f"http://127.0.0.1:{free_port()}"
    shown = typed(here, ["--engine", url, "--model", "m"], [""] * 3)
    assert "1/5" not in shown and "does not answer now" in shown
    assert [engine.url for engine in load(here / "beffroi.yaml", {}).document.resources.engines] == [url]
    assert "--model: then it need not run now" in typed(here, ["--engine", url, "other.yaml"], ["embedded", "", ""])
