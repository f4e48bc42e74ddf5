# SPDX-License-Identifier: Apache-2.0
"""The clock and the zones: expiry of keys, budgets' periods and every record go by them.

In: a `Scene`. Out: findings.
"""

import ctypes
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.cli.show import duration
from beffroi.core.snapshot import Settings

_TIME_ERROR = 5  # adjtimex(2)
_STATUS, _MAX_ERROR = slice(40, 44), slice(24, 32)  # of struct timex where a long has 64 bits
_STA_UNSYNC = 0x40
_JUMP = 0.5  # seconds that wall and monotonic time may part during the examination
_AHEAD = 5.0
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # no machine that runs this release lives before it
_SYNC = "Run chrony or systemd-timesyncd (`timedatectl set-ntp true`); ignore this where the host of a virtual machine keeps its time."
_SET = "Set the clock right (`chronyc makestep`, or `date -s`) before Beffroi serves again."


class Reading(NamedTuple):
    """What is known of the clock.

    Attributes:
        wall: Unix seconds.
        drift: seconds that wall time moved more than monotonic time, while we looked.
        synchronised: by the kernel's word; None: it does not say.
        error: seconds it may be wrong at most, by the kernel's word.
        newest: the file of the data directory that was written last, and when.
    """

    wall: float
    drift: float
    synchronised: bool | None
    error: float
    newest: tuple[str, float] | None


def clock(scene: Scene) -> Iterator[Finding]:
    """The machine's clock."""
    wall, mono = scene.began
    synchronised, error = _kernel_says()
    drift = (time.time() - wall) - (time.monotonic() - mono)
    yield judge_clock(Reading(time.time(), drift, synchronised, error, _newest(scene.data)))


def judge_clock(seen: Reading) -> Finding:
    """The worst that can be said of it."""
    if seen.wall < _EARLIEST:
        return Finding("clock", PROBLEM, f"It says {_day(seen.wall)}: that is before this release.", _SET)
    if seen.newest is not None and seen.newest[1] > seen.wall + _AHEAD:
        name, written = seen.newest
        return Finding(
            "clock", PROBLEM, f"{name} was written {duration(written - seen.wall)} in the future: the clock was set back.", _SET
        )  # fmt: skip
    if abs(seen.drift) > _JUMP:
        way = "forward" if seen.drift > 0 else "back"
        return Finding("clock", WARNING, f"It jumped {duration(abs(seen.drift))} {way} during this examination.", _SYNC)
    if seen.synchronised is False:
        return Finding("clock", WARNING, f"It says {_minute(seen.wall)}, and nothing keeps it synchronised.", _SYNC)
    if seen.synchronised is None:
        return Finding("clock", OK, f"It says {_minute(seen.wall)}; the kernel does not say whether it is kept right.")
    return Finding("clock", OK, f"It is synchronised, to {duration(seen.error)} at worst.")


def _kernel_says() -> tuple[bool | None, float]:
    timex = ctypes.create_string_buffer(256)  # modes 0: read only
    try:
        state = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return None, 0.0
    if state < 0:
        return None, 0.0
    status = int.from_bytes(timex.raw[_STATUS], "little")
    worst = int.from_bytes(timex.raw[_MAX_ERROR], "little") / 1_000_000
    return state != _TIME_ERROR and not status & _STA_UNSYNC, worst


def _newest(data: Path) -> tuple[str, float] | None:
    try:
        files = [(file.name, file.lstat().st_mtime) for file in data.iterdir()]
    except OSError:
        return None
    return max(files, key=lambda one: one[1], default=None)


def zones(scene: Scene) -> Iterator[Finding]:
    """Data of time zones, and the zone in which budgets' days and months begin."""
    yield judge_zone((Settings() if scene.config is None else scene.config.settings).time_zone)


def judge_zone(name: str) -> Finding:
    """Whether there is such a zone."""
    try:
        zone = zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return Finding(
            "time zone", PROBLEM, f"There is no data for the zone {name}, in which days and months of budgets begin.",
            "Install the distribution's tzdata, or `pip install tzdata`, or set gateway.time_zone to a zone there is.",
        )  # fmt: skip
    return Finding(
        "time zone", OK, f"Days and months of budgets begin in {name}, where it is {datetime.now(zone):%H:%M}."
    )


def _day(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d}"


def _minute(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M} UTC"
