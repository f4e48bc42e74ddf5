# SPDX-License-Identifier: Apache-2.0
"""Days and moments as people write them in files, and as Unix seconds.

In: `2027-01-31` or `2027-01-31T12:00:00+01:00`. Out: Unix seconds; and back, as the shorter of the two that is exact.
"""

import datetime
import zoneinfo

LAST = 253_402_300_799  # the end of the year 9999


def seconds(text: str, zone: str) -> int:
    """Unix seconds of a moment, or of the beginning of a day in a zone.

    Raises:
        ValueError: it is neither, or has parts of a second.
    """
    if len(text) == 10:
        day = datetime.date.fromisoformat(text)
        moment = datetime.datetime.combine(day, datetime.time(), zoneinfo.ZoneInfo(zone))
    else:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None or moment.microsecond:
            raise ValueError("a moment has a zone, and whole seconds")
    found = int(moment.timestamp())
    if not 0 <= found <= LAST:
        raise ValueError("a moment is between 1970 and 9999")
    return found


def text(at: int, zone: str) -> str:
    """The day, where `at` is the beginning of one in that zone; else the moment in UTC."""
    local = datetime.datetime.fromtimestamp(at, zoneinfo.ZoneInfo(zone))
    if local.time() == datetime.time() and seconds(local.date().isoformat(), zone) == at:
        return local.date().isoformat()
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")
