# SPDX-License-Identifier: Apache-2.0
"""One turn of the loop: what is written in it, and in which order anybody hears of it."""

import asyncio
from pathlib import Path

from tests.gateway.journal.support import intent, journal, on_disk, settlement


async def test_what_else_belongs_to_a_turn_is_done_before_anybody_hears_of_it(tmp_path: Path) -> None:
    """The counters of a settlement are written after its record and before its last byte leaves; once a turn."""
    seen: list[str] = []

    def counters() -> None:
        seen.append(f"counters after {len(on_disk(tmp_path))} records")

    async with journal(tmp_path, before_then=counters) as spool:
        spool.intent(intent("req_a"), lambda _: seen.append("a begins"))
        await asyncio.sleep(0)
        spool.settle(settlement("req_a"), lambda _: seen.append("a ends"))
        spool.settle(settlement("req_b", 0), lambda _: seen.append("b ends"))
        await asyncio.sleep(0)
        assert seen == ["counters after 1 records", "a begins", "counters after 3 records", "a ends", "b ends"]
