# SPDX-License-Identifier: Apache-2.0
"""How long this machine may go on without the fleet's database: two deadlines, moved on for as long as it answers.

In: when changes were last followed and the journal last shipped. Out: the file `deadlines`, which workers keep to by
themselves; control may end, or the machine start anew, and the deadlines stand.
"""

import asyncio
import time
from pathlib import Path

from beffroi.control.fleet.follower import Follower
from beffroi.control.fleet.terms import Fleet
from beffroi.control.shipping import Shipper
from beffroi.core import deadlines
from beffroi.core.deadlines import Deadlines, in_seconds
from beffroi.telemetry import logs

EVERY = 2.0  # seconds between two writes, and no more than a quarter of what they allow
log = logs.Logger("control.fleet")


class Outage:
    """One per control process of a fleet."""

    def __init__(self, data: Path, fleet: Fleet, follower: Follower, shipper: Shipper) -> None:
        self._data = data
        self._fleet = fleet
        self._follower = follower
        self._shipper = shipper
        self._boot = deadlines.boot()

    async def run(self) -> None:
        """Write until cancelled. A disk that does not take it leaves the deadlines as they are, on the safe side."""
        while True:
            try:
                self._write()
            except OSError as error:
                log.error("the deadlines of this machine cannot be moved on", reason=str(error))
            await asyncio.sleep(min(EVERY, self._fleet.trust_keys / 4, self._fleet.hold_journal / 4))

    def _write(self) -> None:
        synced, shipped = self._follower.synced_at, self._shipper.complete_at
        if synced is None or shipped is None:
            return  # since this process began it was not; what stands there holds
        now, fleet = time.monotonic(), self._fleet
        keys = in_seconds(fleet.trust_keys - (now - synced))
        journal = in_seconds(fleet.hold_journal - (now - shipped))
        deadlines.write(self._data, Deadlines(self._boot, keys, journal, fleet.hold_journal_bytes))
