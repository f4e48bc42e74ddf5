# SPDX-License-Identifier: Apache-2.0
"""The how-to pages of the tools: every command and program on them is run as it stands, in both languages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, Served
from tests.tiny import client

PAGES = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [text for kind, text in BLOCK.findall((PAGES / page).read_text("utf-8")) if kind == language]


def shell(served: Served, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A page's commands, in one shell whose `beffroi` and `python` are these, beside the running Beffroi."""
    for name, words in (("beffroi", "-m beffroi"), ("python", "")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    (folder / "examples").symlink_to(ROOT / "examples")
    ports = {"BEFFROI_SERVER__PORT": str(served.port), "BEFFROI_SERVER__CONTROL_PORT": str(served.control_port)}
    told = {"PYTHONPATH": str(ROOT / "src"), "BEFFROI_DATA": str(served.data), "BEFFROI_API_KEY": served.key}
    return subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env=os.environ | told | ports | {"PATH": f"{folder}:{os.environ['PATH']}"},
    )


@pytest.mark.parametrize("page", ["check-a-machine", "use-from-python"])
def test_both_languages_have_the_same_blocks(page: str) -> None:
    """Whoever mends one mends the other."""
    for language in ("sh", "python", "text"):
        assert blocks(f"{page}.md", language) == blocks(f"{page}.fr.md", language)


def test_the_commands_that_check_a_machine_run(tiny: Served, tmp_path: Path) -> None:
    """One after the other, in one shell."""
    done = shell(tiny, "".join(blocks("check-a-machine.md", "sh")), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 answered, 0 failed" in done.stdout and done.stdout.endswith("The capital of France is Paris.\n")
    assert (tmp_path / "doctor.json").read_text().startswith("{")


def test_the_commands_and_programs_for_python_run(tiny: Served, tmp_path: Path) -> None:
    """The port is this Beffroi's; the blocks are one program."""
    url = f"http://127.0.0.1:{tiny.port}/v1"
    commands = "".join(blocks("use-from-python.md", "sh")).replace("http://127.0.0.1:8400/v1", url)
    done = shell(tiny, f"export BEFFROI_URL={url}\n{commands}", tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("Once upon a time"), done.stderr
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks("use-from-python.md", "python")))
    done = client(tiny, program, OPENAI_BASE_URL=url, OPENAI_API_KEY=tiny.key)
    assert done.returncode == 0, done.stderr
    cost, story, nothing, unknown = done.stdout.splitlines()
    assert cost.startswith("0.0000") and " EUR Tokens(" in cost and story.startswith("Once upon a time")
    assert nothing == "[]" and "Near it: beffroi-tiny" in unknown


def test_every_check_of_the_doctor_is_on_its_page(tiny: Served) -> None:
    """By the name that it prints."""
    text = (PAGES / "check-a-machine.md").read_text("utf-8")
    found = client(tiny, "-m", "beffroi", "doctor", "--csv").stdout.splitlines()[1:]
    names = {line.split(",", 1)[0] for line in found}
    assert {name for name in names if f"`{name}`" not in text and not name.startswith("engine ")} <= {"engines"}
