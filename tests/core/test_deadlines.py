# SPDX-License-Identifier: Apache-2.0
"""The deadlines of a machine without its database: counted on a clock that nobody sets, closed where they cannot be read."""

from pathlib import Path

from beffroi.core import deadlines
from beffroi.core.deadlines import NOTHING, Deadline, Deadlines, in_seconds, load, passed, write


def told(keys: Deadline, boot: str = "b") -> Deadlines:
    return Deadlines(boot, keys, in_seconds(60), 1 << 20)


def test_without_the_file_there_are_no_deadlines(tmp_path: Path) -> None:
    """One machine with its own ledger is never closed for want of one."""
    assert load(tmp_path) is None


def test_what_is_written_is_read_and_passes_when_its_time_has_come(tmp_path: Path) -> None:
    """A second from now has not passed, a second ago has."""
    for seconds, over in ((1.0, False), (-1.0, True)):
        write(tmp_path, told(in_seconds(seconds)))
        found = load(tmp_path)
        assert found is not None
        assert passed(found.keys, found, "b") is over


def test_a_file_that_cannot_be_read_closes(tmp_path: Path) -> None:
    """A power cut may leave it empty; a revocation may be older than that."""
    (tmp_path / deadlines.FILE).write_bytes(b"")
    assert load(tmp_path) == NOTHING
    assert passed(NOTHING.keys, NOTHING, deadlines.boot())
    assert passed(NOTHING.journal, NOTHING, deadlines.boot())


def test_the_wall_clock_decides_only_after_the_machine_has_started_anew() -> None:
    """Setting the clock an hour forward closes nothing, an hour back opens nothing (fault G6)."""
    soon = in_seconds(60)
    hour = 3600 * 10**9
    set_forward = Deadline(soon.running, soon.wall - hour)
    assert not passed(set_forward, told(set_forward), "b")
    over = in_seconds(-60)
    set_back = Deadline(over.running, over.wall + hour)
    assert passed(set_back, told(set_back), "b")
    assert passed(set_forward, told(set_forward, boot="another"), "b")
