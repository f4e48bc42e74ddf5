# SPDX-License-Identifier: Apache-2.0
"""Money periods: days and months of a time zone, or all time.

In: a kind and a wall time. Out: the period's number, start and end. A day has 23, 24 or 25 hours, as the zone has it.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY, MONTH, TOTAL = 1, 2, 3
KINDS = {"day": DAY, "month": MONTH, "total": TOTAL}
NAMES = {code: name for name, code in KINDS.items()}
KIND_SHIFT = 40
NEVER_NS = 1 << 62


class Period(NamedTuple):
    """One period: `number` holds its kind above bit 40 and grows with time; the ends are Unix nanoseconds."""

    number: int
    start_ns: int
    end_ns: int


class Calendar:
    """Periods of one zone.

    Raises:
        ValueError: no such time zone.
    """

    def __init__(self, zone: str) -> None:
        try:
            self.zone = ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"{zone!r} is not a time zone of this machine; write one such as Europe/Paris") from error

    def period(self, kind: int, wall_ns: int) -> Period:
        """The period of a kind that holds a wall time."""
        if kind == TOTAL:
            return Period(TOTAL << KIND_SHIFT, 0, NEVER_NS)
        local = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).astimezone(self.zone)
        if kind == DAY:
            start = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
            end = (start + timedelta(days=1)).replace(fold=0)
            number = start.toordinal()
        else:
            start = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
            end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
            number = start.year * 12 + start.month
        return Period(kind << KIND_SHIFT | number, _ns(start), _ns(end))

    def show(self, wall_ns: int) -> str:
        """A moment for people, in the zone."""
        local = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M} ({self.zone.key})"


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
