# SPDX-License-Identifier: Apache-2.0
"""All that lasts of a data directory, as it was at one moment, set apart in a folder while everything goes on.

In: a data directory, and shipping held still for the moment that counts. Out: a folder of files that no one changes.
The moment: a view of the ledger is pinned and every journal segment opened while no row is shipped. After it shipping
goes on, and what is copied at leisure is that view, and of each segment all records written by then: what the ledger's
places leave out, the segments hold. So each exchange that was answered before is in the copy once.
"""

import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from beffroi.control import segments as journal
from beffroi.control.segments import End, Found
from beffroi.core import segment as format_
from beffroi.core.layout import BACKUPS
from beffroi.core.locks import is_locked
from beffroi.gateway.quota import layout
from beffroi.store.copy import Pinned, Told

FOLDER = "staging"  # below the data directory
LEDGER, COUNTERS, JOURNAL = "beffroi.db", "counters.bin", "journal"
SPARE = 64 << 20  # bytes left free beside a copy: workers need space to settle what they have begun
# What does not last: locks, sockets, files half written, what SQLite keeps beside a database in use.
_PASSING = ("lock", "supervisor.pid", f"{LEDGER}-wal", f"{LEDGER}-shm", f"{LEDGER}-journal")
_PASSING_ENDS = (".sock", ".new")
_LOOKS, _PAUSE = 20, 0.05  # at a record that its writer may be in the middle of
_LOT = 1 << 20
_NO_BOOT = struct.pack("=2q", -1, -1)


class NoSpace(OSError):
    """The disk has no room for a copy of the ledger."""


def passes(name: str) -> bool:
    """Whether a file at the top of a data directory is of no use to a later start."""
    return name in _PASSING or name.endswith(_PASSING_ENDS) or name in (FOLDER, BACKUPS)


def discard(data: Path) -> None:
    """Remove what an earlier copy left."""
    shutil.rmtree(data / FOLDER, ignore_errors=True)


class Moment:
    """A moment of a data directory, held open until it is written out. Takes milliseconds; blocks.

    Args:
        data: the data directory.
        still: within it nothing is shipped and no counter is locked by this process. Keys and configuration must not
            change while this is made: the caller holds those who change them.

    Attributes:
        began_ns: Unix nanoseconds; what was answered before is in the copy.

    Raises:
        NoSpace, OSError: nothing of it is left.
        NotSound: the ledger cannot be read.
    """

    def __init__(self, data: Path, still: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.folder = data / FOLDER
        self._data = data
        self._opened: list[tuple[Found, int]] = []
        self._ledger: Pinned | None = None
        discard(data)
        self.folder.mkdir(mode=0o700)
        self.began_ns = time.time_ns()
        try:
            with still():
                self._hold()
        except BaseException:
            self.close()
            discard(data)
            raise

    def _hold(self) -> None:
        data = self._data
        self._ledger = Pinned(data / LEDGER)
        _require_room(data, self._ledger.bytes)
        for path in _lasting(data):
            shutil.copyfile(path, self.folder / path.name)
        if (data / COUNTERS).is_file():
            copy_counters(data / COUNTERS, self.folder / COUNTERS)
        for found in _newest_first(journal.find(data / JOURNAL)):
            self._opened.append((found, os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)))

    def write(self, told: Told | None = None) -> Path:
        """Copy all of it; the folder it is in. Blocks for as long as the ledger takes to copy; once.

        Args:
            told: is given bytes of the ledger done, and in all.

        Raises:
            OSError, NotSound: it could not be written; nothing of it is left.
        """
        try:
            for found, fd in self._opened:
                target = self.folder / JOURNAL / found.path.parent.name / found.path.name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if length := sound_length(fd):
                    _copy(fd, target, length)
            if self._ledger is not None:
                self._ledger.copy(self.folder / LEDGER, told)
        except BaseException:
            discard(self._data)
            raise
        finally:
            self.close()
        return self.folder

    def close(self) -> None:
        """Let go of the ledger and the segments; the folder stays."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        for _found, fd in self._opened:
            os.close(fd)
        self._opened.clear()


def _require_room(data: Path, size: int) -> None:
    free, wanted = shutil.disk_usage(data).free, size + SPARE
    if free < wanted:
        raise NoSpace(
            f"a backup needs {wanted >> 20} MiB free in {data} for a copy of the ledger; there are {free >> 20} MiB"
        )


def _lasting(data: Path) -> list[Path]:
    """Files at the top that are copied as they are: everything that is not known to pass, or copied in its own way."""
    return [
        path
        for path in sorted(data.iterdir())
        if path.is_file() and not path.is_symlink() and not passes(path.name) and path.name not in (LEDGER, COUNTERS)
    ]


def _newest_first(boots: dict[str, list[Found]]) -> Iterator[Found]:
    """Of each boot the last segment first: the one before it, read later, then holds all that came before.

    Read the other way round, the end of a segment and the start of the next one, begun meanwhile, would seem to have a
    gap between them.
    """
    for found in boots.values():
        yield from reversed(found)


def sound_length(fd: int) -> int:
    """Bytes of a segment that count; 0: it is not begun.

    Of a segment whose writer lives, those up to the end of its last whole record: the one that follows may be half
    written, and nobody was told of it. Of one that nobody writes any more, or that is damaged, all: what it means is
    for shipping to say.
    """
    living = is_locked(fd)  # asked first: what is read afterwards of one that is not will never be more
    for look in range(_LOOKS if living else 1):
        if look:
            time.sleep(_PAUSE)
        try:
            header = format_.unpack(os.pread(fd, format_.SIZE, 0))
        except format_.BadHeader:
            continue
        if header is None:
            return 0
        end, state = format_.SIZE, End.CLEAN
        for part in journal.read(fd, end, header.base) if living else ():
            end, state = part.end, part.state
        if living and state is End.CLEAN:
            return end
    return os.fstat(fd).st_size


def _copy(fd: int, target: Path, length: int) -> None:
    with target.open("xb") as out:
        at = 0
        while at < length and (data := os.pread(fd, min(_LOT, length - at), at)):
            out.write(data)
            at += len(data)


def copy_counters(source: Path, target: Path) -> None:
    """Copy the counters, holes left holes, as those of a machine that has been started anew since.

    Whoever maps them first then clears what workers held for requests in flight; control raises each budget to the
    ledger's sum at every start.
    """
    with source.open("rb") as file, target.open("xb") as out:
        size = os.fstat(file.fileno()).st_size
        out.truncate(size)
        at = 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole follows
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            while start < at:
                data = os.pread(file.fileno(), min(_LOT, at - start), start)
                os.pwrite(out.fileno(), data, start)
                start += len(data)
        if size >= layout.HEADER_WORDS * layout.WORD:
            os.pwrite(out.fileno(), _NO_BOOT, layout.BOOT_LOW * layout.WORD)
