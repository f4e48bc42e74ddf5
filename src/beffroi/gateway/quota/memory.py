# SPDX-License-Identifier: Apache-2.0
"""A counters file itself: opened, checked, grown, mapped, locked.

In: a path. Out: the mapped words, and a record lock per slot (fcntl: the kernel releases it when its holder dies).
A POSIX lock belongs to the process: one thread uses a file at a time, and a process opens it once.
"""

import errno
import fcntl
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beffroi.core.clock import Clock
from beffroi.core.errors import CountersUnavailable
from beffroi.gateway.quota import layout, timebase
from beffroi.gateway.quota.layout import PAGE_WORDS, WORD
from beffroi.gateway.quota.terms import Busy

LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB
UNLOCK = fcntl.LOCK_UN
SPIN_NS = 50_000
OPEN_PATIENCE = 10.0
ASIDE = ".before"  # what the file of an older release is called from then on
_HELD = (errno.EAGAIN, errno.EACCES)


def boot_identity() -> tuple[int, int]:
    """Two words that differ from one boot of the machine to the next; zeros where the system has no such thing."""
    try:
        raw = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return (0, 0)
    return int.from_bytes(raw[:8], "little", signed=True), int.from_bytes(raw[8:16], "little", signed=True)


class CounterFile:
    """The mapped file.

    Args:
        directory: this is the file of end users: in place of the columns of block 0 stands its directory.

    Attributes:
        words, buffer: the mapping, as words and as bytes; both are replaced when the file grows.
        header: the first page, mapped once.

    Raises:
        CountersUnavailable: the file cannot be opened, or is not a counters file of this release.
    """

    def __init__(self, path: Path, clock: Clock, boot: tuple[int, int], *, directory: bool = False) -> None:
        self.path = path
        self.first_block = 1 if directory else 0
        while not self._try_to_open(clock, boot):
            continue

    def _try_to_open(self, clock: Clock, boot: tuple[int, int]) -> bool:
        """False: the file was an older release's and stands aside now; the next try makes a new one."""
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CountersUnavailable(f"the counters file cannot be opened: {error.strerror}") from error
        try:
            with self._opening():
                kept = self._same() and not self._set_aside()
                if kept:
                    self._open(clock, boot)
        except BaseException:
            os.close(self.fd)
            raise
        if not kept:
            os.close(self.fd)
        return kept

    def _same(self) -> bool:
        """Whether the path still leads to what was opened: another process may have set it aside meanwhile."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.fd))
        except FileNotFoundError:
            return False

    def _set_aside(self) -> bool:
        """The counters of an older release have another form. Budgets come back from the ledger, rates start empty."""
        if int.from_bytes(os.pread(self.fd, WORD, layout.MAGIC * WORD), "little") not in layout.OLDER_VALUES:
            return False
        if os.fstat(self.fd).st_size < layout.HEADER_WORDS * WORD:
            return False
        self.path.rename(self.path.with_name(self.path.name + ASIDE))
        return True

    def _open(self, clock: Clock, boot: tuple[int, int]) -> None:
        if os.fstat(self.fd).st_size < layout.HEADER_WORDS * WORD:
            os.ftruncate(self.fd, layout.HEADER_WORDS * WORD)
        self._allocate(0, layout.HEADER_WORDS * WORD)
        self._head = mmap.mmap(self.fd, layout.HEADER_WORDS * WORD)
        self.header: memoryview[int] = memoryview(self._head).cast("q")
        self._map()
        header = self.header
        if header[layout.MAGIC] == 0:
            timebase.start(header, clock)
            header[layout.BOOT_LOW], header[layout.BOOT_HIGH] = boot
            header[layout.GEOMETRY] = layout.GEOMETRY_VALUE
            header[layout.MAGIC] = layout.MAGIC_VALUE
        elif (header[layout.MAGIC], header[layout.GEOMETRY]) != (layout.MAGIC_VALUE, layout.GEOMETRY_VALUE):
            raise CountersUnavailable(
                f"{self.path.name} is not a counters file of this release; move it away and start again: "
                "budgets are restored from the ledger, rates start empty"
            )
        elif timebase.rebooted(header, clock, boot):
            timebase.rebase(header, clock)
            self._mend()
            header[layout.BOOT_LOW], header[layout.BOOT_HIGH] = boot

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """The lock on the header, for opening and growing."""
        deadline = time.monotonic() + OPEN_PATIENCE
        while True:
            try:
                fcntl.lockf(self.fd, LOCK, 1, 0)
                break
            except OSError as error:
                if error.errno not in _HELD or time.monotonic() > deadline:
                    raise CountersUnavailable(f"the counters file cannot be locked: {error.strerror}") from error
                time.sleep(0.001)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, UNLOCK, 1, 0)

    def _map(self) -> None:
        size = os.fstat(self.fd).st_size
        self.buffer = mmap.mmap(self.fd, size)
        self.words: memoryview[int] = memoryview(self.buffer).cast("q")

    def _allocate(self, start: int, length: int) -> None:
        """Disk space now: a store into a hole of a full disk would kill the process."""
        try:
            os.posix_fallocate(self.fd, start, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise CountersUnavailable(f"no space for counters: {error.strerror}") from error

    def _mend(self) -> None:
        """After a reboot: nobody holds anything any more, and pages may have reached the disk at different times."""
        words, empty = self.words, memoryview(bytes(layout.COLUMNS_WORDS * WORD)).cast("q")
        for block in range(self.first_block, self.slots // layout.BLOCK):
            start = layout.block_start(block)
            if words[start : start + layout.COLUMNS_WORDS] != empty:
                words[start : start + layout.COLUMNS_WORDS] = empty
        for slot in self.used():
            base = layout.region_of(slot)
            if not words[base + layout.READY]:
                continue
            for field in (layout.BOUND, layout.ESTIMATE, layout.RUNNING, layout.ORPHAN_BOUND, layout.ORPHAN_ESTIMATE):
                words[base + field] = 0
            words[base + layout.ORPHAN_UNTIL] = 0
            for ring, total, floor, _ in layout.WINDOWS:
                self._mend_window(base, ring, floor, words[base + total])
            for bit, ring, total, floor, _ in layout.EXTENDED:
                if words[base + layout.MASK] & bit:
                    of_input = words[base + layout.TOKENS] - words[base + layout.OUTPUT]
                    self._mend_window(base, ring, floor, of_input if total == layout.INPUT else words[base + total])

    def _mend_window(self, base: int, ring: int, floor: int, most: int) -> None:
        words = self.words
        cells = words[base + ring : base + ring + layout.RING].tolist()
        if max(cells) > most:
            for index, value in enumerate(cells):
                words[base + ring + index] = min(value, most)
        words[base + floor] = min(words[base + floor], most)

    def used(self) -> Iterable[int]:
        """Slots that may be in use: of end users those that the directory has."""
        if not self.first_block:
            return range(self.slots)
        if self.slots <= layout.FIRST_PLACE:
            return ()
        tags = self.words[layout.HEADER_WORDS : layout.HEADER_WORDS + layout.PLACES].tolist()
        return [layout.FIRST_PLACE + place for place, tag in enumerate(tags) if tag]

    def used_blocks(self) -> Iterable[int]:
        """Blocks that may be in use."""
        if not self.first_block:
            return range(self.slots // layout.BLOCK)
        return sorted({slot // layout.BLOCK for slot in self.used()})

    @property
    def slots(self) -> int:
        """How many slots the mapping covers."""
        return max(0, (len(self.words) - layout.HEADER_WORDS) // layout.BLOCK_WORDS) * layout.BLOCK

    def cover(self, slot: int) -> None:
        """Map far enough for `slot`, growing the file if need be."""
        if not 0 <= slot < layout.MAX_SLOTS:
            raise CountersUnavailable(f"slot {slot} is outside the counters file")
        if slot < self.slots:
            return
        size = layout.file_bytes(slot)
        with self._opening():
            if os.fstat(self.fd).st_size < size:
                try:
                    os.ftruncate(self.fd, size)
                except OSError as error:
                    raise CountersUnavailable(f"the counters file cannot grow: {error.strerror}") from error
        self.remap()

    def reaches(self, slot: int) -> bool:
        """Whether the file has room for `slot`, mapped here or not."""
        return 0 <= slot < self.slots or (slot >= 0 and os.fstat(self.fd).st_size >= layout.file_bytes(slot))

    def remap(self) -> None:
        """Map all of the file as it is now."""
        self.words.release()
        self.buffer.close()
        self._map()

    def allocate_region(self, slot: int) -> None:
        """Disk space for the first page of a slot's region; the caller marks it READY under the slot's lock."""
        self._allocate(layout.region_of(slot) * WORD, PAGE_WORDS * WORD)

    def allocate_extended(self, slot: int) -> None:
        """Disk space for the rest of a slot's region."""
        self._allocate((layout.region_of(slot) + PAGE_WORDS) * WORD, (layout.REGION_WORDS - PAGE_WORDS) * WORD)

    def allocate_directory(self) -> None:
        """Disk space for the directory of end users."""
        self._allocate(layout.HEADER_WORDS * WORD, layout.PLACES * WORD)

    def allocate_columns(self, block: int, worker: int) -> None:
        """Disk space for a worker's columns in a block."""
        self._allocate((layout.block_start(block) + worker * layout.WORKER_WORDS) * WORD, layout.WORKER_WORDS * WORD)

    def wait(self, at: int) -> None:
        """Lock the byte `at` after a first try failed: a spin of 50 µs that lets the holder run.

        Raises:
            Busy: still held.
        """
        deadline = time.perf_counter_ns() + SPIN_NS
        while True:  # once at least: a process that was put aside in between has not tried yet
            os.sched_yield()
            try:
                fcntl.lockf(self.fd, LOCK, 1, at)
                return
            except OSError as error:
                if error.errno not in _HELD:
                    raise CountersUnavailable(f"the counters cannot be locked: {error.strerror}") from error
                if time.perf_counter_ns() > deadline:
                    raise Busy from None

    @contextmanager
    def held(self, at: int, patience: float) -> Iterator[None]:
        """The lock of one slot for cold paths; sleeps between tries, up to `patience` seconds.

        Raises:
            Busy: still held.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                self.wait(at)
                break
            except Busy:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.0005)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, UNLOCK, 1, at)

    def flush(self) -> None:
        """Write dirty pages to the disk (blocks; for control's timer, off its loop)."""
        self.buffer.flush()

    def close(self) -> None:
        """Unmap and close."""
        self.words.release()
        self.header.release()
        self.buffer.close()
        self._head.close()
        os.close(self.fd)
