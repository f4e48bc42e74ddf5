# SPDX-License-Identifier: Apache-2.0
"""The one clock. Wall time for records (Unix nanoseconds, UTC), monotonic time for everything that is measured.

In: nothing. Out: integers in nanoseconds; tests hand in a clock of their own.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rooms ask of time."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may jump when the machine's clock is set."""
        ...

    def mono_ns(self) -> int:
        """Nanoseconds since an arbitrary start, the same for all processes of one boot; never goes back."""
        ...


class SystemClock:
    """The machine's clocks. CLOCK_MONOTONIC is one for all processes, so shared windows can use it."""

    wall_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)


def utc(ns: int) -> datetime:
    """Aware UTC datetime of a wall time in nanoseconds (microsecond precision)."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).replace(microsecond=ns // 1000 % 1_000_000)


def stamp(ns: int) -> str:
    """A wall time as programs read it, ISO 8601 in UTC: `2026-01-31T12:00:00.123456Z`."""
    return utc(ns).isoformat().replace("+00:00", "Z")
