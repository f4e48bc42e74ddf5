# SPDX-License-Identifier: Apache-2.0
"""The doctor on the data directory and its disk: real file systems, full, small, read-only; other people's files."""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from beffroi.cli.doctor import disk
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Scene
from tests.cli.doctor.support import small_disk
from tests.harness import program

GIB = 1 << 30
MOUNTS = """22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv/my\\040disk rw - nfs4 server:/export rw
31 22 0:41 / /srv rw - xfs /dev/vdb rw
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def test_a_directory_of_one_s_own_is_well_whether_it_is_there_or_not(tmp_path: Path) -> None:
    """0700, or still to be made."""
    tmp_path.chmod(0o700)
    for data in (tmp_path, tmp_path / "new" / "deep"):
        (found,) = disk.directory(Scene(data))
        assert found.state == OK, found
        assert not (tmp_path / "new").exists()


def test_a_directory_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    """Engines' keys lie in it."""
    tmp_path.chmod(0o755)
    (found,) = disk.directory(Scene(tmp_path))
    assert found.state == WARNING and "0755" in found.finding and "chmod 700" in found.remedy


@as_root
def test_another_user_s_directory_or_file_is_a_problem(tmp_path: Path) -> None:
    """As after one start with sudo."""
    tmp_path.chmod(0o700)
    (tmp_path / "beffroi.db").write_bytes(b"")
    os.chown(tmp_path / "beffroi.db", 12345, 12345)
    (found,) = disk.directory(Scene(tmp_path))
    assert found.state == PROBLEM and "beffroi.db belongs to another user" in found.finding
    os.chown(tmp_path, 12345, 12345)
    (found,) = disk.directory(Scene(tmp_path))
    assert found.state == PROBLEM and "belongs to user 12345" in found.finding and "chown" in found.remedy


def test_a_file_or_a_long_path_in_its_place_is_a_problem(tmp_path: Path) -> None:
    """Sockets must fit."""
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", tmp_path / ("d" * 100)):
        (found,) = disk.directory(Scene(data))
        assert found.state == PROBLEM, found


def test_a_small_disk_and_one_without_inodes_are_problems(tmp_path: Path) -> None:
    """Real ones."""
    with small_disk(tmp_path / "s", "size=16m") as small:
        (found,) = disk.space(Scene(small / "data"))
        assert found.state == PROBLEM and "16 MiB free of 16 MiB" in found.finding
    with small_disk(tmp_path / "i", "size=4g,nr_inodes=100") as few:
        (found,) = disk.space(Scene(few))
        assert found.state == PROBLEM and "free inodes" in found.finding


def test_space_is_judged_by_what_is_left() -> None:
    """Enough, little, too little; a file system that makes inodes as it goes has no number of them."""
    states = [
        disk.judge_space(free, 100 * GIB, files).state for free, files in ((50 * GIB, None), (GIB, None), (1, None))
    ]
    assert states == [OK, WARNING, PROBLEM]
    assert disk.judge_space(50 * GIB, 100 * GIB, 3000).state == WARNING


def test_a_disk_that_takes_no_write_is_a_problem(tmp_path: Path) -> None:
    """Full, and read-only."""
    with small_disk(tmp_path / "s", "size=64k") as small:
        (small / "filler").write_bytes(b"x" * 60_000)
        (found,) = disk.syncing(Scene(small))
        assert found.state == PROBLEM and "No space left" in found.finding
        (small / "filler").unlink()
        assert next(iter(disk.syncing(Scene(small)))).state == OK
        subprocess.run([program("mount"), "-o", "remount,ro", str(small)], check=True)
        for check in (disk.syncing, disk.locks):
            (found,) = check(Scene(small))
            assert found.state == PROBLEM and "Read-only" in found.finding


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The files that are tried on are gone."""
    for check in (disk.syncing, disk.locks, disk.space, disk.filesystem):
        list(check(Scene(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_slow_sync_is_told() -> None:
    """By the usual one, not by the worst."""
    assert [disk.judge_sync([usual] * 9 + [2.0]).state for usual in (0.002, 0.08, 0.8)] == [OK, WARNING, PROBLEM]


def test_the_file_system_of_a_path_is_the_nearest_mount() -> None:
    """Spaces in a mount point are written in octal."""
    assert disk.mounted(Path("/srv/my disk/data"), MOUNTS) == ("nfs4", "/srv/my disk")
    assert disk.mounted(Path("/srv/other"), MOUNTS) == ("xfs", "/srv")
    assert disk.mounted(Path("/home"), MOUNTS) == ("ext4", "/")


@pytest.mark.parametrize(
    ("kind", "state"),
    [("ext4", OK), ("xfs", OK), ("btrfs", OK), ("zfs", OK), ("nfs4", PROBLEM), ("cifs", PROBLEM), ("9p", PROBLEM), ("fuse.sshfs", PROBLEM), ("tmpfs", WARNING), ("overlay", WARNING), ("fuse.rclone", WARNING)],
)  # fmt: skip
def test_kinds_of_file_systems_are_judged(kind: str, state: str) -> None:
    """Local disks are well, networks are not."""
    assert disk.judge_filesystem(kind, "/data").state == state


def test_a_directory_in_memory_is_told(tmp_path: Path) -> None:
    """A real one."""
    with small_disk(tmp_path / "m", "size=1m") as memory:
        (found,) = disk.filesystem(Scene(memory))
        assert found.state == WARNING and "tmpfs" in found.finding


def test_locks_are_tried_between_two_processes(tmp_path: Path) -> None:
    """Held here, refused there; not held, not refused."""
    (found,) = disk.locks(Scene(tmp_path))
    assert found.state == OK, found
    with (tmp_path / "file").open("wb") as file:
        assert not disk.refused(tmp_path / "file")
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
        assert disk.refused(tmp_path / "file")


def test_a_disk_whose_locks_hold_nobody_back_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system mounted without locks: taking one says yes and does nothing."""
    monkeypatch.setattr("fcntl.lockf", lambda *_: None)
    (found,) = disk.locks(Scene(tmp_path))
    assert found.state == PROBLEM and "does not keep another process out" in found.finding
