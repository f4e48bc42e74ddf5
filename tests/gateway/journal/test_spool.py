# SPDX-License-Identifier: Apache-2.0
"""The journal in good times: one write per turn, told after the write, durable soon, never out of space for settlements."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from beffroi.control import segments
from beffroi.core.errors import BeffroiError, JournalUnavailable
from beffroi.core.record import PROGRESS, REFUSALS, Intent, Refusals, Settlement, frame
from beffroi.gateway.journal.bounds import MAX_RECORD
from tests.gateway.journal.support import (
    SEGMENT,
    boot_id,
    intent,
    journal,
    on_disk,
    progress,
    request_id,
    settlement,
    until,
)


async def test_all_records_of_a_turn_leave_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests a turn of the loop moves, the disk is asked once."""
    writes: list[int] = []
    pwrite = os.pwrite

    def counted(fd: int, data: bytes, offset: int) -> int:
        writes.append(len(data))
        return pwrite(fd, data, offset)

    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        monkeypatch.setattr(os, "pwrite", counted)
        for number in range(20):
            spool.intent(intent(request_id(number)), lambda error: None)
            spool.append(PROGRESS, progress(request_id(number), number))
        assert writes == []
        await asyncio.sleep(0)
        assert len(writes) == 1
        assert spool.records == 40
        monkeypatch.undo()


async def test_then_runs_after_the_record_is_in_the_file(tmp_path: Path) -> None:
    """What must follow a record (a byte to an engine, the last to a client) can be sent from `then`."""
    seen: list[tuple[int, BeffroiError | None]] = []
    async with journal(tmp_path) as spool:
        spool.intent(intent("req_a"), lambda error: seen.append((len(on_disk(tmp_path)), error)))
        spool.settle(settlement("req_a"), lambda error: seen.append((len(on_disk(tmp_path)), error)))
        assert seen == []
        await asyncio.sleep(0)
        assert seen == [(2, None), (2, None)]


async def test_a_callback_that_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """A bug in one exchange is the loop's to report, not the other exchanges' to wait for."""
    told: list[str] = []
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    def broken(_: BeffroiError | None) -> None:
        raise ZeroDivisionError

    async with journal(tmp_path) as spool:
        spool.intent(intent("req_a"), lambda _: told.append("a"))
        spool.intent(intent("req_b"), broken)
        spool.intent(intent("req_c"), lambda _: told.append("c"))
        await asyncio.sleep(0.01)
    assert told == ["a", "c"]
    assert [type(problem["exception"]) for problem in problems] == [ZeroDivisionError]


async def test_records_come_back_as_they_were_through_many_segments(tmp_path: Path) -> None:
    """Segments follow each other without a gap in the sequence, and closing leaves nothing that is not a record."""
    boot = boot_id()
    written: list[Any] = []
    async with journal(tmp_path, boot=boot, worker=3) as spool:
        for number in range(600):
            record = settlement(request_id(number), attempt=0, findings=("a", "b"), user="é" * (number % 40))
            spool.settle(record, None)
            written.append(record)
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: spool.records == 600)
    assert on_disk(tmp_path) == written
    names = sorted(path.name for path in (tmp_path / "w03").iterdir())
    assert len(names) > 2
    assert names == [f"{boot}-{number:08d}.seg" for number in range(1, len(names) + 1)]
    last = tmp_path / "w03" / names[-1]
    assert last.stat().st_size < SEGMENT, "closing cuts the last segment to its length"


async def test_a_sync_starts_within_ten_milliseconds_and_never_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D19: power loss costs at most 10 ms and one sync. Measured from the write to the start of fdatasync."""
    synced: list[float] = []
    fdatasync = os.fdatasync
    loop_thread = __import__("threading").get_ident()
    wrong: list[int] = []

    def watched(fd: int) -> None:
        synced.append(time.monotonic())
        if __import__("threading").get_ident() == loop_thread:
            wrong.append(fd)
        fdatasync(fd)

    delays = []
    async with journal(tmp_path) as spool:
        monkeypatch.setattr(os, "fdatasync", watched)
        for number in range(20):
            await until(lambda: spool.lag_bytes == 0)
            synced.clear()
            spool.settle(settlement(request_id(number), attempt=0), None)
            await asyncio.sleep(0)
            written = time.monotonic()
            await until(lambda: bool(synced))
            delays.append(synced[0] - written)
    assert wrong == []
    assert sorted(delays)[len(delays) // 2] < 0.010, delays
    assert max(delays) < 0.050, delays  # a busy machine may be late; a missing timer would be seconds


async def test_many_turns_share_a_sync(tmp_path: Path) -> None:
    """Durability costs a hundred syncs a second, not one per request."""
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        begun = time.monotonic()
        for number in range(300):
            spool.settle(settlement(request_id(number), attempt=0), None)
            await asyncio.sleep(0)
        took = time.monotonic() - begun
        await until(lambda: spool.lag_bytes == 0)
        assert spool.records == 300
        assert spool.syncs <= took / 0.006 + 3


async def test_space_to_settle_everything_in_flight_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no new segments to be had, intents stop early enough that each one taken can be settled, at full size."""
    taken: list[str] = []
    async with journal(tmp_path) as spool:
        await until(lambda: len(list((tmp_path / "w00").glob("*.seg"))) >= 2)

        def full(fd: int, offset: int, size: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(JournalUnavailable) as refused:
            for number in range(10_000):
                spool.intent(intent(request_id(number)), lambda error: None)
                taken.append(request_id(number))
                await asyncio.sleep(0)
        assert refused.value.status == 503
        assert refused.value.retry_after
        assert not spool.healthy
        assert len(taken) > 10
        settled: list[BeffroiError | None] = []
        for request in taken:
            spool.settle(settlement(request, findings=("x" * 30,) * 110), settled.append)
            await asyncio.sleep(0)
        assert settled == [None] * len(taken)
        assert max(len(frame(3, 1, payload)) for payload in on_disk(tmp_path) if isinstance(payload, Settlement)) > 3000
        monkeypatch.undo()
        await until(lambda: spool.healthy)
        spool.intent(intent("req_again"), lambda error: None)
        await asyncio.sleep(0)


async def test_what_is_made_ahead_grows_with_what_is_in_flight(tmp_path: Path) -> None:
    """Thousands of open streams do not run into the end of the space made ahead."""
    async with journal(tmp_path) as spool:
        for number in range(400):
            while not spool.healthy:
                await asyncio.sleep(0.002)
            spool.intent(intent(request_id(number)), lambda error: None)
        await until(lambda: spool.healthy)
        ready = len(list((tmp_path / "w00").glob("*.seg"))) * SEGMENT
        assert ready >= 400 * MAX_RECORD


async def test_an_oversized_settlement_is_shortened_and_not_refused(tmp_path: Path) -> None:
    """Text of engines and clients cannot make a record larger than what is held back for it."""
    async with journal(tmp_path) as spool:
        spool.intent(intent("req_a"), lambda error: None)
        spool.settle(
            settlement("req_a", user="u" * 60_000, finish_reason="f" * 60_000, findings=("x" * 9_000,) * 9), None
        )
        await asyncio.sleep(0)
        found = [payload for payload in on_disk(tmp_path) if isinstance(payload, Settlement)]
    assert len(found) == 1
    assert found[0].tokens.output == 5
    assert len(frame(3, 1, found[0])) <= MAX_RECORD


async def test_refusals_of_a_second_are_split_into_records_that_fit(tmp_path: Path) -> None:
    """A flood from a thousand prefixes is still counted to the last one."""
    counts = {f"invalid_api_key 10.{n // 256}.{n % 256}.0/24": n for n in range(1000)}
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        spool.append(REFUSALS, Refusals(1, counts))
        await asyncio.sleep(0)
        back: dict[str, int] = {}
        for payload in on_disk(tmp_path):
            assert isinstance(payload, Refusals)
            assert len(frame(REFUSALS, 1, payload)) <= MAX_RECORD
            back |= payload.counts
    assert back == counts


async def test_closing_twice_is_harmless_and_closed_takes_no_intents(tmp_path: Path) -> None:
    """A drained worker cannot begin anything new by accident."""
    async with journal(tmp_path) as spool:
        spool.intent(intent("req_a"), lambda error: None)
        spool.close()
        spool.close()
        with pytest.raises(JournalUnavailable):
            spool.intent(intent("req_b"), lambda error: None)
    assert [payload.request_id for payload in on_disk(tmp_path) if isinstance(payload, Intent)] == ["req_a"]


async def test_a_journal_without_records_leaves_no_file(tmp_path: Path) -> None:
    """A worker that served nothing leaves nothing to ship."""
    async with journal(tmp_path):
        pass
    assert list((tmp_path / "w00").iterdir()) == []


async def test_what_a_writer_left_while_it_made_a_segment_is_swept_away(tmp_path: Path) -> None:
    """Killed between making a file and naming it: the successor removes it, or disks would fill crash by crash."""
    folder = tmp_path / "w00"
    folder.mkdir()
    (folder / f"{boot_id()}-00000002.new").write_bytes(b"\0" * 100)
    async with journal(tmp_path):
        await until(lambda: len(list(folder.glob("*.seg"))) == 2)
        assert list(folder.glob("*.new")) == []


async def test_the_writer_holds_a_lock_that_readers_see(tmp_path: Path) -> None:
    """Readers tell the living from the dead by it."""
    async with journal(tmp_path, boot=(boot := boot_id())) as spool:
        spool.intent(intent("req_a"), lambda error: None)
        await asyncio.sleep(0)
        assert segments.is_alive(segments.find(tmp_path)[boot])
    assert not segments.is_alive(segments.find(tmp_path)[boot])
