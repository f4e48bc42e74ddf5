# SPDX-License-Identifier: Apache-2.0
"""Segments as their writer sees them: made ahead at full size, so that writing a record never has to find disk space.

In: a folder, a boot id and a number. Out: an open, locked, preallocated file. Blocking calls: they run off the loop.
"""

import fcntl
import os
from pathlib import Path

from beffroi.core import segment as format_

_UNNAMED = ".new"


class Segment:
    """One file of the spool; `end` is where its next record goes (0: not even its header is written).

    `stained` is where the bytes of a write that was cut short may end: the next write must cover them.
    """

    __slots__ = ("end", "fd", "number", "path", "size", "stained")

    def __init__(self, path: Path, number: int, fd: int, size: int) -> None:
        self.path = path
        self.number = number
        self.fd = fd
        self.size = size
        self.end = 0
        self.stained = 0

    def free(self) -> int:
        """Bytes of records that still fit."""
        return self.size - (self.end or format_.SIZE)

    def seal(self) -> None:
        """Cut off what was not used, make it durable, let go of it; a file without a record goes altogether.

        Raises:
            OSError: the disk refused; the file is left as it is, which readers can cope with.
        """
        try:
            if self.end == 0:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self.fd, self.end)
                os.fsync(self.fd)
        finally:
            os.close(self.fd)


def prepare(folder: Path, boot: str, number: int, size: int) -> Segment:
    """Make segment `number` of a boot: `size` bytes that are really there, and a directory entry that lasts.

    Its lock tells readers that the writer lives: the kernel lets go of it when the process dies, however it dies. It
    gets its name only once it is locked, so that nobody ever takes a living writer for a dead one.

    Raises:
        OSError: no space, no permission, a failing disk. Nothing is left behind.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / format_.name(boot, number)
    unnamed = path.with_suffix(_UNNAMED)
    fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
        unnamed.rename(path)
        for place in (folder, folder.parent):
            _sync_folder(place)
    except OSError:
        os.close(fd)
        for left in (unnamed, path):
            left.unlink(missing_ok=True)
        raise
    return Segment(path, number, fd, size)


def sweep(folder: Path) -> None:
    """Remove what writers left that died while they made a segment. The slot's folder has one writer at a time."""
    for left in folder.glob(f"*{_UNNAMED}"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
