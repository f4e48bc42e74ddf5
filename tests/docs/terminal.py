# SPDX-License-Identifier: Apache-2.0
"""Two terminals of a reader: one keeps `make serve` or another server running, in the other the commands of a page are typed.

In: blocks of commands. Out: what each printed. Where the kernel allows it both are in a network of their own, so that
ports stand as they are written on the page and nothing else on the machine is seen or disturbed.
"""

import contextlib
import functools
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness import alive, skip, tree, wait_for

_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: up, loopback, running
os.execvp(sys.argv[1], sys.argv[1:])
"""


@functools.cache
def own_network() -> tuple[str, ...]:
    """What is put before a command to give it a network of its own; a skip where the kernel gives none."""
    for options in (["--net"], ["--map-root-user", "--net"]):
        with contextlib.suppress(FileNotFoundError):
            command = ["unshare", *options]
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return (*command, "python3", "-c", _UP)
    return skip("a network of its own for a process (unshare --net; pages name fixed ports)")


class Terminal:
    """A shell in `folder`; `enter` runs a block and returns what it printed. Ends with all that it started."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.first-terminal.log"
        self.log.touch()
        self._count = self._first = 0
        self._shell = subprocess.Popen(
            [*own_network(), "bash", "--noprofile", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={key: value for key, value in os.environ.items() if not key.startswith(("BEFFROI_", "XDG_"))}
            | {"HOME": str(folder), "PYTHONUNBUFFERED": "1", "TERM": "dumb", "COLUMNS": "160"}
            | (env or {}),
            start_new_session=True,
        )

    def enter(self, commands: str, *, within: float = 60, fails: bool = False) -> str:
        """Run commands; → what they printed.

        Raises:
            AssertionError: the last one ended with a status other than 0 (unless `fails`), or not in time.
        """
        self._count += 1
        end = f"--end-{self._count}-"
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(f'{commands}\nprintf "\\n{end}%s\\n" "$?"\n'.encode())
        self._shell.stdin.flush()
        got, deadline = b"", time.monotonic() + within
        while not (done := re.search(rf"\n{end}(\d+)\n".encode(), got)):
            left = deadline - time.monotonic()
            assert left > 0, f"not done within {within} s:\n{commands}\n{got.decode()}"
            if select.select([self._shell.stdout], [], [], left)[0]:
                data = os.read(self._shell.stdout.fileno(), 65536)
                assert data, f"the shell ended:\n{commands}\n{got.decode()}"
                got += data
        printed = got[: done.start()].decode()
        assert fails or done[1] == b"0", f"status {done[1].decode()} of\n{commands}\n{printed}\n{self.served()[-2000:]}"
        return printed

    def served(self) -> str:
        """What the first terminal shows since its last start."""
        return self.log.read_text("utf-8", errors="replace")

    def serve(self, command: str, *, ready: str = "Ctrl-C stops", within: float = 60) -> str:
        """Type a command that keeps running into the first terminal, after Ctrl-C to what ran there; → what it shows once it is ready."""
        self.interrupt()
        self.log.write_bytes(b"")
        # Background jobs of a shell without job control ignore SIGINT; a terminal's foreground job does not.
        self._first = int(
            self.enter(
                f"python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.setsid();"
                f' os.execvp("bash", ["bash", "-c", sys.argv[1]])\' {_quoted(command)} >{_quoted(str(self.log))} 2>&1 </dev/null &\necho $!'
            ).split()[-1]
        )
        wait_for(
            lambda: ready in self.served() or not alive(self._first),
            within,
            f"{command!r} shows {ready!r}:\n{self.served()}",
        )
        assert ready in self.served(), f"{command} ended:\n{self.served()}"
        return self.served()

    def interrupt(self) -> None:
        """Ctrl-C in the first terminal."""
        if self._first:
            pids = tree(self._first)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._first, signal.SIGINT)
            wait_for(lambda: not any(alive(pid) for pid in pids), 30, "the first terminal's program ends after Ctrl-C")
            self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in reversed(tree(self._shell.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._shell.communicate()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def shows(printed: str, expected: str) -> None:
    """Assert that what the page shows was printed: each of its lines, in order; `…` stands for anything, a number for any number.

    Raises:
        AssertionError: with the line that is missing.
    """
    rest = " ".join(printed.split())
    for line in filter(None, (" ".join(one.split()) for one in expected.splitlines())):
        pattern = re.sub(r"\d+", r"\\d+", re.escape(line).replace("…", ".*?"))
        pattern = re.sub(r"(bf\\-)[0-9A-Za-z.\\d+*?]*", r"\1\\S+", pattern)
        found = re.search(pattern, rest)
        assert found, f"the page shows\n  {line}\nwhich was not printed (any more) in\n{printed}"
        rest = rest[found.end() :]
