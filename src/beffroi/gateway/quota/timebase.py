# SPDX-License-Identifier: Apache-2.0
"""House time: one time line for all processes, which no jump of the wall clock moves and which a reboot continues.

In: the two clocks and the file's header. Out: ticks for the windows, periods for the money.
House time is CLOCK_MONOTONIC plus OFFSET; wall time is house time plus DRIFT. A step of the wall clock reaches the
calendar only when it has lasted ten minutes, so a clock that jumps and comes back opens and closes no budget.
"""

from beffroi.core.clock import Clock
from beffroi.gateway.quota.calendar import Calendar, Period
from beffroi.gateway.quota.layout import BOOT_HIGH, BOOT_LOW, DRIFT, LAST, OFFSET, STEP, STEP_SINCE, TICK_NS

SECOND = 1_000_000_000
BELIEVED_AFTER = 600 * SECOND
SLEW = SECOND  # a smaller difference is followed at once


class Timebase:
    """House time over a header that is already initialised (`start`, `rebase`)."""

    __slots__ = ("_clock", "_header", "_look_at", "_periods", "calendar", "mono", "offset")

    def __init__(self, header: "memoryview[int]", clock: Clock, calendar: Calendar) -> None:
        self._header = header
        self._clock = clock
        self.mono = clock.mono_ns
        self.offset = header[OFFSET]
        self.calendar = calendar
        self._periods: dict[int, tuple[Period, int, int, int]] = {}
        self._look_at = 0

    def tick(self) -> int:
        """The current tick."""
        return (self.mono() + self.offset) // TICK_NS

    def now(self) -> int:
        """House time in nanoseconds."""
        return self.mono() + self.offset

    def wall(self, house_ns: int) -> int:
        """The wall time (Unix nanoseconds) that the calendar gives to a house time."""
        return house_ns + self._header[DRIFT]

    def period(self, kind: int, tick: int) -> Period:
        """The money period of a tick. Calendar arithmetic is done once per period."""
        drift = self._header[DRIFT]
        known = self._periods.get(kind)
        if known is None or not known[1] <= tick < known[2] or known[3] != drift:
            period = self.calendar.period(kind, tick * TICK_NS + drift)
            # A tick belongs to the period that holds its start.
            first = -(-(period.start_ns - drift) // TICK_NS)
            known = self._periods[kind] = (period, first, -(-(period.end_ns - drift) // TICK_NS), drift)
        return known[0]

    def look(self, tick: int) -> None:
        """Once a second: leave a trace for the next boot, and watch the wall clock for steps."""
        if tick < self._look_at:
            return
        self._look_at = tick + SECOND // TICK_NS
        header = self._header
        house = self.now()
        header[LAST] = house
        wall = self._clock.wall_ns()
        step = wall - house - header[DRIFT]
        if abs(step) <= SLEW:
            if step:
                header[DRIFT] = wall - house
            header[STEP_SINCE] = 0
        elif header[STEP_SINCE] == 0 or abs(step - header[STEP]) > SLEW:
            header[STEP] = step
            header[STEP_SINCE] = house
        elif house - header[STEP_SINCE] >= BELIEVED_AFTER:
            header[DRIFT] = wall - house
            header[STEP_SINCE] = 0


def start(header: "memoryview[int]", clock: Clock) -> None:
    """A new file: house time begins at the wall time."""
    header[OFFSET] = clock.wall_ns() - clock.mono_ns()
    header[DRIFT] = header[STEP] = header[STEP_SINCE] = header[LAST] = 0


def rebooted(header: "memoryview[int]", clock: Clock, boot: tuple[int, int]) -> bool:
    """Whether the monotonic clock that OFFSET belongs to is gone."""
    return (header[BOOT_LOW], header[BOOT_HIGH]) != boot or clock.mono_ns() + header[OFFSET] < header[LAST] - SECOND


def rebase(header: "memoryview[int]", clock: Clock) -> None:
    """After a reboot house time goes on by what the wall clock says has passed; it never goes back."""
    house = max(clock.wall_ns() - header[DRIFT], header[LAST])
    header[OFFSET] = house - clock.mono_ns()
    header[STEP_SINCE] = 0
