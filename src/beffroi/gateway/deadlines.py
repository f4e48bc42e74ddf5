# SPDX-License-Identifier: Apache-2.0
"""How long this worker may go on without the database of a fleet: closed when a deadline passes, open again when it moves on.

In: the file `deadlines`, once a second, and what the journal directory holds. Out: `house.stale`, and a journal that takes no
intents. Keys that are too old are closed because a revocation may not have come; the journal because what it holds is
not in the ledger, where budgets and accounts are made up. What is in flight is answered and settled all the same.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from beffroi.core import deadlines
from beffroi.telemetry import logs

if TYPE_CHECKING:
    from beffroi.gateway.house import House

_EVERY = 5  # looks between two counts of what the journal holds
log = logs.Logger("beffroi.gateway")


class Watch:
    """One per worker."""

    def __init__(self, data: Path, house: "House") -> None:
        self._data = data
        self._house = house
        self._boot = deadlines.boot()
        self._looks = 0
        self._held = 0
        self._why = ""

    def look(self) -> None:
        """Compare the deadlines with the clock."""
        found = deadlines.load(self._data)
        stale, why = False, ""
        if found is not None:
            if self._looks % _EVERY == 0:
                self._held = held(self._data / "journal")
            self._looks += 1
            stale = deadlines.passed(found.keys, found, self._boot)
            if deadlines.passed(found.journal, found, self._boot):
                why = "the ledger has not taken in the journal for longer than `server.hold_journal`"
            elif self._held > found.journal_bytes:
                why = "the journal holds more than `server.hold_journal_bytes` that the ledger has not taken in"
        if stale != self._house.stale:
            self._house.stale = stale
            (log.error if stale else log.info)("keys_closed" if stale else "keys_open", data=str(self._data))
        if why != self._why:
            self._why = why
            self._house.journal.close_to_intents(why or None)
            (log.error if why else log.info)("journal_closed" if why else "journal_open", why=why)


def held(journal: Path) -> int:
    """Bytes of the segments that are there: shipped ones are removed."""
    total = 0
    for path in journal.glob("w*/*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
