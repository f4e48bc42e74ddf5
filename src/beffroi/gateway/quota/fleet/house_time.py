# SPDX-License-Identifier: Apache-2.0
"""House time of a fleet as one process sees it: what the centre last said, carried on by this machine's monotonic clock.

In: the centre's answers. Out: milliseconds of house time, wall times, money periods. No wall clock of this machine is read,
so a step of it changes nothing here; a step of the centre's clock is found by the script, which is told our estimate.
"""

from beffroi.core.clock import Clock
from beffroi.gateway.quota.calendar import Calendar, Period

MS = 1_000_000
NEWER_MS = 20  # an answer that differs less says no more than how long it took


class HouseTime:
    """Before the first answer it goes by this machine's wall clock, and `estimate` says that it knows nothing."""

    __slots__ = ("_base", "_clock", "_heard", "_periods", "calendar", "drift")

    def __init__(self, clock: Clock, zone: str) -> None:
        self._clock = clock
        self.calendar = Calendar(zone)
        self._base = clock.wall_ns() // MS - clock.mono_ns() // MS
        self._heard = False
        self.drift = 0
        self._periods: dict[int, tuple[Period, int, int]] = {}

    def now(self) -> int:
        """House time, in ms."""
        return self._base + self._clock.mono_ns() // MS

    def estimate(self) -> int:
        """House time as the script wants to hear it; 0: not known."""
        return self.now() if self._heard else 0

    def hear(self, now: int, drift: int) -> None:
        """What the centre said just now."""
        base = now - self._clock.mono_ns() // MS
        if not self._heard or abs(base - self._base) > NEWER_MS:
            self._base, self._heard = base, True
        self.drift = drift

    def wall_ns(self) -> int:
        """The wall time that the calendar follows."""
        return (self.now() + self.drift) * MS

    def period(self, kind: int) -> Period:
        """The money period of now."""
        wall = self.now() + self.drift
        known = self._periods.get(kind)
        if known is None or not known[1] <= wall < known[2]:
            period = self.calendar.period(kind, wall * MS)
            known = self._periods[kind] = (period, period.start_ns // MS, period.end_ns // MS)
        return known[0]
