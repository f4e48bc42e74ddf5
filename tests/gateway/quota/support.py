# SPDX-License-Identifier: Apache-2.0
"""What the tests of this room share: a clock to turn by hand, keys, asks, and worker processes.

In: nothing. Out: the above. Processes run this module (`python -m tests.gateway.quota.support`) and end with their test.
"""

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from beffroi.core.clock import Clock
from beffroi.core.errors import LimitExceeded
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota import Ask, Busy, MappedCounters, Ticket, Used

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
PARIS = ZoneInfo("Europe/Paris")
NOON = int(datetime(2025, 11, 12, 12, tzinfo=PARIS).timestamp()) * SECOND
ONE = Ask(0, 0, 0, 0)
NOTHING = Used(0, 0, 0)


class HandClock:
    """Two clocks that move when told: `pass_` moves both, the wall alone can be set."""

    def __init__(self, wall: int = NOON, mono: int = 1000 * SECOND) -> None:
        self.wall, self.mono = wall, mono

    def wall_ns(self) -> int:
        """The wall clock."""
        return self.wall

    def mono_ns(self) -> int:
        """The monotonic clock."""
        return self.mono

    def pass_(self, ns: float) -> None:
        """Time goes by."""
        self.wall += int(ns)
        self.mono += int(ns)


def key(slot: int = 0, **limits: Any) -> KeyRecord:
    """A key with these limits."""
    return KeyRecord(f"key_{slot}", "public", b"", 1, slot, limits=Limits(**limits))


def counters(path: Path, clock: Clock, worker: int = 0, workers: int = 4, **more: Any) -> MappedCounters:
    """One process's counters."""
    return MappedCounters(path, worker=worker, workers=workers, clock=clock, **more)


def admitted(shared: MappedCounters, record: KeyRecord, ask: Ask = ONE) -> Ticket | None:
    """A ticket, or None where a limit refuses."""
    while True:
        try:
            return shared.reserve(record, "m", None, ask)
        except LimitExceeded:
            return None
        except Busy:
            time.sleep(0.0002)


def at_paris(*moment: int) -> int:
    """Unix nanoseconds of a local time in Paris."""
    return int(datetime(*moment, tzinfo=PARIS).timestamp()) * SECOND  # type: ignore[arg-type]


class SharedClock:
    """A clock in a file that one process turns and others read."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(struct.pack("=2q", NOON, 1000 * SECOND))
        with path.open("r+b") as file:
            self.words = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")

    def wall_ns(self) -> int:
        """The wall clock."""
        return self.words[0]

    def mono_ns(self) -> int:
        """The monotonic clock."""
        return self.words[1]

    def pass_(self, ns: int) -> None:
        """Time goes by, for all."""
        self.words[0] += ns
        self.words[1] += ns


class Child:
    """A worker process of its own that does what its standard input says, a JSON line each."""

    def __init__(self, path: Path, worker: int, **limits: Any) -> None:
        order = json.dumps({"path": str(path), "worker": worker, "limits": limits})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.quota.support", order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONPATH": "src"},
        )
        assert self._line() == "ready"

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def tell(self, **order: Any) -> None:
        """Give an order; `answer` reads what comes of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What the process says; None: it has died."""
        return self._line()

    def ask(self, **order: Any) -> Any:
        """Tell, and wait for the answer."""
        self.tell(**order)
        return self.answer()

    def kill(self) -> None:
        """As the kernel does it when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _serve(order: dict[str, Any]) -> None:
    path = Path(order["path"])
    shared = counters(path, SharedClock(path.with_suffix(".clock")), order["worker"])
    shared.reset_worker(order["worker"])
    record = key(**order["limits"])
    held: list[Ticket] = []
    _say("ready")
    for line in sys.stdin:
        each = json.loads(line)
        ask = Ask(*each.get("ask", (0, 0, 0, 0)))
        used = Used(*each.get("used", (0, 0, 0)))
        match each["do"]:
            case "reserve":  # so many times; how many were admitted
                got = [ticket for _ in range(each["times"]) if (ticket := admitted(shared, record, ask)) is not None]
                held += got
                _say(len(got))
            case "settle":  # all that is held
                for ticket in held:
                    shared.settle(ticket, used)
                while shared.pay():
                    time.sleep(0.001)
                held.clear()
                _say("done")
            case "churn":  # until killed; each round is counted in a file when it is over
                with Path(each["rounds"]).open("r+b") as file:
                    rounds = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
                _say("churning")
                while True:
                    ticket = admitted(shared, record, ask)
                    if ticket is not None:
                        shared.settle(ticket, used)
                        while shared.pay():
                            time.sleep(0.0002)
                        rounds[0] += 1
            case "freeze":  # with the lock of the key in hand
                with shared._file.held(shared._plan(record).at, 1.0):
                    _say("holding")
                    os.kill(os.getpid(), signal.SIGSTOP)
                _say("released")


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
