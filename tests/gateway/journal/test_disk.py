# SPDX-License-Identifier: Apache-2.0
"""The journal when the disk fails: intents are refused, settlements kept, nothing lost, and it recovers by itself.

Failures are real where the kernel makes them for us (a file size limit, a full file system), scripted where it will not.
"""

import asyncio
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beffroi.core.errors import BeffroiError, JournalUnavailable
from beffroi.core.record import PROGRESS, REFUSALS, Intent, Refusals, Settlement
from beffroi.gateway.journal import Journal
from tests.gateway.journal.support import intent, journal, on_disk, progress, request_id, settlement, until

Fail = Callable[[str, int | None], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    """`fail(call, errno)` makes a call of `os` fail from now on; `fail(call, None)` heals it."""
    real = {name: getattr(os, name) for name in ("pwrite", "fdatasync", "posix_fallocate")}

    def script(name: str, code: int | None) -> None:
        def failing(*_: object) -> int:
            raise OSError(code, os.strerror(code or 0))

        monkeypatch.setattr(os, name, real[name] if code is None else failing)

    yield script
    monkeypatch.undo()


def requests(directory: Path, kind: type[Intent] | type[Settlement]) -> list[str]:
    """Ids of the intents or settlements on disk, in order."""
    return [payload.request_id for payload in on_disk(directory) if isinstance(payload, kind)]


async def open_some(spool: Journal, count: int) -> list[str]:
    """So many intents, written."""
    ids = [request_id(number) for number in range(count)]
    for each in ids:
        spool.intent(intent(each), lambda error: None)
    await asyncio.sleep(0)
    return ids


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EROFS])
async def test_settlements_wait_in_memory_while_writing_fails_and_are_written_after(
    tmp_path: Path, fail: Fail, code: int
) -> None:
    """Whatever the disk says, what was begun is settled once it can be; the caller is told that it is not yet."""
    told: list[BeffroiError | None] = []
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        ids = await open_some(spool, 30)
        fail("pwrite", code)
        for each in ids[:10]:
            spool.settle(settlement(each), told.append)
        await asyncio.sleep(0.02)
        for each in ids[10:]:
            spool.settle(settlement(each), told.append)
        with pytest.raises(JournalUnavailable):
            spool.intent(intent("req_new"), lambda error: None)
        await asyncio.sleep(0.02)
        assert [type(error) for error in told] == [JournalUnavailable] * 30
        assert not spool.healthy
        assert spool.trouble is not None
        assert spool.kept == 30
        fail("pwrite", None)
        await until(lambda: spool.healthy)
        assert (spool.kept, spool.trouble) == (0, None)
        await open_some(spool, 1)
        assert requests(tmp_path, Settlement) == ids
        assert len(requests(tmp_path, Intent)) == 31


async def test_an_intent_that_could_not_be_written_is_refused_and_never_on_disk(tmp_path: Path, fail: Fail) -> None:
    """`then(error)`: nothing may be sent, and recovery must not find an exchange that never was."""
    told: list[BeffroiError | None] = []
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        await open_some(spool, 1)
        fail("pwrite", errno.EIO)
        spool.intent(intent("req_new"), told.append)
        await asyncio.sleep(0.01)
        assert [type(error) for error in told] == [JournalUnavailable]
        assert spool.open == 1
        fail("pwrite", None)
        await until(lambda: spool.healthy)
        assert len(requests(tmp_path, Intent)) == 1


async def test_a_write_that_is_cut_short_counts_for_the_records_that_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel took a part: whole records are acknowledged, the rest is written again, in sequence, without a trace."""
    told: dict[str, BeffroiError | None] = {}
    real = os.pwrite
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        ids = await open_some(spool, 6)
        cut = iter([True])

        def short(fd: int, data: bytes, offset: int) -> int:
            if next(cut, False):
                return real(fd, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(os, "pwrite", short)
        for each in ids:
            spool.settle(settlement(each), lambda error, each=each: told.update({each: error}))
        await asyncio.sleep(0.01)
        whole = [each for each in ids if told[each] is None]
        assert 0 < len(whole) < 6
        assert requests(tmp_path, Settlement) == whole
        monkeypatch.setattr(os, "pwrite", real)
        await until(lambda: spool.healthy)
        spool.intent(intent("req_later"), lambda error: None)
        await asyncio.sleep(0)
        assert requests(tmp_path, Settlement) == ids
        assert requests(tmp_path, Intent)[-1] == "req_later"


async def test_leftovers_of_a_cut_write_never_pass_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short record written over a longer, half-written one must not be followed by the other's bytes."""
    real = os.pwrite
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        await open_some(spool, 1)
        cut = iter([True])

        def short(fd: int, data: bytes, offset: int) -> int:
            if next(cut, False):
                return real(fd, data[:-3], offset)
            raise OSError(errno.EIO, "failed")

        monkeypatch.setattr(os, "pwrite", short)
        spool.intent(intent("req_lost", model="m" * 900), lambda error: None)
        await asyncio.sleep(0.01)
        monkeypatch.setattr(os, "pwrite", real)
        await until(lambda: spool.healthy)
        spool.intent(intent("req_next"), lambda error: None)
        await asyncio.sleep(0)
        (segment,) = (tmp_path / "w00").glob("*-00000001.seg")
        assert b"mmmm" not in segment.read_bytes()
        assert requests(tmp_path, Intent)[-1] == "req_next"


async def test_a_failing_sync_stops_intents_and_what_it_dropped_is_written_again(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fdatasync the kernel may have dropped the pages: the same bytes go to the same place again."""
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        await until(lambda: spool.lag_bytes == 0)
        fail("fdatasync", errno.EIO)
        ids = await open_some(spool, 3)
        await until(lambda: not spool.healthy)
        assert spool.lag_bytes > 0
        settled: list[BeffroiError | None] = []
        spool.settle(settlement(ids[0]), settled.append)
        await asyncio.sleep(0.01)
        assert settled == [None], "the page cache still takes it: kill -9 loses nothing"
        (segment,) = (tmp_path / "w00").glob("*-00000001.seg")
        before = segment.read_bytes()
        with segment.open("r+b") as file:
            file.write(b"\0" * len(before))
        fail("fdatasync", None)
        await until(lambda: spool.healthy)
        await until(lambda: spool.lag_bytes == 0)
        assert segment.read_bytes() == before


async def test_a_sync_that_hangs_stops_intents_once_too_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen disk takes writes for a while; what a power cut could take stays bounded, and so does memory."""
    frozen = __import__("threading").Event()
    real = os.fdatasync

    def hang(fd: int) -> None:
        frozen.wait(10)
        real(fd)

    async with journal(tmp_path) as spool:
        monkeypatch.setattr(os, "fdatasync", hang)
        with pytest.raises(JournalUnavailable):
            for number in range(5000):
                spool.intent(intent(request_id(number)), lambda error: None)
                spool.settle(settlement(request_id(number)), None)
                await asyncio.sleep(0.0002)
        assert spool.lag_bytes < 1 << 20
        frozen.set()
        await until(lambda: spool.healthy)
        await until(lambda: spool.lag_bytes == 0)


async def test_refused_requests_are_counted_when_there_are_too_many_to_keep(tmp_path: Path, fail: Fail) -> None:
    """While the disk fails every request is refused, and the records of refusals must not fill memory instead."""
    async with journal(tmp_path, segment_bytes=4 << 20) as spool:
        ids = await open_some(spool, 5)
        fail("pwrite", errno.ENOSPC)
        for each in ids:
            spool.settle(settlement(each), None)
        for number in range(6000):
            spool.settle(settlement(request_id(number), attempt=0, outcome="refused"), None)
        spool.append(PROGRESS, progress("req_x", 1))
        spool.append(REFUSALS, Refusals(1, {"invalid_api_key 10.0.0.0/24": 1}))
        await asyncio.sleep(0.01)
        assert spool.kept < 4200
        fail("pwrite", None)
        await until(lambda: spool.kept == 0)
        await asyncio.sleep(0.3)
        payloads = on_disk(tmp_path)
        settled = [payload for payload in payloads if isinstance(payload, Settlement)]
        counted = sum(
            payload.counts["unrecorded -"]
            for payload in payloads
            if isinstance(payload, Refusals) and "unrecorded -" in payload.counts
        )
        assert [payload.request_id for payload in settled if payload.attempt] == ids
        refusals = sum(isinstance(payload, Refusals) and "unrecorded -" not in payload.counts for payload in payloads)
        assert len(settled) - 5 + counted + refusals == 6001


async def test_one_bad_segment_is_left_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spot of the disk that never takes a write again does not stop the house."""
    real = os.pwrite
    async with journal(tmp_path, segment_bytes=1 << 20) as spool:
        ids = await open_some(spool, 3)
        await until(lambda: len(list((tmp_path / "w00").glob("*.seg"))) == 2)
        bad = next((tmp_path / "w00").glob("*-00000001.seg")).stat().st_ino

        def spotty(fd: int, data: bytes, offset: int) -> int:
            if os.fstat(fd).st_ino == bad:
                raise OSError(errno.EIO, "bad spot")
            return real(fd, data, offset)

        monkeypatch.setattr(os, "pwrite", spotty)
        for each in ids:
            spool.settle(settlement(each), None)
        await until(lambda: not spool.healthy)
        await until(lambda: spool.healthy)
        assert requests(tmp_path, Settlement) == ids


CHILD = """
import asyncio, resource, sys, uuid
from pathlib import Path
from beffroi.core.errors import JournalUnavailable
from beffroi.gateway.journal import Journal
from tests.gateway.journal.support import intent, request_id, settlement

async def main(directory):
    loop = asyncio.get_running_loop()
    spool = Journal(directory, worker=0, boot=uuid.uuid4().hex, loop=loop, segment_bytes=64 << 10)
    while not spool.healthy:
        await asyncio.sleep(0.01)
    number, opened, refused = 0, [], 0

    def taken(each, error):
        nonlocal refused
        if error is None:
            opened.append(each)
        else:
            refused += 1

    {limit}
    while not refused:
        try:
            spool.intent(intent(request_id(number)), lambda error, each=request_id(number): taken(each, error))
        except JournalUnavailable:
            refused += 1
        number += 1
        await asyncio.sleep(0)
        if number % 3 == 0 and opened:
            done = opened.pop()
            spool.settle(settlement(done), None)
            print("settled", done, flush=True)
        await asyncio.sleep(0)
    print("refused", spool.trouble, flush=True)
    answers = []
    for each in opened:
        spool.settle(settlement(each), answers.append)
        print("settled", each, flush=True)
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    print("told", sum(answer is None for answer in answers), "of", len(opened), flush=True)
    {heal}
    while not spool.healthy:
        await asyncio.sleep(0.01)
    spool.intent(intent("req_after"), lambda error: print("after", error, flush=True))
    await asyncio.sleep(0.05)
    spool.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def run_child(directory: Path, limit: str, heal: str) -> list[list[str]]:
    """The words of each line that the child printed."""
    code = textwrap.dedent(CHILD).replace("{limit}", limit).replace("{heal}", heal)
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": f"src{os.pathsep}."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def assert_all_settled(directory: Path, lines: list[list[str]]) -> None:
    """Everything begun was settled, exactly once, though the disk was full; and afterwards it took work again."""
    settled = [line[1] for line in lines if line[0] == "settled"]
    assert len(settled) > 10
    assert sorted(requests(directory, Settlement)) == sorted(settled)
    assert sorted(requests(directory, Intent)) == sorted([*settled, "req_after"])
    assert ["after", "None"] in lines


def test_a_file_size_limit_refuses_intents_before_settlements_run_out_of_space(tmp_path: Path) -> None:
    """EFBIG from the kernel (RLIMIT_FSIZE below one segment), in a process of its own; then the limit is lifted."""
    lines = run_child(
        tmp_path,
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; resource.setrlimit(resource.RLIMIT_FSIZE, (2600, hard))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))",
    )
    assert_all_settled(tmp_path, lines)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a file system of one's own takes root")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_intents_and_settles_all_that_is_in_flight(small_disk: Path) -> None:
    """ENOSPC from the kernel on a small file system that something else fills up; then space is freed."""
    filler = small_disk / "filler"
    fill = f"import os; f = open({str(filler)!r}, 'wb', buffering=0)\n    try:\n        while f.write(bytes(4096)): pass\n    except OSError: pass"
    lines = run_child(small_disk / "journal", fill, f"f.close(); os.unlink({str(filler)!r})")
    assert_all_settled(small_disk / "journal", lines)
    told = next(line for line in lines if line[0] == "told")
    assert told[1] == told[3], "held-back space: every settlement was written at once, none had to wait"
    assert lines[0] != ["settled"]


def test_a_signal_for_a_file_too_large_does_not_kill(tmp_path: Path) -> None:
    """The kernel sends SIGXFSZ along with EFBIG; the interpreter ignores it, and we rely on that."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
