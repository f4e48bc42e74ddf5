# SPDX-License-Identifier: Apache-2.0
"""The bus, both ends over a real socket: pushes, acknowledgements, reconnection, gaps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beffroi.control.bus import HISTORY, Bus
from beffroi.control.snapshots import KeyFiles, publish_config
from beffroi.core import bus as messages
from beffroi.core.snapshot import Config, EngineSpec, KeyRecord, Settings
from beffroi.core.state import KEYS, load_keys
from tests.control.fakes import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the processes run on."""
    return "asyncio", {"use_uvloop": True}


def key(number: int, *, revoked: bool = False) -> KeyRecord:
    """A key of the table."""
    return KeyRecord(f"key_{number:032x}", f"{number:012d}", b"h" * 32, 1, number, revoked=revoked)


def config(*names: str) -> Config:
    """A config that differs by its engines."""
    return Config(0, Settings(), tuple(EngineSpec(name, "http://127.0.0.1:1") for name in names), ())


class Centre:
    """Control's side: files and bus."""

    def __init__(self, data: Path, workers: int) -> None:
        self.data = data
        self.files = KeyFiles(data, [key(1)], {1: b"p" * 32})
        self.config, _ = publish_config(data, config("a"))
        self.joined: list[tuple[int, str]] = []
        self.bus = self.new_bus(workers)

    def new_bus(self, workers: int) -> Bus:
        """A bus as a control process that starts makes it."""
        return Bus(workers, self.config.revision, self.files.revision, lambda *who: self.joined.append(who))

    def change(self, record: KeyRecord) -> int:
        """One change of the key table, sent."""
        delta = self.files.append(upsert=(record,))
        self.bus.send_delta(delta)
        return delta.revision


@asynccontextmanager
async def centre(data: Path, workers: int = 1) -> AsyncIterator[Centre]:
    """A centre that listens."""
    here = Centre(data, workers)
    await here.bus.start(data / "bus.sock")
    try:
        yield here
    finally:
        await here.bus.close()


async def test_a_change_reaches_every_worker_and_returns_when_all_hold_it(tmp_path: Path) -> None:
    """The heart of revocation."""
    async with centre(tmp_path, 3) as here:
        workers = [Worker(tmp_path, slot) for slot in range(3)]
        assert await here.bus.hold_keys(1, 2.0) == []
        revision = here.change(key(1, revoked=True))
        assert await here.bus.hold_keys(revision, 2.0) == []
        assert all(worker.keys[key(1).id].revoked for worker in workers)
        assert sorted(slot for slot, _ in here.joined) == [0, 1, 2]
        for worker in workers:
            worker.link.close()


async def test_who_does_not_acknowledge_is_named(tmp_path: Path) -> None:
    """A worker that is not there counts as one that does not hold the change."""
    async with centre(tmp_path, 2) as here:
        worker = Worker(tmp_path, 0)
        revision = here.change(key(2))
        assert await here.bus.hold_keys(revision, 0.3) == [1]
        worker.link.close()


async def test_a_worker_that_starts_meanwhile_counts_by_its_hello(tmp_path: Path) -> None:
    """It has read the change from disk."""
    async with centre(tmp_path) as here:
        revision = here.change(key(2))
        waiting = asyncio.create_task(here.bus.hold_keys(revision, 5.0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        worker = Worker(tmp_path)
        assert await waiting == []
        assert worker.loads == 0
        worker.link.close()


async def test_a_worker_learns_what_it_missed_when_control_is_back(tmp_path: Path) -> None:
    """Control gone, two changes on disk, control back: the worker holds both without being restarted."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        assert await here.bus.hold_keys(1, 2.0) == []
        await here.bus.close()
        here.files.append(upsert=(key(1, revoked=True),))
        here.files.append(upsert=(key(3),))
        here.bus = here.new_bus(1)
        await here.bus.start(tmp_path / "bus.sock")
        assert await here.bus.hold_keys(3, 2.0) == []
        assert worker.keys[key(1).id].revoked and key(3).id in worker.keys
        worker.link.close()


async def test_a_short_absence_is_made_good_with_deltas_and_a_long_one_with_the_files(tmp_path: Path) -> None:
    """The history is bounded."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_keys(1, 2.0)
        worker.link.close()
        here.change(key(2))
        worker.link.start()
        assert await here.bus.hold_keys(2, 2.0) == []
        assert worker.loads == 0
        worker.link.close()
        await asyncio.sleep(0.05)
        for number in range(3, HISTORY + 10):
            here.change(key(number))
        worker.link.start()
        assert await here.bus.hold_keys(here.files.revision, 2.0) == []
        assert worker.loads == 1 and len(worker.keys) == HISTORY + 9
        worker.link.close()


async def test_a_gap_makes_the_worker_load_the_table(tmp_path: Path) -> None:
    """It never applies a change on top of a hole."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_keys(1, 2.0)
        here.files.append(upsert=(key(2),))  # never sent
        revision = here.change(key(3))
        assert await here.bus.hold_keys(revision, 2.0) == []
        assert worker.loads == 1 and set(worker.keys) == {key(number).id for number in (1, 2, 3)}
        worker.link.close()


async def test_a_new_config_is_swapped_whole(tmp_path: Path) -> None:
    """From the file, which is on disk before anybody is told."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_config(1, 2.0)
        new, _ = publish_config(tmp_path, config("a", "b"))
        here.bus.send_config(new.revision)
        assert await here.bus.hold_config(new.revision, 2.0) == []
        assert worker.config == new
        worker.link.close()


async def test_a_worker_that_cannot_read_the_change_keeps_the_old_and_says_why(tmp_path: Path) -> None:
    """And is not counted among those that hold it."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_keys(1, 2.0)
        here.files.append(upsert=(key(2),))
        (tmp_path / KEYS).write_bytes(b"rubbish")
        revision = here.change(key(3))
        assert await here.bus.hold_keys(revision, 0.5) == [0]
        assert "Damaged" in here.bus.peers[0].fault
        assert set(worker.keys) == {key(1).id}
        worker.link.close()


async def test_metrics_are_pulled_and_exchanges_cut(tmp_path: Path) -> None:
    """Both are questions with an answer; who is not there is left out."""
    async with centre(tmp_path, 2) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_keys(1, 0.2)
        worker.counted.in_flight = 3
        assert (await here.bus.metrics())[0].in_flight == 3
        assert await here.bus.cut("key_x") == (2, [])
        assert worker.was_cut == ["key_x"]
        worker.link.close()


async def test_a_worker_that_hangs_delays_nobody_for_ever(tmp_path: Path) -> None:
    """It says hello and then nothing."""
    async with centre(tmp_path) as here:
        _reader, writer = await asyncio.open_unix_connection(str(tmp_path / "bus.sock"))
        writer.write(messages.frame(messages.Hello(0, 1, "b", 1, 1)))
        assert await here.bus.hold_keys(1, 2.0) == []
        assert await here.bus.metrics(timeout=0.2) == {}
        assert await here.bus.cut("key_x", timeout=0.2) == (0, [0])
        writer.close()


async def test_a_peer_that_speaks_something_else_is_let_go(tmp_path: Path) -> None:
    """A huge frame, rubbish, or anything before hello; the others go on."""
    async with centre(tmp_path) as here:
        worker = Worker(tmp_path)
        await here.bus.hold_keys(1, 2.0)
        for said in (b"\xff\xff\xff\xff", b"\x04\0\0\0abcd", messages.frame(messages.Ack(1, 1))):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "bus.sock"))
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 2.0) == b""
            writer.close()
        assert await here.bus.hold_keys(here.change(key(2)), 2.0) == []
        worker.link.close()


async def test_a_large_table_does_not_hold_the_loop(tmp_path: Path) -> None:
    """Twenty thousand keys are loaded in slices: no turn of the loop takes 50 ms."""
    KeyFiles(tmp_path, [key(number) for number in range(20_000)], {1: b"p" * 32})
    publish_config(tmp_path, config("a"))
    worker = Worker(tmp_path)
    worker.revision = 0
    bus = Bus(1, 1, load_keys(tmp_path).revision, lambda worker, boot: None)
    loop = asyncio.get_running_loop()
    longest, last = 0.0, loop.time()
    await bus.start(tmp_path / "bus.sock")
    held = asyncio.create_task(bus.hold_keys(bus.key_revision, 5.0))
    while not held.done():
        await asyncio.sleep(0)
        longest, last = max(longest, loop.time() - last), loop.time()
    assert held.result() == [] and worker.loads == 1
    assert longest < 0.050
    worker.link.close()
    await bus.close()
