# SPDX-License-Identifier: Apache-2.0
"""The supervisor's loop: starts the tree in order, keeps it alive, ends it in order.

In: a `Plan`, signals, the ends of children. Out: an exit status; when it returns, none of its processes is left.
Single-threaded on purpose: the kernel ties a child's life to the thread that started it (prctl(2), PR_SET_PDEATHSIG).
"""

import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path

from beffroi.core.snapshot import Damaged, Settings
from beffroi.core.state import load_config
from beffroi.supervisor.plan import Plan, Ready
from beffroi.supervisor.process import Child
from beffroi.supervisor.sockets import listen
from beffroi.telemetry import logs

_log = logs.Logger("beffroi.supervisor")
_STARTING = 10.0  # seconds after which a slow start is told
_READY_WAIT = 30.0  # seconds until the start is reported although a part is not ready
_ENGINE_WAIT = 5.0  # the same if only engines are missing: they are not ours to wait for
_DRAIN_GRACE = 5.0  # seconds over the workers' own limit before they are killed
_HASTE = 5.0  # seconds that a second signal leaves
_LAST = 10.0  # seconds for control, and for the engine, to end


class Supervisor:
    """Runs one `Plan` to its end.

    Args:
        plan: what to start.
        announce: called once, when clients can be served, or after 30 s with what is missing.
        leave: called when an announced start begins to end (False), and when all has ended (True).
    """

    def __init__(
        self, plan: Plan, announce: Callable[[Ready], None], leave: Callable[[bool], None] = lambda _over: None
    ) -> None:
        self._plan = plan
        self._announce = announce
        self._leave = leave
        self._announced = False
        self._stops = 0  # how many times we were asked to stop
        self._wake = -1
        self._terminal = (
            signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        )  # nohup(1) ignores SIGHUP
        self._sockets: list[socket.socket] = []
        self._workers: list[Child] = []
        self._control: list[Child] = []
        self._engine: list[Child] = []

    def run(self) -> int:
        """Start, keep, end. Returns 0 after a signal, another status if the start failed.

        Raises:
            StartError: a socket cannot be had.
        """
        _raise_descriptor_limit()
        with self._signals():
            try:
                code = self._start()
                while not code and not self._stops:
                    self._turn()
                return code
            finally:
                self._end()

    def _start(self) -> int:
        plan = self._plan
        doors = listen(plan.control_host, plan.control_port)
        self._sockets = listen(plan.host, plan.port, plan.workers) + doors
        self._control = [self._make_control(doors[0])]
        if plan.engine is not None:
            self._engine = [Child("engine", plan.engine_module, {**plan.engine, "role": "engine"}, announces=True)]
        self._workers = [self._make_worker(slot) for slot in range(plan.workers)]
        first = self._control + self._engine
        for child in first:
            child.start()
        gate, ours = os.pipe()  # workers load their code now, and begin when control has written what they read
        for child in self._workers:
            child.start(None if plan.warm and plan.engine is None else gate)
        os.close(gate)
        status = self._await_first(first)
        if status or self._stops:
            for child in self._workers:  # before the gate opens: they are not to begin
                child.signal(signal.SIGTERM)
        os.close(ours)
        if status:
            return status
        first_key = (self._control[0].ready or {}).get("first_key")
        self._control[0].arguments["fresh"] = False
        missing = self._await_readiness(doors[0])
        if not self._stops or first_key:  # the key is shown once: even to somebody who is leaving
            ports = self._sockets[0].getsockname()[1], doors[0].getsockname()[1]
            self._announced = True
            self._show(lambda: self._announce(Ready(*ports, first_key, missing)))
        return 0

    def _show(self, show: Callable[[], None]) -> None:
        try:
            show()
        except OSError as error:  # the reader of a pipe has left, a terminal was closed: no reason to stop serving
            _log.warning("what is to be read could not be shown", reason=str(error))
            _discard_output()

    def _await_first(self, first: Sequence[Child]) -> int:
        """0 once all of `first` are ready, or we are to stop; else the status of one that ended."""
        said = time.monotonic()
        while not self._stops and not all(child.ready for child in first):
            self._turn(_STARTING, but=first)
            for child in first:
                if child.pid is None:
                    _log.error("ended before it was ready", child=child.name, status=child.status)
                    return max(child.status, 1)
            if time.monotonic() > said + _STARTING:
                said = time.monotonic()
                _log.warning("not ready yet", children=[child.name for child in first if not child.ready])
        return 0

    def _make_control(self, door: socket.socket) -> Child:
        plan = self._plan
        arguments = {
            "role": "control",
            "workers": plan.workers,
            "data": str(plan.data),
            "host": plan.control_host,
            "port": door.getsockname()[1],
            "fd": door.fileno(),
            "config": None if plan.config is None else str(plan.config),
            "resources": plan.resources,
            "fleet": plan.fleet,
            "valkey": plan.valkey,
            "fresh": True,
        }
        return Child("control", plan.control_module, arguments, fds=(door.fileno(),), announces=True)

    def _make_worker(self, slot: int) -> Child:
        plan, fd = self._plan, self._sockets[slot].fileno()
        arguments = {
            "role": "worker",
            "worker": slot,
            "workers": plan.workers,
            "data": str(plan.data),
            "fd": fd,
            "tls": plan.tls,
            "valkey": plan.valkey,
        }
        return Child(f"w{slot:02}", plan.worker_module, arguments, fds=(fd,))

    def _await_readiness(self, door: socket.socket) -> dict[str, str]:
        """What control says is not ready when the wait is over; nothing, as soon as all is."""
        from beffroi.supervisor import probe  # noqa: PLC0415 - loaded while the children load theirs

        began = time.monotonic()
        missing = {"control": "not asked"}
        while missing and not self._stops:
            wait = _ENGINE_WAIT if missing.keys() == {"engines"} else _READY_WAIT
            if time.monotonic() > began + wait:
                break
            self._turn(0.02)
            missing = probe.missing(door)
        return missing

    def _turn(self, timeout: float | None = None, *, but: Sequence[Child] = ()) -> None:
        """Wait for something to happen, up to `timeout` seconds, and act on it; of `but` none is replaced."""
        children = self._workers + self._control + self._engine
        waits = [child.due - time.monotonic() for child in children if child.due is not None]
        if timeout is not None:
            waits.append(timeout)
        poll = select.poll()
        for fd in [self._wake, *(child.ready_fd for child in children if child.ready_fd is not None)]:
            poll.register(fd, select.POLLIN)
        poll.poll(ceil(max(0.0, min(waits)) * 1000) if waits else None)
        self._take_signals()
        for child in children:
            child.hear()
            if child.reap() and not self._stops and child not in but:
                child.schedule()
        for child in children:
            if child.due is not None and child.due <= time.monotonic() and not self._stops:
                child.start()

    def _take_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._signal_socket.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stops += 1
                elif number == signal.SIGHUP and self._terminal and not _has_terminal():
                    self._stops += 1  # the terminal was closed; nobody asks for a reload that way
                elif number == signal.SIGHUP:
                    for child in self._control:
                        child.signal(signal.SIGHUP)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become bytes that wake the loop; the handlers of before come back at the end."""
        self._signal_socket, writer = socket.socketpair()
        self._wake = self._signal_socket.fileno()
        before = {}
        with self._signal_socket, writer:
            for end in (self._signal_socket, writer):
                end.setblocking(False)
            previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                before[number] = signal.signal(number, _ignore)
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(previous)

    def _end(self) -> None:
        """Workers drain and end, then control, which takes up what they recorded, then the engine."""
        self._stops = max(self._stops, 1)
        if self._announced:
            self._show(lambda: self._leave(False))
        for one in self._sockets:  # with the workers' own copies this closes the port: nobody waits in its queue
            one.close()
        self._finish(self._workers, self._drain_timeout() + _DRAIN_GRACE)
        self._finish(self._control, _LAST)
        self._finish(self._engine, _LAST)
        if self._announced:
            self._show(lambda: self._leave(True))

    def _drain_timeout(self) -> float:
        try:
            return load_config(self._plan.data).settings.drain_timeout
        except (OSError, Damaged):
            return Settings().drain_timeout

    def _finish(self, children: list[Child], limit: float) -> None:
        """Ask `children` to end; ask again at each further signal; kill what is left after `limit` seconds."""
        asked = self._stops
        deadline = time.monotonic() + limit
        for child in children:
            child.signal(signal.SIGTERM)
        while any(child.pid for child in children):
            self._turn(max(0.0, deadline - time.monotonic()))
            if self._stops > asked:
                asked = self._stops
                deadline = min(deadline, time.monotonic() + _HASTE)
                for child in children:
                    child.signal(signal.SIGTERM)
            if time.monotonic() >= deadline:
                deadline += _LAST
                for child in children:
                    if child.pid:
                        _log.error("did not end in time and is killed", child=child.name)
                    child.signal(signal.SIGKILL)


def _ignore(_number: int, _frame: object) -> None:
    """A handler has to exist for the signal to reach the wake-up descriptor."""


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _discard_output() -> None:
    """Send what is still to be printed nowhere, so that Python does not fail over it at the end."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _raise_descriptor_limit() -> None:
    """Each connection costs a descriptor: take as many as the hard limit allows; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
