# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal sees of `beffroi serve`: a page, then only what matters; and words when it cannot start."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.client import call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, free_port, wait_for


class Terminal:
    """`beffroi serve` with a terminal of its own; `shown` is all that it has shown, without colours."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        ours, theirs = pty.openpty()
        self._screen = os.fdopen(ours, "rb", buffering=0)
        self._raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "beffroi", "serve", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = self._screen.read(65536)
            except OSError:  # the last process that held the terminal has ended
                return
            if not piece:
                return
            self._raw += piece

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self._raw.decode(errors="replace")).replace("\r\n", "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(15)
        self._reader.join(5)
        self._screen.close()


@pytest.fixture
def config(folder: Path) -> Iterator[Path]:
    """A configuration with one engine that is there and one that is not."""
    with ScriptedEngine() as engine:
        file = folder / "beffroi.yaml"
        engines = [{"name": "there", "url": engine.url}, {"name": "gone", "url": f"http://127.0.0.1:{free_port()}"}]
        models = [{"id": "words", "targets": [{"engine": "there"}, {"engine": "gone"}]}]
        file.write_text(json.dumps({"resources": {"engines": engines, "models": models}}))
        yield file


def test_a_terminal_shows_the_page_and_then_only_what_matters(folder: Path, config: Path) -> None:
    """No line of a log before the page; a change, a refusal and a death in words; two lines at the end."""
    ports = ("--port", "0", "--control-port", "0")
    with Terminal(*ports, "--data", "data", "--config", str(config), cwd=folder) as terminal:
        wait_for(lambda: "Ctrl-C stops" in terminal.shown, 20, "the page is shown")
        page = terminal.shown
        assert page.startswith("Beffroi is ready.\n"), page
        assert "gone does not answer at http://127.0.0.1:" in page
        assert "there does not answer" not in page
        assert '{"' not in page.partition("Try it")[0]
        document = json.loads(config.read_text())
        document["resources"]["models"][0]["id"] = "mots"
        config.write_text(json.dumps(document))
        wait_for(lambda: "configuration applied" in terminal.shown, 10, "the change is told")
        config.write_text("[")
        wait_for(lambda: "error: configuration refused" in terminal.shown, 10, "the refusal is told")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(15) == 0
        wait_for(lambda: terminal.shown.endswith("\nStopped.\n"), 5, "the end is told")
        after = terminal.shown.removeprefix(page).splitlines()
        assert re.fullmatch(r"\d\d:\d\d:\d\d control: configuration applied  revision=2  models=1  engines=2", after[0])
        assert after[-2] == "Stopping: open answers are finished first, another Ctrl-C cuts them."


def test_a_changed_configuration_is_in_force_from_the_first_request_of_a_start(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """Workers that need not wait for control serve what was configured now, and not what an earlier start left."""
    served = serve(engine)
    assert served.chat().status == 200
    served.stop()
    served.document["resources"]["models"][0]["id"] = "mots"
    served.start(ready=False)
    statuses: list[int] = []

    def answered() -> bool:
        try:
            statuses.append(call(served.address, request(served.key, chat("hello", model="mots"))).status)
        except OSError:
            return False
        return True

    wait_for(answered, 20, "the first answer")
    assert statuses == [200]


def test_with_the_same_configuration_requests_are_served_before_control_is_there(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """A control that takes its time (here: stopped by a signal) keeps nobody waiting, whose key lies on the disk."""
    served = serve(engine)
    served.kill()
    served.start(ready=False)
    control: list[int] = []

    def found() -> bool:
        control[:] = served.children("beffroi.control.process")
        return bool(control)

    wait_for(found, 10, "control begins")
    os.kill(control[0], signal.SIGSTOP)
    try:
        wait_for(lambda: _served(served), 10, "an answer without control")
    finally:
        os.kill(control[0], signal.SIGCONT)
    served.wait_ready()


def _served(served: Served) -> bool:
    try:
        return served.chat().status == 200
    except OSError:
        return False


def refused(arguments: list[str], cwd: Path, **env: str) -> str:
    """What a start says that cannot be; it is no traceback."""
    bare = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}  # also where make runs the tests
    done: Any = subprocess.run(
        arguments, cwd=cwd, env=bare | env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode in {1, 2}, done
    assert "Traceback" not in done.stderr
    return str(done.stderr)


def test_each_reason_not_to_start_is_told_with_a_way_out(beffroi: Served, folder: Path) -> None:
    """A directory in use, a port that is taken, a directory that cannot be."""
    serve = [sys.executable, "-m", "beffroi", "serve", "--engine", "embedded", "--control-port", "0"]
    path = {"PYTHONPATH": str(ROOT / "src")}
    said = refused([*serve, "--data", str(beffroi.data), "--port", "0"], folder, **path)
    assert f"process {beffroi.pid} holds it" in said and "--data" in said
    said = refused([*serve, "--data", "other", "--port", str(beffroi.port)], folder, **path)
    assert f"Port {beffroi.port} on 127.0.0.1 is taken" in said and "--port" in said
    assert "make" not in said
    assert 'make serve ARGS="--port 9000"' in refused(
        [*serve, "--data", "other", "--port", str(beffroi.port)], folder, **path, MAKELEVEL="1"
    )
    assert "cannot be used" in refused([*serve, "--data", "/proc/none", "--port", "0"], folder, **path)
