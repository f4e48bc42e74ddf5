# SPDX-License-Identifier: Apache-2.0
"""The example programs, each run as a person runs it, against the embedded engine."""

import ast
import importlib.util
import io
import re
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.harness import ROOT, Served, free_port
from tests.tiny import LARGE, SMALL, client

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@dataclass
class Done:
    """What a program printed."""

    stdout: str
    stderr: str


@pytest.fixture
def example(tiny: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs an example as a program in this process, which has loaded the SDK once for all of them."""

    def run(name: str, stdin: str = "", **environ: str) -> Done:
        told = {"BEFFROI_URL": f"http://127.0.0.1:{tiny.port}/v1", "BEFFROI_API_KEY": tiny.key}
        for variable, value in (told | environ).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return Done(*capsys.readouterr())

    return run


def load(name: str) -> ModuleType:
    """An example as a module; its `main` is not run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    """The requirement it answers, and its own command."""
    said = ast.get_docstring(ast.parse((EXAMPLES / name).read_text("utf-8"))) or ""
    assert re.search(r"002-\d\d", said) and f"python examples/{name}" in said
    assert f"test_{name.removesuffix('.py')}" in Path(__file__).read_text("utf-8"), "an example without a test"


def test_estimate_cost(example: Callable[..., Done]) -> None:
    """The source's own figures: 26 characters are 6 tokens, and with 200 made 0.000805 EUR."""
    module = load("estimate_cost")
    assert len(module.PROMPT) == 26 and module.estimate_tokens(module.PROMPT) == 6
    done = example("estimate_cost.py", BEFFROI_MODEL=SMALL)
    estimated, billed = done.stdout.splitlines()
    assert estimated == "estimated: 6 tokens in, 200 out, 0.000805 EUR"
    found = re.fullmatch(r"billed: (\d+) tokens in, (\d+) out, ([0-9.]+) EUR", billed)
    assert found is not None, done.stderr
    assert float(found[3]) == pytest.approx((int(found[1]) * 0.9 + int(found[2]) * 4) / 1e6, abs=1e-12)


def test_route_by_task(example: Callable[..., Done]) -> None:
    """Sentiment to the small model, law to the large one, by the names of the source."""
    done = example("route_by_task.py")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"sentiment_analysis by {SMALL}: ") and second.startswith(f"legal_analysis by {LARGE}: ")
    assert load("route_by_task").model_for("poetry") == "granite3.3:8b"


def test_many_at_once(tiny: Served, example: Callable[..., Done]) -> None:
    """Every question has its answer, also with a key that takes only one at a time."""
    key = tiny.new_key(concurrency=1)
    done = example("many_at_once.py", BEFFROI_API_KEY=key)
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and lines[:2] == ["What is the capital of France?", "  The capital of France is Paris."]


def test_stream_words(tiny: Served) -> None:
    """The whole story, and its tokens."""
    done = client(tiny, EXAMPLES / "stream_words.py")
    assert done.stdout.startswith("Once upon a time") and re.search(r"\[\d+ tokens in, \d+ out\]$", done.stdout.strip())


def test_clean_input_and_errors(example: Callable[..., Done]) -> None:
    """A good question, a model that is none, a gateway that is gone: always a sentence for the person."""
    program = "clean_input_and_errors.py"
    done = example(program, stdin="What is the capital\x00 of France?\x1b\n")
    assert done.stdout == "The capital of France is Paris.\n", done.stderr
    done = example(program, stdin="hello", BEFFROI_MODEL="granite")
    assert "not available at the moment" in done.stdout and "status 404" in done.stderr
    done = example(program, stdin="hello", BEFFROI_URL=f"http://127.0.0.1:{free_port()}/v1")
    assert "not available at the moment" in done.stdout and "nobody answers" in done.stderr


def test_input_is_cleaned_without_harm() -> None:
    """Control characters go, apostrophes stay unless asked, 2000 characters at most."""
    clean = load("clean_input_and_errors").clean
    assert clean("l'été\x00 «ici»\u200b\n") == "l'été «ici»"
    assert clean('l\'été `x` "y"', quotes=False) == "lété x y"
    assert len(clean("x" * 5000)) == 2000
