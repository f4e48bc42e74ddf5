# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/install.md: the compiled kernel is built beside the package where that can be done, and nobody is told where not."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from beffroi.cli.doctor import machine
from tests.harness import ROOT, compiler

NAME = f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(python: Path | str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """What the page says."""
    return subprocess.run(
        [ROOT / "scripts" / "native", python, folder],
        cwd="/",
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package somewhere else, without a kernel."""
    compiler()
    return Path(
        shutil.copytree(
            ROOT / "src" / "beffroi", tmp_path / "beffroi", ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    )


def in_use(folder: Path, **env: str) -> str:
    """What an interpreter says that finds the package there."""
    ask = "import beffroi.core.kernel as k; print(k.__file__, k.KERNEL is not None)"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "PYTHONPATH": str(folder.parent), **env},
        capture_output=True,
        text=True,
        check=True,
    )
    place, found = done.stdout.split()
    assert place.startswith(str(folder))
    return found


def test_it_is_built_beside_the_package_and_used(installed: Path) -> None:
    """Silent, in a few seconds; a second call does nothing; it can be left out when it is there."""
    assert in_use(installed) == "False"
    done = build(sys.executable, installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = (installed / NAME).stat().st_mtime_ns
    assert in_use(installed) == "True"
    assert in_use(installed, BEFFROI_NATIVE="0") == "False"
    assert build(sys.executable, installed).returncode == 0
    assert (installed / NAME).stat().st_mtime_ns == made


def test_nothing_fails_where_it_cannot_be_built(tmp_path: Path) -> None:
    """No compiler, one that fails, no interpreter, or one told to leave it out: status 0, nothing made, at most one line."""
    for python, env, says in (
        (sys.executable, {"CC": "no-such-compiler"}, ""),
        (sys.executable, {"CC": "false"}, "The compiled kernel could not be built"),
        ("/no/such/python", {}, ""),
        (sys.executable, {"BEFFROI_NATIVE": "0"}, ""),
    ):
        done = build(python, tmp_path, **env)
        assert done.returncode == 0
        tried = says if Path(sysconfig.get_path("include"), "Python.h").exists() else ""
        assert done.stderr.startswith(tried) and done.stderr.count("\n") <= 1
        assert bool(done.stderr) is bool(tried)
        assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_whether_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what builds it."""
    monkeypatch.setattr(machine, "KERNEL", None)
    assert "scripts/native" in machine.judge_packages(()).finding
    monkeypatch.setattr(machine, "KERNEL", object())
    assert "kernel is in use" in machine.judge_packages(()).finding
