# SPDX-License-Identifier: Apache-2.0
"""How long a gateway may go on without its database: two deadlines in a file beside the key table, moved on while all is well.

In: what control knows of the database. Out: `deadlines`, which every worker reads once a second, whether control runs or not.
There is no such file where the database lies on the same machine. Deadlines are counted on the clock that no one can set
(CLOCK_BOOTTIME), and on the wall clock only for the time after the machine has been started anew.
"""

import time
from pathlib import Path

import msgspec

FILE = "deadlines"
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Deadline(msgspec.Struct, frozen=True):
    """A moment on both clocks, in nanoseconds."""

    running: int
    wall: int


class Deadlines(msgspec.Struct, frozen=True):
    """What control last wrote.

    Attributes:
        boot: of the machine, when it was written.
        keys: until when its workers may believe their key table.
        journal: until when requests may be taken that the ledger does not have yet.
        journal_bytes: how much the journal may hold.
    """

    boot: str
    keys: Deadline
    journal: Deadline
    journal_bytes: int


NOTHING = Deadlines("?", Deadline(0, 0), Deadline(0, 0), 0)  # a file that cannot be read: all deadlines have passed


def boot() -> str:
    """Which start of the machine this is."""
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def in_seconds(seconds: float) -> Deadline:
    """So many seconds from now."""
    ns = int(seconds * 1e9)
    return Deadline(time.clock_gettime_ns(_CLOCK) + ns, time.time_ns() + ns)


def write(data: Path, deadlines: Deadlines) -> None:
    """Replace the file; whole, or as it was."""
    temporary = data / f"{FILE}.new"
    temporary.write_bytes(msgspec.json.encode(deadlines))
    temporary.chmod(0o600)
    temporary.rename(data / FILE)


def load(data: Path) -> Deadlines | None:
    """What is written there; None: there is no such file, so no deadlines."""
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Deadlines)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError):
        return NOTHING


def passed(deadline: Deadline, deadlines: Deadlines, here: str) -> bool:
    """Whether a deadline is over; `here` is `boot()`."""
    if deadlines.boot == here:
        return time.clock_gettime_ns(_CLOCK) > deadline.running
    return time.time_ns() > deadline.wall
