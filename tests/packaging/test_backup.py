# SPDX-License-Identifier: Apache-2.0
"""A backup made while requests flow, and what is served from it: what was answered before is in it once, no more, no less."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.control.backups import reading
from beffroi.control.stage import passes
from tests.chaos import witness
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, scaled, wait_for
from tests.packaging.make_data import MODELS
from tests.packaging.releases import unpack

Start = Callable[..., Served]
BACKUPS = scaled("backups", 2)
CLASSES = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
COST = "input_nano + cached_nano + output_nano + reasoning_nano"


@pytest.fixture
def load(folder: Path) -> Iterator[Callable[[Served, str], subprocess.Popen[str]]]:
    """Starts a witness in front of a server: clients that write down each answer they have received whole."""
    running: list[subprocess.Popen[str]] = []

    def start(served: Served, key: str) -> subprocess.Popen[str]:
        options = ["--port", str(served.port), "--key", key, "--out", str(folder / "witness"), "--clients", "12"]
        command = [sys.executable, "-m", "tests.chaos.witness", *options]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, process_group=0))
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            os.kill(one.pid, signal.SIGKILL)
        one.communicate()


def make(served: Served, archive: Path) -> dict[str, Any]:
    """`backup create`."""
    done: dict[str, Any] = served.cli("backup", "create", str(archive))
    return done


def ledger(served: Served) -> dict[tuple[str, int], dict[str, Any]]:
    """All rows by request and attempt."""
    return {(row["request_id"], row["attempt"]): row for row in served.ledger()}


@pytest.mark.timeout(60 + 20 * BACKUPS)
def test_what_was_answered_before_a_backup_stands_once_in_what_is_restored_from_it(
    serve: Start, folder: Path, load: Callable[[Served, str], subprocess.Popen[str]]
) -> None:
    """Backups under load, each restored and served; every row there is one that the original has too."""
    with ScriptedEngine(seed=3, tokens=(1, 30)) as engine:
        engine.always("gap=0.002")
        served = serve(engine, models=MODELS, workers=2)
        key = served.new_key(hard_budget="1000", budget_period="total")
        watching = load(served, key)
        before: list[list[witness.Seen]] = []
        for number in range(BACKUPS):
            time.sleep(0.7)
            before.append(witness.read(folder / "witness"))
            done = make(served, folder / f"{number}.tar.gz")
            assert done["archive"] == str(folder / f"{number}.tar.gz")
        os.kill(watching.pid, signal.SIGTERM)
        watching.wait(30)
        told = witness.read(folder / "witness")
        assert len(told) > len(before[-1]) > len(before[0]) > 50, "too few answers to mean anything"
        served.settled((one.request_id for one in told), within=30)
        original = ledger(served)
        for number, seen in enumerate(before):
            data = f"restored{number}"
            done_ = served.cli_bare(
                "backup", "restore", str(folder / f"{number}.tar.gz"), "--data", str(folder / data), "--json"
            )
            assert done_.returncode == 0, done_.stderr
            back = serve(engine, data=data, models=MODELS, workers=2)
            back.settled((one.request_id for one in seen), within=20)
            wait_for(lambda back=back: not back.ledger("SELECT 1 FROM open_intents"), 10, "orphans are settled")  # type: ignore[misc]
            rows = ledger(back)
            for one in seen:
                row = rows[one.request_id, 1]
                assert tuple(row[kind] for kind in CLASSES) == (one.input, one.cached, one.output, one.reasoning)
            assert rows.keys() <= original.keys()
            for place, row in rows.items():
                if row["state"] == "recovered":  # in flight when the backup was made: never more than it came to
                    assert all(row[kind] <= original[place][kind] for kind in CLASSES), (row, original[place])
                else:
                    assert row == original[place]
            assert back.run_cli("journal", "verify", "--json").returncode == 0
            (cost,) = back.ledger(f"SELECT SUM({COST}) AS cost FROM exchanges")
            listed = [one for one in back.cli("keys", "list") if one["public"] == key[3:15]]
            assert listed[0]["spent"] >= cost["cost"]  # the budget goes on where it was, at least
            assert back.chat(key=key).status == 200
            back.stop()


def test_keys_are_as_they_were_and_what_was_revoked_since_can_be_revoked_again(
    beffroi: Served, serve: Start, engine: ScriptedEngine, folder: Path
) -> None:
    """Revoked before: stays so. Revoked after: works again, is listed, and is revoked by `--revoked-in`. Limits go on."""
    gone, later, old = beffroi.new_key(), beffroi.new_key(), beffroi.new_key()
    few = beffroi.new_key(requests_per_minute=1)
    assert beffroi.chat(key=few).status == 200
    assert beffroi.chat(key=few).status == 429
    beffroi.cli("keys", "revoke", gone)
    archive = folder / "b.tar.gz"
    make(beffroi, archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    beffroi.cli("keys", "revoke", later)
    beffroi.cli("keys", "rotate", old, "--overlap", "0")
    new = beffroi.new_key()

    plain = beffroi.cli_bare("backup", "restore", str(archive), "--data", str(folder / "plain"))
    assert plain.returncode == 0, plain.stderr
    assert later[:15] in plain.stdout
    assert gone[:15] not in plain.stdout
    told = beffroi.cli_bare(
        "backup", "restore", str(archive), "--data", str(folder / "told"), "--revoked-in", str(beffroi.data), "--json"
    )
    assert [key["public"] for key in json.loads(told.stdout)["revoked"]] == [later[3:15]]

    for data, expected in (("plain", 200), ("told", 401)):
        back = serve(engine, data=data)
        assert back.chat(key=gone).status == 401
        assert back.chat(key=later).status == expected
        assert back.chat(key=old).status == expected
        assert back.chat(key=few).status == 429
        assert back.chat(key=new).status == 401  # made since: unknown
        assert back.chat(key=beffroi.key).status == 200
        back.stop()


def test_a_directory_in_use_or_not_empty_is_left_alone(beffroi: Served, folder: Path) -> None:
    """With the reason; and an archive is not written over another."""
    archive = folder / "b.tar.gz"
    make(beffroi, archive)
    running = beffroi.run_cli("backup", "restore", str(archive))
    assert running.returncode == 1
    assert "Beffroi is running on" in running.stderr
    (folder / "full").mkdir()
    (folder / "full" / "letter").write_text("dear")
    full = beffroi.cli_bare("backup", "restore", str(archive), "--data", str(folder / "full"))
    assert full.returncode == 1
    assert "is not empty (it holds letter)" in full.stderr
    assert os.listdir(folder / "full") == ["letter"]
    again = beffroi.run_cli("backup", "create", str(archive))
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert not (beffroi.data / "staging").exists()


def test_it_goes_into_a_pipe(beffroi: Served, folder: Path) -> None:
    """For a program that encrypts: the archive alone on standard output."""
    assert beffroi.chat().status == 200
    command = [sys.executable, "-m", "beffroi", "backup", "create", "-", "--data", str(beffroi.data)]
    with (folder / "piped").open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=beffroi.env, check=True, timeout=30)
    assert b"holds secrets" in done.stderr
    verify = beffroi.cli_bare("backup", "verify", str(folder / "piped"), "--json")
    held = json.loads(verify.stdout)
    assert (held["exchanges"], held["unshipped"]) in ((1, 0), (0, 2))  # its row, or its intent and settlement


def test_every_file_of_a_served_directory_is_in_the_archive_or_passes(beffroi: Served, folder: Path) -> None:
    """A file that a later release adds is copied, unless it is known to be of no use."""
    assert beffroi.chat().status == 200
    (beffroi.data / "something-new").write_text("lasts")
    make(beffroi, folder / "b.tar.gz")
    beffroi.cli_bare("backup", "restore", str(folder / "b.tar.gz"), "--data", str(folder / "r"))
    held = {name for name in os.listdir(beffroi.data) if not passes(name)}
    assert held | {"lock"} == set(os.listdir(folder / "r"))
    assert (folder / "r" / "something-new").read_text() == "lasts"
    assert (folder / "r").stat().st_mode & 0o777 == 0o700


def test_a_stopped_directory_is_backed_up_without_a_server_and_its_journal_with_it(
    folder: Path, serve: Start, engine: ScriptedEngine
) -> None:
    """One that was killed with part of its journal not shipped: the restored one ships it."""
    told = unpack(folder / "data")
    served = Served(folder / "data")
    assert make(served, folder / "b.tar.gz")["files"] > 8
    checked = json.loads(served.cli_bare("backup", "verify", str(folder / "b.tar.gz"), "--json").stdout)
    assert checked["ok"]
    assert checked["exchanges"] == told["shipped"]
    assert checked["unshipped"] >= len(told["answers"]) - told["shipped"]
    served.cli_bare("backup", "restore", str(folder / "b.tar.gz"), "--data", str(folder / "back"))
    back = serve(engine, data="back", models=MODELS)
    rows = back.settled(answer["request_id"] for answer in told["answers"])
    assert all(len(found) == 1 for found in rows.values())


def test_a_second_backup_waits_for_whoever_packs_the_first(beffroi: Served, folder: Path) -> None:
    """The copy that is being packed stays; once it is let go the next one is made."""
    staging = beffroi.data / "staging"
    staging.mkdir()
    with reading(staging):
        done = beffroi.run_cli("backup", "create", str(folder / "b.tar.gz"))
        assert done.returncode == 1
        assert "another `beffroi backup create` is writing its archive" in done.stderr
        assert staging.exists()
    make(beffroi, folder / "b.tar.gz")
    assert not staging.exists()


def test_a_backup_of_nothing_says_so(folder: Path) -> None:
    """No server, no ledger: status 69, as for every command that finds nobody."""
    served = Served(folder / "data")
    done = served.run_cli("backup", "create", str(folder / "b.tar.gz"))
    assert done.returncode == 69
    assert "no control process answers" in done.stderr
    assert not (folder / "data").exists()


def test_control_killed_while_it_copies_fails_the_backup_and_leaves_nothing(beffroi: Served, folder: Path) -> None:
    """The command says that it must be made again; the next one works."""
    (control,) = beffroi.children("beffroi.control.process")
    os.kill(control, signal.SIGSTOP)
    command = [
        sys.executable,
        "-m",
        "beffroi",
        "backup",
        "create",
        str(folder / "b.tar.gz"),
        "--data",
        str(beffroi.data),
    ]
    making = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=beffroi.env)
    time.sleep(1)  # it has connected and waits for an answer
    os.kill(control, signal.SIGKILL)
    _, said = making.communicate(timeout=20)
    assert making.returncode == 70
    assert "ended while it worked on this" in said
    assert not list(folder.glob("*.tar.gz*"))
    wait_for(beffroi.is_ready, 10, "control is back")
    make(beffroi, folder / "b.tar.gz")
