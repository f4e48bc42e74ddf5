# SPDX-License-Identifier: Apache-2.0
"""What the tests of packaging share, made once: two builds, and an environment with the wheel and nothing else.

The environment is made as docs/how-to/install.md says, by its commands.
In: the tracked files, the lock. Out: `made`, the folders of two builds; `venv`, an environment; both gone at the end.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi import __version__
from tests.harness import ROOT
from tests.house.test_source import tracked
from tests.packaging.pages import commands, elsewhere

WHEN = 1_764_000_000  # SOURCE_DATE_EPOCH: 2025-11-24


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder with a short path."""
    path = Path(tempfile.mkdtemp(prefix="bf-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def source(folder: Path) -> Path:
    """The tracked files, copied as somebody else would have them: at another time."""
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def build(folder: Path, umask: int) -> Path:
    """`python -m build` there; the folder of its two files."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(WHEN)}
    env.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "made")]
    done = subprocess.run(
        command, cwd=folder, umask=umask, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "made"


@pytest.fixture(scope="session")
def made(place: Path) -> tuple[Path, Path]:
    """Two builds, of copies in different folders, under different umasks, one with leftovers of an earlier build."""
    first, second = source(place / "one"), source(place / "another" / "deeper")
    (second / "src" / "beffroi.egg-info").mkdir()
    (second / "src" / "beffroi.egg-info" / "SOURCES.txt").write_text("README.md\nsrc/beffroi/gone.py\n")
    (second / "src" / "beffroi" / "__pycache__").mkdir()
    (second / "src" / "beffroi" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left")
    os.utime(second / "README.md", (1_000_000_000, 1_000_000_000))
    return build(first, 0o022), build(second, 0o077)


@pytest.fixture(scope="session")
def wheel(made: tuple[Path, Path]) -> Path:
    """The first build's wheel."""
    return made[0] / f"beffroi-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="session")
def venv(wheel: Path, place: Path) -> Path:
    """A fresh environment: what the lock names, checked against its hashes, and the wheel with the extra `embedded`."""
    folder = place / "venv"
    install, serve = commands("how-to/install.md", "python3 -m venv").rsplit("\n", 2)[0], "beffroi serve"
    assert serve not in install
    here = {"/opt/beffroi": str(folder), "dist/": f"{wheel.parent}/", "python3 ": f"{sys.executable} "}
    quiet = {"PIP_QUIET": "1", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(["sh", "-euc", elsewhere(install, here)], check=True, timeout=240, cwd=ROOT, env=os.environ | quiet)
    # The second way of the page, from nowhere: so the lock has all that wheel and extra ask for.
    constrain, _ = commands("how-to/install.md", "sed -e").split("pipx install", 1)
    subprocess.run(
        ["sh", "-euc", elsewhere(constrain, {"constraints.txt": str(place / "constraints.txt")})], check=True, cwd=ROOT
    )
    held = ["--no-index", "--constraint", place / "constraints.txt", f"{wheel}[embedded]"]
    subprocess.run([folder / "bin" / "pip", "install", *held], check=True, timeout=60, cwd="/", env=os.environ | quiet)
    return folder
