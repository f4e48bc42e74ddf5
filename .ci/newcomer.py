# SPDX-License-Identifier: Apache-2.0
"""Does what the README tells a newcomer to do: `make serve`, paste what it prints, Ctrl-C, and again.

In: a checkout. Out: exit status 0, or an assertion that says what did not hold. Uses nothing but the standard library,
because at this point nothing is installed.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEY = re.compile(r"bf-[0-9A-Za-z]{12}-[0-9A-Za-z]{38}")
INSTALL, START, END = 600, 60, 30  # seconds


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def left_of(session: int) -> list[str]:
    """Command lines of what still runs in a session."""
    left = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if entry.name.isdigit() and int(fields[3]) == session and fields[0] not in "ZX":
                left.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (OSError, IndexError):
            continue
    return left


class MakeServe:
    """`make serve` at a terminal of its own."""

    def __init__(self, data: str) -> None:
        arguments = f"--port {free_port()} --control-port {free_port()} --engine embedded"
        self.process = subprocess.Popen(
            ["make", "serve", f"DATA={data}", f"ARGS={arguments}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.printed = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.printed += line
            if "Ctrl-C stops" in line:
                self._ready.set()
        self._ready.set()

    def page(self, within: float) -> str:
        """What it printed, once it is ready."""
        assert self._ready.wait(within), f"not ready within {within} s:\n{self.printed}"
        assert "Beffroi is ready." in self.printed, self.printed
        return self.printed

    def ctrl_c(self) -> None:
        """As a terminal does it: to make and to what make runs."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(END)
        self._reader.join(END)
        left = left_of(self.process.pid)
        assert not left, f"still there after Ctrl-C: {left}"


def paste(command: list[str], key: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"BEFFROI_API_KEY": key},
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def examples(page: str, key: str) -> None:
    """Paste both."""
    curl = re.search(r"^curl (?:.+\n)+", page, re.MULTILINE)
    python = re.search(r"^(?:import os; )?from openai import .*\n(?:.+\n){4}", page, re.MULTILINE)
    assert curl, page
    assert python, page
    answer = paste(["bash", "-c", curl[0]], key)
    assert "The capital of France is Paris." in answer, answer
    story = paste([str(ROOT / ".venv/bin/python"), "-c", python[0]], key)
    assert story.startswith("Once upon a time"), story
    print(curl[0], answer, python[0] + story, sep="\n", end="\n\n")


def main() -> None:
    """Two starts."""
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        began = time.monotonic()
        first = MakeServe(folder)
        try:
            page = first.page(INSTALL)
            print(f"ready after {time.monotonic() - began:.1f} s, environment and all\n{page}")
            found = KEY.search(page)
            assert found, page
            # The package of the example, `pip install openai`, in the version that the tests use.
            subprocess.run(["make", "--silent", "dev-env"], cwd=ROOT, check=True)
            examples(page, found[0])
        finally:
            first.ctrl_c()
        began = time.monotonic()
        second = MakeServe(folder)
        try:
            page = second.page(START)
            print(f"ready again after {time.monotonic() - began:.1f} s")
            assert KEY.search(page) is None, "a key was shown again"
            examples(page, found[0])
        finally:
            second.ctrl_c()
    print("Ctrl-C left nothing behind, twice")


if __name__ == "__main__":
    sys.exit(main())
