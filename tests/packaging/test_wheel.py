# SPDX-License-Identifier: Apache-2.0
"""What is built: the same bytes wherever and whenever, and a wheel that serves from an environment that has nothing else."""

import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from beffroi import __version__
from tests.harness import KEY, ROOT, Served, wait_for
from tests.house.test_papers import OLDER, packages
from tests.house.test_source import name, tracked
from tests.packaging.conftest import WHEN


def test_two_builds_are_the_same_bytes(made: tuple[Path, Path]) -> None:
    """The wheel and the source archive."""
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in made)
    assert sorted(first) == [f"beffroi-{__version__}-py3-none-any.whl", f"beffroi-{__version__}.tar.gz"]
    assert first == second


def test_the_source_archive_is_what_git_tracks(made: tuple[Path, Path]) -> None:
    """Nothing is left out, nothing else is in it, all at the moment that SOURCE_DATE_EPOCH names."""
    with tarfile.open(made[0] / f"beffroi-{__version__}.tar.gz") as tar:
        members = tar.getmembers()
        held = {member.name.partition("/")[2] for member in members if member.isreg()}
        assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, WHEN)}
        assert {member.mode for member in members} == {0o644, 0o755}
    assert held - {"PKG-INFO", "setup.cfg"} == {name(path) for path in tracked()} - {".gitignore"}


def test_the_wheel_holds_the_package_and_nothing_of_the_checkout(wheel: Path) -> None:
    """Its data, its migrations, the mark that it is typed, its licence; extras are named."""
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
        (told,) = [packed.read(member).decode() for member in held if member.endswith("/METADATA")]
        assert {member.date_time[:3] for member in packed.infolist()} == {(2025, 11, 24)}
    package = {name(path).removeprefix("src/") for path in tracked() if path.is_relative_to(ROOT / "src")}
    assert {member for member in held if ".dist-info/" not in member} == package
    assert {"beffroi/py.typed", "beffroi/embedded/tiny.gguf", "beffroi/store/migrations/env.py"} <= package
    assert any(member.endswith("/licenses/LICENSE") for member in held)
    assert re.search(rf"^Version: {re.escape(__version__)}$", told, re.MULTILINE)
    assert set(re.findall(r"^Provides-Extra: (\w+)$", told, re.MULTILINE)) == {"client", "embedded", "fleet"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_serves_from_an_environment_of_its_own(venv: Path, folder: Path) -> None:
    """A fresh venv, what the lock names checked against its hashes, the wheel: that is all it takes, and it answers."""
    listed = subprocess.run([venv / "bin" / "pip", "freeze", "--all"], check=True, capture_output=True, text=True)
    installed = dict(re.findall(r"^([\w.-]+)==(\S+)$", listed.stdout.lower().replace("_", "-"), re.MULTILINE))
    # What the lock has for an older patch release of Python alone is not installed on a newer one.
    locked = {name: version for name, version in packages("requirements.lock").items() if name not in OLDER}
    assert installed.items() >= locked.items()
    program = venv / "bin" / "beffroi"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, env=env, cwd="/")
    assert said.stdout == f"beffroi, version {__version__}\n"

    class Installed(Served):
        """Started by the program in that environment, with no file of the checkout in reach."""

        def command(self) -> list[str]:
            return [str(program), *super().command()[3:]]

    served = Installed(folder / "data", bare=True, arguments=("--engine", "embedded"))
    served.env = env
    try:
        served.start()
        answer = served.chat("What is the capital of France?", model="beffroi-tiny")
        assert answer.text == "The capital of France is Paris."
        wait_for(lambda: len(served.ledger()) == 1, 10, "a row in the ledger")
        assert KEY.search(served.output)
        made_ = subprocess.run(
            [program, "backup", "create", folder / "b.tar.gz", "--data", served.data], env=env, cwd="/", check=False
        )
        assert made_.returncode == 0
        assert served.stop() == 0
    finally:
        served.kill()
