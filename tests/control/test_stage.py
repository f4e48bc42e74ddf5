# SPDX-License-Identifier: Apache-2.0
"""The copy of one moment, taken while a writer fills small segments at full speed and shipping deletes them behind it."""

import os
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from beffroi.control import stage
from beffroi.control.shipping import Shipper
from beffroi.control.stage import COUNTERS, JOURNAL, LEDGER, Moment, NoSpace, copy_counters
from beffroi.control.verify import verify
from beffroi.core.clock import SystemClock
from beffroi.gateway.quota import Ask, Used
from beffroi.gateway.quota.books import MappedBooks
from beffroi.gateway.quota.scopes import account_of
from beffroi.store.engine import open_engine
from tests.control.conftest import one_machine
from tests.control.journal_files import alive, append, framed, header, segment
from tests.control.test_kill import WRITER, ledger, start
from tests.gateway.journal.support import intent, settlement
from tests.gateway.quota.support import counters, key

MOMENTS = int(os.environ.get("BEFFROI_MOMENTS", "12"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A backup by Beffroi is one of SQLite."""
    return one_machine(tmp_path)


class Heard:
    """What the writer says, while it says it."""

    def __init__(self, folder: Path) -> None:
        pause = WRITER.replace("asyncio.sleep(0)", "asyncio.sleep(0.002)").replace(
            "% 7 + 1)", "% 7 + 12)"
        )  # or shipping would never catch up
        assert pause != WRITER
        self.child = start(pause, str(folder), "0")
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self.child.stdout
        for line in self.child.stdout:
            self.lines.append(line.decode())

    def settled(self) -> list[str]:
        """Requests that it was told are settled, until now."""
        return [line.split()[1] for line in self.lines.copy() if line.startswith("settled") and line.endswith("\n")]

    def close(self) -> None:
        """Kill it."""
        self.child.kill()
        self.child.wait()
        self._thread.join()
        assert self.child.stdout
        self.child.stdout.close()


def test_each_moment_has_all_that_was_acknowledged_before_it_and_ships_it_once(
    tmp_path: Path, database: Engine
) -> None:
    """Segments of 128 KiB: several begin, end and go while each copy is made."""
    shipper = Shipper(database, tmp_path / JOURNAL)
    heard = Heard(tmp_path / JOURNAL)
    shipper.start()
    copies: list[tuple[Path, list[str]]] = []
    try:
        for number in range(MOMENTS):
            time.sleep(0.1)
            before = heard.settled()
            folder = Moment(tmp_path, shipper.still).write()
            copies.append((folder.rename(tmp_path / f"copy{number}"), before))
    finally:
        shipper.stop()
        heard.close()
    held = 0
    for copy, before in copies:
        held += len(list((copy / JOURNAL).glob("*/*.seg")))
        found = shipped(copy)  # one row each, by the primary key
        assert [request for request in before if found.get(request) != "settled"] == []
    assert len(copies[-1][1]) > len(copies[0][1]) + 1000, "the writer must have been at work"
    assert held > MOMENTS, "copies must hold segments"


def test_nothing_is_shipped_between_the_ledger_s_view_and_the_segments(
    tmp_path: Path, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is shipped and deleted just then would be in neither."""
    segment(tmp_path / JOURNAL, [intent("req_1"), settlement("req_1")])
    shipper = Shipper(database, tmp_path / JOURNAL)

    class Slow(stage.Pinned):
        def __init__(self, file: Path) -> None:
            super().__init__(file)
            shipper.start()
            time.sleep(0.3)

    monkeypatch.setattr(stage, "Pinned", Slow)
    try:
        copy = Moment(tmp_path, shipper.still).write().rename(tmp_path / "copy")
    finally:
        shipper.stop()
    assert ledger(database) == {"req_1": "settled"}
    assert shipped(copy) == {"req_1": "settled"}


def test_a_segment_that_is_begun_while_the_one_before_is_read_makes_no_gap(
    tmp_path: Path, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last is read first: what the writer does in between is either in both or in neither."""
    first = segment(tmp_path / JOURNAL, [intent("req_1"), settlement("req_1")])
    second = segment(tmp_path / JOURNAL, [], number=2)
    second.write_bytes(bytes(4096))  # made ahead, not begun
    told = framed([intent("req_1"), settlement("req_1")])
    sound_length = stage.sound_length

    def and_write_on(fd: int) -> int:
        length = sound_length(fd)
        append(first, [intent("req_2"), settlement("req_2")], 3, 64 + len(told))
        second.write_bytes(header(number=2, base=5) + framed([intent("req_3"), settlement("req_3")], 5) + bytes(64))
        return length

    monkeypatch.setattr(stage, "sound_length", and_write_on)
    with alive(first), alive(second):
        copy = Moment(tmp_path).write()
    assert shipped(copy) == {"req_1": "settled", "req_2": "settled"}


def test_a_record_that_stays_half_written_is_as_if_it_were_not_there(tmp_path: Path, database: Engine) -> None:
    """Nobody was told of it."""
    half = framed([intent("req_2")], 3)[:40]
    path = segment(tmp_path / JOURNAL, [intent("req_1"), settlement("req_1")], tail=half + bytes(4096))
    with alive(path):
        copy = Moment(tmp_path).write()
    assert shipped(copy) == {"req_1": "settled"}


def shipped(copy: Path) -> dict[str, str]:
    """What a start on the copy makes of it; its journal must verify."""
    restored = open_engine(copy / LEDGER)
    try:
        again = Shipper(restored, copy / JOURNAL)
        again.living(0, "")
        again.step()
        report = verify(restored, copy / JOURNAL)
        assert report.ok, report.findings
        return ledger(restored)
    finally:
        restored.dispose()


def test_a_damaged_segment_is_copied_whole(tmp_path: Path, database: Engine) -> None:
    """What it means is for shipping to say, there as here."""
    path = segment(tmp_path / JOURNAL, [intent("req_1"), settlement("req_1"), intent("req_2")])
    content = bytearray(path.read_bytes())
    content[150] ^= 1
    path.write_bytes(content)
    folder = Moment(tmp_path).write()
    assert (folder / path.relative_to(tmp_path)).read_bytes() == content


def test_without_room_for_the_ledger_it_is_refused_and_nothing_is_left(
    tmp_path: Path, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers need the space that is left; the sentence names both figures."""
    monkeypatch.setattr(stage, "SPARE", 1 << 60)
    with pytest.raises(NoSpace, match=r"a backup needs \d+ MiB free in .*; there are \d+ MiB"):
        Moment(tmp_path)
    assert not (tmp_path / stage.FOLDER).exists()


def test_copied_counters_are_those_of_a_machine_started_anew(tmp_path: Path) -> None:
    """What was spent and counted stays, what was held for requests in flight is gone, and holes stay holes."""
    clock = SystemClock()
    used = key(700, hard_budget=100, requests_per_minute=9, concurrency=2)
    shared = counters(tmp_path / COUNTERS, clock)
    shared.settle(shared.reserve(used, "m", None, Ask(0, 0, 7, 7)), Used(0, 0, 5))
    shared.reserve(used, "m", None, Ask(0, 0, 40, 40))  # in flight
    (tmp_path / "copy").mkdir()
    copy_counters(tmp_path / COUNTERS, tmp_path / "copy" / COUNTERS)
    source, target = (tmp_path / COUNTERS).stat(), (tmp_path / "copy" / COUNTERS).stat()
    assert source.st_size == target.st_size > 4 << 20
    assert target.st_blocks <= source.st_blocks + 8
    copied, those = (MappedBooks(folder / COUNTERS, clock=clock) for folder in (tmp_path / "copy", tmp_path))
    account = account_of(used)
    assert (copied.spent(account).spent, copied.spent(account).reserved) == (5, 0)
    assert (those.spent(account).spent, those.spent(account).reserved) == (5, 40)
    shown = {use.name: use.used for use in copied.usage(account)}
    assert (shown["requests_per_minute"], shown["concurrency"]) == (2, 0)
    for each in (copied, those, shared):
        each.close()


def test_what_stops_the_copy_half_way_leaves_nothing(tmp_path: Path, database: Engine) -> None:
    """Here: the process is told to end."""

    def stop(_done: int, _total: int) -> None:
        raise InterruptedError("told to end")

    with pytest.raises(InterruptedError):
        Moment(tmp_path).write(stop)
    assert not (tmp_path / stage.FOLDER).exists()
