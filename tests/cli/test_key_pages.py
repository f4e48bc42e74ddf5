# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/how-to/rotate-keys.md and docs/how-to/leaked-key.md, against a running control process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.fakes import Control, WorkerThread, control
from tests.docs.blocks import of
from tests.harness import wait_for


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process with the store of the page, and a worker."""
    folder = tmp_path_factory.mktemp("c")
    (folder / "data").mkdir()
    config = folder / "beffroi.yaml"
    config.write_text(
        "resources:\n"
        "  engines: [{name: a, url: 'http://127.0.0.1:9'}]\n"
        "  models: [{id: m}]\n"
        f"  secret_stores: [{{name: disk, kind: file, at: {folder / 'keys'}}}]\n"
    )
    with control(folder / "data", config=config) as process, WorkerThread(folder / "data"):
        yield process


def shell(running: Control, commands: str, folder: Path) -> str:
    """What they print; they all succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={
            **os.environ,
            "BEFFROI_DATA": str(running.data),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_key_is_rotated_as_the_page_says(running: Control, tmp_path: Path) -> None:
    """Both schedules are taken; begun by hand, the successor comes into the store."""
    shell(running, "beffroi keys create app", tmp_path)
    blocks = [block.text for block in of("docs/how-to/rotate-keys.md", "sh") if not block.reason]
    shell(running, "\n".join((blocks[0], blocks[1], blocks[3], blocks[2])), tmp_path)
    stored = Path(running.arguments["config"]).parent / "keys/default/app"
    wait_for(stored.exists, 10, "the successor is in the store")
    found = json.loads(shell(running, "beffroi keys rotations list --json", tmp_path))
    wait_for(
        lambda: json.loads(shell(running, "beffroi keys rotations list --json", tmp_path))[0]["state"] == "overlap",
        10,
        "the successor is delivered",
    )
    assert len(found) == 1 and found[0]["plan"]["delivery"] == {
        "store": "disk", "path": "app", "field": "api_key",
    }  # fmt: skip


def test_leaked_keys_are_revoked_as_the_page_says(running: Control, tmp_path: Path) -> None:
    """By name, out of a report and a repository's history, by owner; then looked at."""
    key = {
        name: shell(running, f"beffroi keys create {name} --owner team-b", tmp_path).strip()
        for name in ("report", "history", "other")
    }
    shell(running, "beffroi keys create app2; beffroi keys create stale --owner team-a", tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"match": key["report"]}))
    (tmp_path / "file").write_text(key["history"])
    shell(running, "git init -q . && git add file && git -c user.name=a -c user.email=a@b commit -qm x", tmp_path)
    commands = "\n".join(block.text for block in of("docs/how-to/leaked-key.md", "sh"))
    said = shell(running, commands, tmp_path)
    assert said.count("1 revoked: the one worker refuses them") == 2
    states = {each["name"]: each["state"] for each in json.loads(shell(running, "beffroi keys list --json", tmp_path))}
    assert (states["report"], states["history"], states["other"], states["stale"]) == (
        "revoked",
        "revoked",
        "active",
        "active",
    )
    assert not any(text in said for text in key.values())
