# SPDX-License-Identifier: Apache-2.0
"""The tutorial, docs/tutorial/getting-started.md and getting-started.fr.md: every command as it is written, in order.

A reader has a checkout and two terminals. `make serve` is what keeps running in the first; all else is typed in the second.
A block of plain text under a command is what it prints.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, of
from tests.docs.terminal import Terminal, shows
from tests.harness import ROOT, program

ENGLISH, FRENCH = "docs/tutorial/getting-started.md", "docs/tutorial/getting-started.fr.md"
CHECKOUT = ("Makefile", "scripts", "src", "pyproject.toml", "requirements.lock", ".venv")


def checkout(folder: Path) -> Path:
    """A checkout whose environment is made, to type commands in; what they write stays in it."""
    subprocess.run(["make", "--silent", "env"], cwd=ROOT, check=True)
    place = folder / "beffroi"
    place.mkdir()
    for name in CHECKOUT:
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    """In such a checkout."""
    program("curl")
    with Terminal(checkout(folder)) as terminal:
        yield terminal


def commands(page: str) -> list[tuple[Block, str]]:
    """Each block of commands with what the page says that it prints."""
    found: list[tuple[Block, str]] = []
    for block in of(page):
        if block.is_shell:
            found.append((block, ""))
        elif block.language == "text":
            found[-1] = (found[-1][0], block.text)
    return found


def settled(terminal: Terminal, command: str, expected: str, printed: str) -> str:
    """What the command prints once that is what is expected, or at last."""
    for _ in range(20):
        with contextlib.suppress(AssertionError):
            shows(printed, expected)
            break
        time.sleep(0.25)
        printed = terminal.enter(command)
    return printed


def test_every_command_of_the_tutorial_does_what_the_page_says(terminal: Terminal) -> None:
    """From nothing to a revoked key and its bill."""
    steps = commands(ENGLISH)
    assert len(steps) > 8
    for block, expected in steps:
        serving = block.text.startswith("make serve")
        printed = terminal.serve(block.text) if serving else terminal.enter(block.text)
        if (
            "beffroi usage" in block.text or "beffroi requests" in block.text
        ):  # "a moment later": this reader is faster than the books
            printed = settled(terminal, block.text, expected, printed)
        shows(printed, expected)
    terminal.interrupt()
    assert "Traceback" not in terminal.served()


def test_the_french_page_has_the_same_commands_and_the_same_output() -> None:
    """So what was tried in one language holds in the other."""
    assert [(b.text, out) for b, out in commands(FRENCH)] == [(b.text, out) for b, out in commands(ENGLISH)]


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("a 12 b\nkey bf-abc-9x end", "a 7 b\nkey bf-… end", True),
        ("a b c", "a … c", True),
        ("one\ntwo", "two\none", False),
        ("cost 0 EUR", "cost 0 USD", False),
        ("a", "a\nb", False),
    ],
)
def test_a_page_that_shows_what_is_not_printed_is_noticed(printed: str, shown: str, same: bool) -> None:
    """Numbers and what `…` stands for may differ, nothing else may."""
    if same:
        shows(printed, shown)
    else:
        with pytest.raises(AssertionError, match="the page shows"):
            shows(printed, shown)
