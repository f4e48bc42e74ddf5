# SPDX-License-Identifier: Apache-2.0
"""The environment that `make` makes: from the lock, once, or not at all and with words."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT

NEEDED = ("sh", "cat", "cksum", "basename", "dirname", "rm")


@pytest.fixture
def bare(folder: Path) -> Path:
    """A machine with a shell and nothing else."""
    tools = folder / "bin"
    tools.mkdir()
    for tool in NEEDED:
        found = shutil.which(tool)
        assert found, tool
        (tools / tool).symlink_to(found)
    return folder


def make_environment(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script where only `folder/bin` is on the path."""
    return subprocess.run(
        [str(ROOT / "scripts/environment"), "requirements.lock", str(folder / "venv")],
        env={"PATH": str(folder / "bin")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python(folder: Path, script: str) -> None:
    """Put a python3 there that is a script."""
    program = folder / "bin" / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_without_python_it_says_what_is_needed(bare: Path) -> None:
    """And how to name one."""
    done = make_environment(bare)
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (bare / "venv").exists()


def test_a_python_that_is_too_old_is_passed_over(bare: Path) -> None:
    """The version is asked of the program, not read from its name."""
    python(bare, "exit 1")
    assert "none was found" in make_environment(bare).stderr


def test_without_venv_it_says_which_package_has_it(bare: Path) -> None:
    """Debian takes that module apart from Python."""
    python(bare, 'case "$2" in *ensurepip*) exit 1;; esac; [ "$1" = -V ] && echo Python 3.11.2; exit 0')
    done = make_environment(bare)
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr


def test_what_was_made_is_not_made_again(bare: Path) -> None:
    """A stamp holds what the lock said; with another lock it is made anew."""
    python(bare, f'echo "$@" >> {bare}/calls')
    (bare / "venv" / "bin").mkdir(parents=True)
    shutil.copy(bare / "bin" / "python3", bare / "venv" / "bin" / "python")
    assert make_environment(bare).returncode == 0
    first = (bare / "calls").read_text()
    assert "--require-hashes" in first
    assert make_environment(bare).returncode == 0
    assert (bare / "calls").read_text().removeprefix(first).count("\n") == 1  # only whether it is sound
    (bare / "venv" / ".beffroi-requirements.lock").write_text("another\n")
    assert make_environment(bare).returncode == 0
    assert (bare / "calls").read_text().count("--require-hashes") == 2
