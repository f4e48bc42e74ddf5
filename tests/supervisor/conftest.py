# SPDX-License-Identifier: Apache-2.0
"""A supervisor over stand-ins, as a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, alive, get, tree, wait_for


class Kept:
    """A running supervisor, and what its children noted."""

    def __init__(self, data: Path, workers: int) -> None:
        self.data = data
        self.workers = workers
        with (data.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.supervisor.run", str(data), str(workers)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ready(self) -> dict[str, Any]:
        """What it announced, once every worker serves (the stand-in for control does not know that)."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.process.wait(5)}"
        announced: dict[str, Any] = json.loads(line)
        wait_for(lambda: len(self.notes("serve", "worker")) >= self.workers, 10, "workers serve")
        return announced

    def notes(self, event: str, role: str | None = None) -> list[dict[str, Any]]:
        """The children's notes of one kind."""
        try:
            lines = [json.loads(line) for line in (self.data / "notes").read_text().splitlines()]
        except FileNotFoundError:
            return []
        return [line for line in lines if line["event"] == event and role in (None, line["told"]["role"])]

    def pids(self) -> list[int]:
        """The supervisor and all under it."""
        return tree(self.process.pid)

    def stop(self, number: int = signal.SIGTERM, within: float = 10) -> int:
        """Signal it; its exit status, once nothing of it is left."""
        pids = self.pids()
        self.process.send_signal(number)
        status = self.process.wait(within)
        assert [pid for pid in pids if alive(pid)] == []
        return status

    def close(self) -> None:
        """Kill what is left."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def keep(folder: Path) -> Iterator[Callable[..., Kept]]:
    """Starts a supervisor; `files` are made in the data directory before."""
    kept: list[Kept] = []

    def start(*files: str, workers: int = 1) -> Kept:
        data = folder / "data"
        data.mkdir(exist_ok=True)
        for name in files:
            (data / name).touch()
        kept.append(Kept(data, workers))
        return kept[-1]

    yield start
    for one in kept:
        one.close()


def ask(port: int) -> dict[str, Any]:
    """Which worker answers on `port`."""
    status, body = get(port, "/", timeout=5)
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


__all__ = ["ask", "wait_for"]
