# SPDX-License-Identifier: Apache-2.0
"""One place in the tree: the process that fills it now, and how the next one is started.

In: a module, its arguments, the descriptors it inherits. Out: a running process, its one line when it is ready, its end.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from typing import Any

from beffroi.supervisor.backoff import Backoff
from beffroi.supervisor.child import VARIABLE
from beffroi.telemetry import logs

_log = logs.Logger("beffroi.supervisor")
_READY_LINE = 64 << 10


class Child:
    """A place in the tree; its successive processes share name, arguments and sockets, and differ in their `boot` id.

    Args:
        name: in logs, such as `w00`.
        module: what it runs.
        arguments: its part of the JSON object in BEFFROI_CHILD, beside `boot`, `parent` and `ready_fd`.
        fds: open descriptors it inherits under their numbers.
        announces: whether it writes one JSON line to `ready_fd` once it can work.
    """

    def __init__(
        self, name: str, module: str, arguments: dict[str, Any], *, fds: tuple[int, ...] = (), announces: bool = False
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.due: float | None = None
        self.ready: dict[str, Any] | None = None
        self.ready_fd: int | None = None
        self.status = 0
        self._module = module
        self._fds = fds
        self._announces = announces
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._backoff = Backoff()
        self._line = b""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self, gate: int | None = None) -> None:
        """Start the next process of this place. With a `gate`, it loads its code and waits for the gate's other end to close."""
        self.due = self.ready = None
        self._line = b""
        arguments = {**self.arguments, "boot": uuid.uuid4().hex, "parent": os.getpid()}
        fds = self._fds
        if gate is not None:
            arguments["gate_fd"] = gate
            fds = (*fds, gate)
        theirs = None
        if self._announces:
            self.ready_fd, theirs = os.pipe()
            os.set_blocking(self.ready_fd, False)
            arguments["ready_fd"] = theirs
            fds = (*fds, theirs)
        try:
            # A process group of its own: Ctrl-C at the terminal reaches the supervisor alone, which knows the order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "beffroi.supervisor.child", self._module],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                pass_fds=fds,
                env={**os.environ, VARIABLE: json.dumps(arguments)},
                process_group=0,
            )
        finally:
            if theirs is not None:
                os.close(theirs)
        self._started = time.monotonic()

    def hear(self) -> None:
        """Take what came through `ready_fd`."""
        if self.ready_fd is None:
            return
        try:
            data = os.read(self.ready_fd, _READY_LINE)
        except BlockingIOError:
            return
        self._line += data
        line, newline, _ = self._line.partition(b"\n")
        if newline:
            self.ready = json.loads(line)
        if newline or not data or len(self._line) > _READY_LINE:
            self.deafen()

    def deafen(self) -> None:
        """Listen to `ready_fd` no longer."""
        if self.ready_fd is not None:
            os.close(self.ready_fd)
            self.ready_fd = None

    def reap(self) -> bool:
        """Whether the process has just ended; `status` then says how (negative: by which signal)."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return False
        self._process = None
        self.status = code
        self.hear()
        self.deafen()
        return True

    def schedule(self) -> None:
        """Plan the start that follows an end; `due` says when, in monotonic seconds."""
        now = time.monotonic()
        wait = self._backoff.after(now - self._started)
        self.due = now + wait
        _log.warning("child ended, another follows", child=self.name, status=self.status, wait_seconds=round(wait, 2))

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process to take it."""
        if self._process is not None:
            self._process.send_signal(number)
