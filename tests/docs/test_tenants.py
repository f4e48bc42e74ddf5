# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/onboard-a-team.md, declare-tenants.md and their .fr.md pages: every command, in order, against a running Beffroi."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, of
from tests.docs.terminal import shows
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, program

PAGES = ("onboard-a-team", "declare-tenants")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """One that serves the model of the pages."""
    with ScriptedEngine() as engine:
        models = [{"id": "chat", "targets": [{"engine": "gpu", "model": "words"}]}]
        with Served(tmp_path / "data", {"gpu": engine.url}, models=models) as running:
            yield running


def steps(page: str) -> list[tuple[Block, str]]:
    """Each block of commands or of a file, with what the page says that it prints."""
    found: list[tuple[Block, str]] = []
    for block in of(f"docs/how-to/{page}.md"):
        if block.language == "text":
            found[-1] = (found[-1][0], block.text)
        else:
            found.append((block, ""))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_it_says(page: str, served: Served, tmp_path: Path) -> None:
    program("curl")
    folder = tmp_path / "here"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "beffroi").write_text(f'#!/bin/sh\nexec {sys.executable} -m beffroi "$@"\n')
    (folder / "bin" / "beffroi").chmod(0o755)
    env = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "BEFFROI_DATA": str(served.data),
    }
    ran = 0
    for block, expected in steps(page):
        if block.language == "yaml":
            (folder / "tenants.yaml").write_text(block.text)
            continue
        text = block.text.replace(":8401", f":{served.control_port}").replace(":8400", f":{served.port}")
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        shows(done.stdout, expected)
        ran += 1
    assert ran >= 6


@pytest.mark.parametrize("page", PAGES)
def test_the_french_page_has_the_same_commands_and_the_same_output(page: str) -> None:
    assert [(one.text, out) for one, out in steps(page)] == [(one.text, out) for one, out in steps(f"{page}.fr")]
