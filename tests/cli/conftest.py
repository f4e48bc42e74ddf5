# SPDX-License-Identifier: Apache-2.0
"""One running Beffroi that has been used, one for each module of tests.

In: nothing. Out: `lived`, and the two ways of looking: `beffroi` in a pipe, `on_terminal` on a pseudo-terminal.
"""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from beffroi.cli.main import main
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served

MODELS = [
    {
        "id": "small",
        "aliases": ["chat"],
        "targets": [{"engine": "gpu1", "model": "words"}],
        "max_model_len": 32768,
        "prices": [
            {"input": 0.9, "output": 4, "reasoning": 21},
            {"effective": "2999-02-10", "input": 1.9, "output": 8, "reasoning": 8},
        ],
    },
    {
        "id": "large",
        "targets": [{"engine": "gpu1", "model": "words"}, {"engine": "gpu2", "model": "words"}],
        "prices": [{"input": "2.5", "cached": "0.25", "output": 10}],
    },
]
SECRET = "the cat sat on the mat"
_GONE = (
    (re.compile(r"bf-[0-9A-Za-z]{12}"), "bf-KEY"),
    (re.compile(r"(key|req)_[0-9a-f]{12,32}"), r"\1_ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?"), "DATE TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"http://127.0.0.1:\d+"), "URL"),
    (re.compile(r"\d+(\.\d+)? (ms|s)\b"), "SPAN"),
    (re.compile(r"\bw0\d\b"), "WORKER"),
    (re.compile(r" +$", re.MULTILINE), ""),
    (re.compile(r" {2,}"), "  "),
)


class Lived:
    """A `Served` with its engines and the keys that were used."""

    def __init__(self, served: Served, gpu1: ScriptedEngine, gpu2: ScriptedEngine) -> None:
        self.served, self.gpu1, self.gpu2 = served, gpu1, gpu2
        self.data = served.data
        self.keys: dict[str, str] = {}

    def use(self) -> None:
        """Two apps, a limit that was met, an engine that failed once, a name that a client chose badly."""
        served = self.served
        for name, options in {
            "billing": ("--requests-per-minute", "60", "--hard-budget", "10.50"),
            "intranet chat": ("--model", "chat", "--concurrency", "4"),
            "ci": ("--requests-per-minute", "2", "--soft-budget", "1", "--budget-period", "day"),
        }.items():
            self.keys[name] = str(served.cli("keys", "create", name, *options)["key"])
        for place in range(3):
            assert served.chat(SECRET, key=self.keys["billing"], model="small", stream=place == 1).status == 200
        served.chat(SECRET, key=self.keys["intranet chat"], model="chat", user="=bad\x1b[31m\x9b1m")
        for _ in range(3):
            served.chat(SECRET, key=self.keys["ci"], model="small", max_tokens=2)
        served.chat(SECRET, key=self.keys["intranet chat"], model="large")
        while not any(row["attempts"] > 1 for row in self.rows()):  # the pool is drawn from at random
            self.gpu2.script("close")
            served.chat(SECRET, key=served.key, model="large")
            self.gpu2.reset_script()

    def rows(self) -> list[dict[str, object]]:
        """The ledger, once it has all."""
        beffroi(self, "requests", "tail", "-n", "0")
        return self.served.ledger("SELECT * FROM exchanges ORDER BY request_id, attempt")


@pytest.fixture(scope="module")
def lived() -> Iterator[Lived]:
    """It, stopped at the end of the module."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with ScriptedEngine() as gpu1, ScriptedEngine() as gpu2:
        served = Served(folder / "data", {"gpu1": gpu1.url, "gpu2": gpu2.url}, models=MODELS, workers=2)
        try:
            used = Lived(served.start(), gpu1, gpu2)
            used.use()
            yield used
            served.stop()
        finally:
            served.kill()
            shutil.rmtree(folder, ignore_errors=True)


def beffroi(lived: Lived, *arguments: str) -> Result:
    """A command whose standard output is no terminal, in this process."""
    return CliRunner().invoke(main, [*arguments, "--data", str(lived.data)])


def printed(lived: Lived, *arguments: str) -> str:
    """What a command that succeeds prints in a pipe."""
    done = beffroi(lived, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def on_terminal(lived: Lived, *arguments: str, columns: int, **environ: str) -> str:
    """What a command prints on a terminal of that width, colours and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    running = subprocess.Popen(
        [sys.executable, "-m", "beffroi", *arguments, "--data", str(lived.data)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color", "PYTHONPATH": "src", **environ},
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # its end was closed
        pass
    os.close(ours)
    assert running.wait(10) == 0, seen.decode()
    return seen.decode().replace("\r\n", "\n")


def look(text: str) -> str:
    """A screen without what is another at each run: ids, keys, times, and the blanks that their widths make."""
    for pattern, instead in _GONE:
        text = pattern.sub(instead, text)
    return text
