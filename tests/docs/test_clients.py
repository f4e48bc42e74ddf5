# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/client-libraries.md: each program of the page that has its library here, against the embedded engine.

`python -m tests.docs.test_clients PYTHON,PYTHON… [NODE_MODULES]` runs them all, by Pythons and a folder that have the libraries.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, of
from tests.harness import ROOT, Served, program

PAGE = "docs/how-to/client-libraries.md"
SAYS = {
    "What is 2 + 3?": "2 + 3 = 5",
    "capital of France": "The capital of France is Paris.",
    "Tell me a story.": "Once upon a time",
    "What is 1 + 1?": "1 + 1 = 2",
    "no-such-model": "404 model_not_found req_",
    "the cat is here": "2 ",
}
PYTHONS = (sys.executable, str(ROOT / ".venv-clients/bin/python"))  # `make clients-env` makes the second
PROGRAMS = [block for block in of(PAGE) if block.language in {"python", "js"} and not block.reason]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The embedded engine."""
    with (
        tempfile.TemporaryDirectory(prefix="bf-") as folder,
        Served(Path(folder) / "data", bare=True, arguments=("--engine", "embedded")) as served,
    ):
        yield served


def environment(served: Served) -> dict[str, str]:
    """As the page sets it."""
    return os.environ | {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{served.port}/v1",
        "OPENAI_API_KEY": served.key,
        "BEFFROI_API_KEY": served.key,
    }


def expected(block: Block) -> str:
    """What its question is answered with."""
    return next(says for asked, says in SAYS.items() if asked in block.text)


def run(command: list[str], served: Served) -> str:
    """What a program prints."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(served),
        cwd=served.data.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def imports(block: Block) -> list[str]:
    """The modules of a Python program."""
    return list(dict.fromkeys(re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE)))


def has(python: str, block: Block) -> bool:
    """Whether an interpreter has what a program imports."""
    return (
        subprocess.run(
            [python, "-c", f"import {', '.join(imports(block))}"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"{block.heading} {block.line}")
def test_a_program_of_the_page_prints_the_answer(block: Block, served: Served) -> None:
    """As it stands there."""
    if block.language == "js":
        pytest.skip("npm packages are not installed here; `python -m tests.docs.test_clients` runs it")
    python = next((one for one in PYTHONS if Path(one).exists() and has(one, block)), None)
    if python is None:
        wanted = ", ".join(imports(block))
        pytest.skip(f"no Python here has {wanted}; `python -m tests.docs.test_clients` runs it with one that has")
    assert expected(block) in run([python, "-c", block.text], served)


def test_the_commands_of_the_page_answer(served: Served) -> None:
    """The two variables, then curl."""
    program("curl")
    script = "\n".join(block.text for block in of(PAGE) if block.is_shell)
    script = script.replace("http://127.0.0.1:8400/v1", f"http://127.0.0.1:{served.port}/v1")
    assert "2 + 3 = 5" in run(["bash", "-ec", script], served)


def everything(pythons: list[str], modules: str | None) -> None:
    """All programs, with libraries from elsewhere."""
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        served = Served(Path(folder) / "data", bare=True, arguments=("--engine", "embedded"))
        with served:
            if modules:
                (Path(folder) / "node_modules").symlink_to(Path(modules).absolute())
            for block in PROGRAMS:
                if block.language == "js":
                    runs = "node" if modules else None
                else:
                    runs = next((one for one in pythons if has(one, block)), None)
                if runs is None:
                    print(f"{block.heading:16} not run: its library is not there")
                    continue
                file = Path(folder) / ("one.py" if block.language == "python" else "one.mjs")
                file.write_text(block.text)
                printed = run([runs, str(file)], served)
                assert expected(block) in printed, f"{block}: {printed}"
                print(f"{block.heading:16} {printed.strip()[:100]}")


if __name__ == "__main__":
    everything(
        [str(Path(one).absolute()) for one in sys.argv[1].split(",")], sys.argv[2] if len(sys.argv) > 2 else None
    )
