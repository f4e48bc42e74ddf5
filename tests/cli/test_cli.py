# SPDX-License-Identifier: Apache-2.0
"""The command line as people and programs use it, against a real control process."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.cli.data import data_directory
from beffroi.core.key import public_id
from beffroi.core.state import load_keys
from tests.control.fakes import Control, WorkerThread, control
from tests.harness import ROOT

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process and its worker."""
    with control(tmp_path_factory.mktemp("c")) as process, WorkerThread(process.data):
        yield process


def beffroi(*arguments: str, data: Path | None = None, **environ: str) -> Done:
    """One command."""
    where = [] if data is None else ["--data", str(data)]
    return subprocess.run(
        [sys.executable, "-m", "beffroi.cli.main", *arguments, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )


def test_a_key_is_made_listed_and_revoked(running: Control) -> None:
    """The key alone on standard output, so that it can go into a variable; the rest beside it."""
    made = beffroi("keys", "create", "app one", "--model", "m", "--hard-budget", "10.50", data=running.data)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    public = public_id(key)
    assert public is not None and "not shown again" in made.stderr
    listed = beffroi("keys", "list", data=running.data)
    (row,) = [line for line in listed.stdout.splitlines() if "app one" in line]
    assert f"bf-{public}-…" in row and "active" in row and "hard 10.5 EUR/month" in row and key not in row
    revoked = beffroi("keys", "revoke", key, data=running.data)
    assert revoked.returncode == 0 and " ms." in revoked.stdout
    assert [record.revoked for record in load_keys(running.data).keys if record.public == public] == [True]
    listed = beffroi("keys", "list", data=running.data)
    assert any("app one" in line and "revoked" in line for line in listed.stdout.splitlines())


def test_a_name_moves_no_terminals_cursor(running: Control) -> None:
    """Signs that turn the direction of text, or begin a command to the terminal in eight bits, are shown as no sign."""
    made = beffroi("keys", "create", "x\u202ey\x9b31m", data=running.data)
    rotated = beffroi("keys", "rotate", public_id(made.stdout.strip()) or "", "--overlap", "1h", data=running.data)
    revoked = beffroi("keys", "revoke", public_id(rotated.stdout.strip()) or "", data=running.data)
    for done in (made, rotated, revoked):
        assert (done.returncode, "x\ufffdy\ufffd31m" in done.stderr + done.stdout) == (0, True), done
        assert "\x9b" not in done.stderr + done.stdout


def test_every_command_speaks_json(running: Control) -> None:
    """One document on standard output."""
    made = json.loads(beffroi("keys", "create", "j", "--json", data=running.data).stdout)
    assert public_id(made["key"]) == made["public"]
    listed = json.loads(beffroi("keys", "list", "--json", data=running.data).stdout)
    assert made["id"] in [key["id"] for key in listed]
    revoked = json.loads(beffroi("keys", "revoke", "j", "--cut", "--json", data=running.data).stdout)
    assert (revoked["id"], revoked["cut"]) == (made["id"], 2)
    assert json.loads(beffroi("usage", "--since", "7d", "--json", data=running.data).stdout)["usage"] == []
    assert json.loads(beffroi("journal", "verify", "--json", data=running.data).stdout)["ok"] is True


def test_tables_are_plain_and_aligned(running: Control) -> None:
    """Each heading stands over its column."""
    beffroi("keys", "create", "a name longer than its heading", data=running.data)
    head, *rows = beffroi("keys", "list", data=running.data).stdout.splitlines()
    at = head.index("STATE")
    assert all(row[at - 1] == " " and row[at:].startswith(("active", "revoked")) for row in rows)
    assert beffroi("usage", data=running.data).stdout.split()[:3] == ["KEY", "MODEL", "REQUESTS"]


def test_a_refusal_is_one_sentence_and_status_one(running: Control) -> None:
    """No traceback, nothing on standard output."""
    refused = beffroi("keys", "revoke", "nobody", data=running.data)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Error: there is no key `nobody`; `beffroi keys list` shows those there are\n"
    refused = beffroi("keys", "create", "x", "--model", "gpt", data=running.data)
    assert (refused.returncode, "there is no model `gpt`" in refused.stderr) == (1, True)


def test_a_wrong_command_line_is_status_two() -> None:
    """As everywhere."""
    assert beffroi("keys", "create").returncode == 2
    assert beffroi("usage", "--since", "yesterday").returncode == 2


def test_while_control_is_away_a_command_waits_and_then_says_so(tmp_path: Path) -> None:
    """Five seconds, status 69, and what to do."""
    began = time.monotonic()
    failed = beffroi("keys", "list", data=tmp_path)
    assert failed.returncode == 69 and "beffroi serve" in failed.stderr
    assert 5 <= time.monotonic() - began < 12


def test_a_command_outlives_a_restart_of_control(tmp_path: Path) -> None:
    """Kill -9, and the command that was given meanwhile is done when control is back."""
    with control(tmp_path) as running, WorkerThread(tmp_path):
        running.process.kill()
        running.process.wait()
        late = threading.Timer(0.5, running.start)
        late.start()
        done = beffroi("keys", "revoke", "first", data=tmp_path)
        late.join()
        assert done.returncode == 0, done.stderr


def test_a_worker_that_does_not_hear_of_a_rotation_is_named_and_the_new_key_is_printed(tmp_path: Path) -> None:
    """Its text is nowhere else. Where the old key was to stop at once, it did not everywhere: status 1."""
    with control(tmp_path, workers=2), WorkerThread(tmp_path):
        done = beffroi("keys", "rotate", "first", "--overlap", "0", data=tmp_path)
        assert public_id(done.stdout.strip()) is not None
        assert done.returncode == 1 and "warning: workers w01 do not know of it yet: there, only bf-" in done.stderr


def test_the_journal_is_verified_without_a_running_beffroi(tmp_path: Path) -> None:
    """From the files; where there are none it says so."""
    with control(tmp_path):
        pass
    done = beffroi("journal", "verify", data=tmp_path)
    assert (done.returncode, "The record is whole." in done.stdout) == (0, True), done.stderr
    assert beffroi("journal", "verify", data=tmp_path / "nothing").returncode == 69


def test_the_data_directory_is_looked_for_in_five_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, the environment, the configuration file, here, home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BEFFROI_DATA", raising=False)
    assert data_directory(None) == tmp_path / "home" / ".local" / "share" / "beffroi"
    (tmp_path / ".beffroi").mkdir()
    assert data_directory(None) == tmp_path / ".beffroi"
    (tmp_path / "beffroi.yaml").write_text("gateway: {max_body: broken elsewhere}\nserver: {data: told}\n")
    assert data_directory(None) == tmp_path / "told"
    monkeypatch.setenv("BEFFROI_DATA", "elsewhere")
    assert data_directory(None) == tmp_path / "elsewhere"
    assert data_directory(Path("~/mine")) == tmp_path / "home" / "mine"


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("config show >&-", 0, ""),
        ("config show <&- >&- 2>&-", 0, ""),
        ("backup create - --data none >&-", 69, "no control process"),
        ("config show > /dev/full", 1, "there is no space left"),
        ("--help > /dev/full", 1, "there is no space left"),
        ("config schema | head -c 1 > /dev/null", 0, ""),
        (r"keys show $'\xff'", 2, "is no text"),
        (r"usage --key $'\xed\xa0\x80'", 2, "is no text"),
    ],
)
def test_where_nobody_listens_or_what_is_no_text_ends_in_no_traceback(
    tmp_path: Path, command: str, status: int, said: str
) -> None:
    """Closed descriptors, a full disk under standard output, a reader that leaves, bytes that are no text."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    line = f"{sys.executable} -m beffroi {command}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr
    assert done.stderr.count("\n") <= 1
