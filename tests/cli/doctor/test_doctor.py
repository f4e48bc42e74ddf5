# SPDX-License-Identifier: Apache-2.0
"""`beffroi doctor` as people and programs read it."""

import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from beffroi.cli.doctor.command import CHECKS, examine
from beffroi.cli.doctor.scene import OK, PROBLEM, Scene
from tests.cli.doctor.support import doctor
from tests.harness import free_port


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The doctor, for people."""
    command = [sys.executable, "-m", "beffroi", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")


def test_each_check_is_a_line_with_its_remedy_below(tmp_path: Path) -> None:
    """State, name, sentence; an arrow and what to do for what is not ok; a sum at the end."""
    ports = ["--port", str(free_port()), "--control-port", str(free_port())]
    done = run("--data", str(tmp_path / "d"), *ports)
    *lines, blank, total = done.stdout.splitlines()
    assert blank == "" and re.search(r"\d+ checks", total)
    heads = [line for line in lines if not line.startswith(" ")]
    assert len(heads) >= len(CHECKS) and all(re.match(r"(ok|warning|problem) +\S", line) for line in heads)
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(("warning", "problem")):
            assert after.strip().startswith("→ "), line
    assert not (tmp_path / "d").exists(), "it changes nothing"


def test_a_problem_is_status_one_and_stands_in_csv_too(tmp_path: Path) -> None:
    """A row a check."""
    done = run("--data", str(tmp_path / ("d" * 100)), "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.returncode == 1
    assert [row["state"] for row in rows if row["check"] == "data directory"] == [PROBLEM]


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    """And every one is a sentence."""
    found = doctor("--data", tmp_path / "d")
    assert {check["state"] for check in found["checks"]} <= {OK, "warning", PROBLEM}
    assert all(check["finding"].endswith((".", "?")) for check in found["checks"])
    assert all(check["remedy"].endswith((".", ")")) for check in found["checks"] if check["state"] != OK), found


def test_a_check_that_cannot_be_made_is_a_problem_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a disk that does not say how large it is."""

    def refuse(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "statvfs", refuse)
    found = list(examine(Scene(tmp_path)))
    assert len(found) >= len(CHECKS)
    (space,) = [one for one in found if one.check == "disk space"]
    assert space.state == PROBLEM and "Input/output error" in space.finding


def _others_can_read_this() -> bool:
    """Whether another user can read the packages that run here: a checkout below /root is nobody else's."""
    look = "import google_crc32c, os, sys; os.setuid(65534); sys.exit(not os.access(google_crc32c.__file__, os.R_OK))"
    return subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.skipif(os.geteuid() == 0 and not _others_can_read_this(), reason="another user cannot read this checkout")
def test_as_the_wrong_user_there_is_one_problem_and_not_five(tmp_path: Path) -> None:
    """What cannot be looked at for want of rights is said to be so; the directory's check says whose it is."""
    data = Path(tempfile.mkdtemp(prefix="bf-"))
    (data / "snapshot.bin").write_bytes(b"x")
    before = "import beffroi.cli.doctor.command, encodings.idna, google_crc32c, httptools, os, pwd, sqlalchemy, sys, uvloop; from beffroi.cli.main import main; os.setuid(65534); main(sys.argv[1:])"
    ports = ["--port", str(free_port()), "--control-port", str(free_port())]
    command = [sys.executable, "-c", before, "doctor", "--json", "--data", str(data), *ports]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")
    shutil.rmtree(data)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["checks"]
    assert [one["check"] for one in found if one["state"] == PROBLEM] == ["data directory"], found
    unseen = {one["check"] for one in found if one["finding"].startswith("Not examined")}
    assert unseen == {"data version", "vault", "fsync", "locks", "beffroi"}


def test_two_configurations_in_one_place_are_refused(tmp_path: Path) -> None:
    """As `serve` refuses them."""
    for name in ("beffroi.yaml", "beffroi.toml"):
        (tmp_path / name).write_text("")
    command = [sys.executable, "-m", "beffroi", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 1 and "--config" in done.stderr
