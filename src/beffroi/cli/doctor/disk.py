# SPDX-License-Identifier: Apache-2.0
"""The data directory and the disk under it: rights, space, syncing, locks, kind of file system, version.

In: a `Scene`. Out: findings. What is tried is tried on a file of its own, which is gone afterwards; where there is no
data directory yet, in the nearest folder that there is.
"""

import errno
import fcntl
import mmap
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.cli.show import duration

MIB, GIB = 1 << 20, 1 << 30
_LONGEST = 94  # bytes of the directory's path: sockets in it must fit in 108, unix(7)
_ROUNDS, _BLOCK = 12, 4096
_SLOW, _HOPELESS = 0.05, 0.5  # seconds of a usual sync
_MEMORY = ("tmpfs", "ramfs")
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs", "sshfs", "davfs")
_LOCAL_DISK = "Choose a directory on a local disk with --data or server.data."
_BROKEN = "Look for disk errors (dmesg), or choose another disk with --data."
_REMEDIES = {
    errno.ENOSPC: "Make room: what cannot be recorded is not served.",
    errno.EDQUOT: "Make room, or raise the user's quota: what cannot be recorded is not served.",
    errno.EROFS: "See in dmesg whether the disk failed; then mount it writable: mount -o remount,rw.",
}
_SECOND = "import fcntl,os,sys\ntry: fcntl.lockf(os.open(sys.argv[1],os.O_RDWR),fcntl.LOCK_EX|fcntl.LOCK_NB,1,0)\nexcept BlockingIOError: sys.exit(3)"


def directory(scene: Scene) -> Iterator[Finding]:
    """Whose it is and who may look into it."""
    data = scene.data
    name = "data directory"
    if len(os.fsencode(data)) > _LONGEST:
        yield Finding(
            name, PROBLEM, f"Its path has {len(os.fsencode(data))} bytes, {_LONGEST} at most: {data}.", "Choose a shorter one with --data."
        )  # fmt: skip
        return
    if not data.exists():
        near = _nearest(data)
        if os.access(near, os.W_OK | os.X_OK):
            yield Finding(name, OK, f"{data} is not there yet; the first start makes it.")
        else:
            yield Finding(
                name, PROBLEM, f"{data} cannot be made: this user may not write in {near}.",
                f"As root: install -d -o {_user(os.geteuid())} -m 700 {data}, or choose another with --data.",
            )  # fmt: skip
        return
    yield _judge_directory(name, data)


def _judge_directory(name: str, data: Path) -> Finding:
    if not data.is_dir():
        return Finding(name, PROBLEM, f"{data} is no directory.", "Choose another with --data.")
    status, me = data.stat(), os.geteuid()
    if status.st_uid != me:
        return Finding(
            name, PROBLEM, f"{data} belongs to {_user(status.st_uid)}, and this is {_user(me)}.",
            f"Run as {_user(status.st_uid)}, or as root: chown -R {_user(me)} {data}.",
        )  # fmt: skip
    if foreign := sorted(file.name for file in data.iterdir() if file.lstat().st_uid != me):
        return Finding(
            name, PROBLEM, f"In {data}, {', '.join(foreign[:4])} belong{'s' * (len(foreign) == 1)} to another user.",
            f"As root: chown -R {_user(me)} {data}; and start Beffroi as one user always.",
        )  # fmt: skip
    if status.st_mode & 0o077:
        return Finding(
            name, WARNING, f"{data} is open to other users (mode {status.st_mode & 0o777:04o}); engines' keys lie in it.",
            f"chmod 700 {data} (the next start does it too).",
        )  # fmt: skip
    return Finding(name, OK, f"{data} is this user's alone.")


def space(scene: Scene) -> Iterator[Finding]:
    """Bytes and files that fit yet."""
    told = os.statvfs(_nearest(scene.data))
    files = None if told.f_files == 0 else told.f_favail
    yield judge_space(told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, files)


def judge_space(free: int, whole: int, files: int | None) -> Finding:
    """`files`: how many more there can be (free inodes); None: as many as fit."""
    said = f"{_size(free)} free of {_size(whole)}" + ("" if files is None else f", {files:,} free inodes")
    remedy = "Make room, or move the data directory to a larger disk; what cannot be recorded is not served."
    if free < 256 * MIB or (files is not None and files < 500):
        return Finding("disk space", PROBLEM, f"{said}: the journal needs more to begin with.", remedy)
    if free < 2 * GIB or (files is not None and files < 5000):
        return Finding("disk space", WARNING, f"{said}.", remedy)
    return Finding("disk space", OK, f"{said}.")


def filesystem(scene: Scene) -> Iterator[Finding]:
    """What kind of file system it is."""
    yield judge_filesystem(*mounted(_nearest(scene.data), Path("/proc/self/mountinfo").read_text()))


def judge_filesystem(kind: str, point: str) -> Finding:
    """`kind` as the kernel calls it."""
    said = f"{kind} on {point}"
    if kind.removeprefix("fuse.").startswith(_NETWORK):
        return Finding(
            "file system", PROBLEM, f"{said} is a network file system: SQLite and shared counters are not safe on it.", _LOCAL_DISK
        )  # fmt: skip
    if kind in _MEMORY:
        return Finding(
            "file system", WARNING, f"{said} lies in memory: a restart of the machine loses every record.", _LOCAL_DISK
        )
    if kind == "overlay":
        return Finding(
            "file system", WARNING, f"{said} is a container's own layer: it goes when the container goes.",
            "Mount a volume and name it with --data.",
        )  # fmt: skip
    if kind.startswith("fuse"):
        return Finding(
            "file system", WARNING, f"{said} is a file system in user space; whether it keeps what it syncs is its affair.", _LOCAL_DISK
        )  # fmt: skip
    return Finding("file system", OK, f"{said}.")


def mounted(path: Path, table: str) -> tuple[str, str]:
    """Kind and mount point of the file system that holds `path`, by the kernel's table (proc(5), mountinfo)."""
    best = ("unknown", "/")
    real = path.resolve()
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), left.split()[4])
        if right and real.is_relative_to(point) and len(point) >= len(best[1]):
            best = (right.split()[0], point)
    return best


def syncing(scene: Scene) -> Iterator[Finding]:
    """Whether what is written can be made durable, and how long that takes."""
    took = []
    try:
        with _probe(scene.data) as file:
            for _ in range(_ROUNDS):
                os.write(file.fileno(), b"\0" * _BLOCK)
                began = time.perf_counter()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - began)
    except PermissionError:
        raise
    except OSError as error:
        said = f"A file in {_nearest(scene.data)} cannot be written and synced: {error.strerror or error}."
        yield Finding("fsync", PROBLEM, said, _REMEDIES.get(error.errno or 0, _BROKEN))
        return
    yield judge_sync(took)


def judge_sync(took: list[float]) -> Finding:
    """`took`: seconds of each sync."""
    usual, worst = sorted(took)[len(took) // 2], max(took)
    said = f"A sync takes {duration(usual)}, {duration(worst)} at worst"
    remedy = "Use a disk with a write cache that outlives a power loss (an SSD for servers), or one less busy."
    if usual > _HOPELESS:
        return Finding("fsync", PROBLEM, f"{said}: keys and limits wait for it.", remedy)
    if usual > _SLOW:
        return Finding("fsync", WARNING, f"{said}: that much and 10 ms more is what a power loss can cost.", remedy)
    return Finding("fsync", OK, f"{said}.")


def locks(scene: Scene) -> Iterator[Finding]:
    """Record locks between processes, memory shared through a file, space set aside beforehand."""
    missing = []
    try:
        with _probe(scene.data) as file:
            missing = try_locks(file)
    except PermissionError:
        raise
    except OSError as error:
        missing = [str(error.strerror or error)]
    if missing:
        yield Finding(
            "locks",
            PROBLEM,
            f"The disk of the data directory lacks what counters need: {'; '.join(missing)}.",
            _LOCAL_DISK,
        )
    else:
        yield Finding("locks", OK, "Record locks keep a second process out, and files can be mapped.")


def try_locks(file: BinaryIO) -> list[str]:
    """What does not work on this file."""
    missing = []
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        missing.append(f"locking a file fails ({error.strerror})")
    else:
        if not refused(Path(file.name)):
            missing.append("a lock does not keep another process out")
    try:
        os.posix_fallocate(file.fileno(), 0, mmap.PAGESIZE)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:  # Beffroi does without
            missing.append(f"space cannot be set aside ({error.strerror})")
    try:
        os.ftruncate(file.fileno(), mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE) as shared:
            shared[:1] = b"x"
    except OSError as error:
        missing.append(f"a file cannot be mapped ({error.strerror})")
    return missing


def refused(path: Path) -> bool:
    """Whether another process is refused the lock on the first byte of `path`."""
    command = [sys.executable, "-I", "-S", "-c", _SECOND, str(path)]
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 3  # noqa: S603 - ourselves


@contextmanager
def _probe(data: Path) -> Iterator[BinaryIO]:
    with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=_nearest(data)) as file:
        os.fchmod(file.fileno(), 0o600)
        yield file  # type: ignore[misc]  # a wrapper that has what a binary file has


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
