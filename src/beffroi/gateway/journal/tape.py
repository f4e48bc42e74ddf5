# SPDX-License-Identifier: Apache-2.0
"""The segments of one writer in a row: what is written goes to the current one, and the next ones are made ahead.

In: records and the sequence number of the first. Out: how many are on file whole, and what stopped the rest.
Writing is one pwrite into space that exists already; making segments is slow and happens in a thread of its own.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from beffroi.core import segment as format_
from beffroi.gateway.journal.bounds import MAX_RECORD
from beffroi.gateway.journal.segments import Segment, prepare, sweep

Wrote = Callable[[Segment, int, bytes], None]


class Tape:
    """The writer's place. Belongs to the loop's thread, except where said.

    Args:
        wrote: told of every write: segment, offset, bytes.
        retired: told of every segment that will not be written again.
    """

    def __init__(
        self, folder: Path, worker: int, boot: str, size: int, *, wrote: Wrote, retired: Callable[[Segment], None]
    ) -> None:
        self.size = size
        self.written = 0  # bytes
        self._folder, self._worker, self._boot = folder, worker, boot
        self._wrote, self._retired = wrote, retired
        self._made = 0
        self._current: Segment | None = None
        self._ready: deque[Segment] = deque()
        self._preparing: Future[Segment] | None = None
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="journal-prepare")

    def room(self) -> int:
        """Bytes of records that are sure to fit in the segments there are."""
        # A record is never split over two segments, so each may waste a little less than one record at its end.
        return sum(segment.free() - MAX_RECORD for segment in self._segments())

    def prepare(self, done: Callable[[], object]) -> None:
        """Start making one more segment unless one is being made; `done` is called in the maker's thread."""
        if self._preparing is None:
            self._preparing = self._maker.submit(prepare, self._folder, self._boot, self._made + 1, self.size)
            self._preparing.add_done_callback(lambda _: done())

    def prepare_first(self) -> OSError | None:
        """Make the first segment here and now; or why it could not be made."""
        sweep(self._folder)
        self._preparing = self._maker.submit(prepare, self._folder, self._boot, 1, self.size)
        return self.take()

    def take(self) -> OSError | None:
        """Put the segment that was made behind the others; or why it could not be made."""
        made, self._preparing = self._preparing, None
        if made is None:
            return None
        try:
            segment = made.result()
        except OSError as error:
            return error
        self._made = segment.number
        self._ready.append(segment)
        if self._current is None:
            self.rotate()
        return None

    def rotate(self) -> bool:
        """Go on in the next segment; False: none is ready."""
        if not self._ready:
            return False
        if self._current is not None:
            self._retired(self._current)
        self._current = self._ready.popleft()
        return True

    def probe(self) -> OSError | None:
        """Whether writing works, tried on space that counts as not written."""
        if self._current is None:
            return OSError(errno.ENOSPC, "no segment is ready")
        if self._current.end >= self._current.size:
            return None if self._ready else OSError(errno.ENOSPC, "no segment is ready")
        try:
            os.pwrite(self._current.fd, b"\0", self._current.end)
        except OSError as error:
            return error
        return None

    def write(self, frames: Sequence[bytes], sequence: int) -> tuple[int, OSError | None]:
        """Write in order, as a rule all at once; a record counts once all of it was taken by the kernel."""
        done = 0
        while done < len(frames):
            rest = frames[done:] if done else frames
            segment = self._current
            data = b"".join(rest)
            count = len(rest)
            if segment is None or len(data) > segment.free():
                count, length = _whole(rest, segment.free() if segment else 0)
                if segment is None or not count:
                    if not self.rotate():
                        return done, OSError(errno.ENOSPC, "no segment is ready")
                    continue
                data = data[:length]
            count, error = self._write_to(segment, rest, count, data, sequence + done)
            done += count
            if error is not None:
                return done, error
        return done, None

    def _write_to(
        self, segment: Segment, frames: Sequence[bytes], count: int, data: bytes, sequence: int
    ) -> tuple[int, OSError | None]:
        start, head = segment.end, b""
        if start == 0:
            head = format_.Header(self._worker, self._boot, segment.number, sequence, time.time_ns()).pack()
            data = head + data
        length = len(data)
        # What a write that was cut short left behind could pass for records once the space before it is filled.
        padded = data.ljust(segment.stained - start, b"\0") if segment.stained > start + length else data
        try:
            wrote = os.pwrite(segment.fd, padded, start)
        except OSError as error:
            return 0, error
        if wrote < length:
            segment.stained = max(segment.stained, start + wrote)
            count, length = _whole(frames, wrote - len(head))
            if not count:
                return 0, OSError(errno.EIO, "a write was cut short")
            data = data[: len(head) + length]
        segment.end = start + len(data)
        self.written += len(data)
        self._wrote(segment, start, data)
        return count, None

    def finish_preparing(self) -> None:
        """Wait for the maker and end its thread."""
        self._maker.shutdown(wait=True)

    def seal(self) -> list[OSError]:
        """Cut the current segment to its length and remove those not begun; blocks for the disk."""
        errors = []
        for segment in self._segments():
            try:
                segment.seal()
            except OSError as error:
                errors.append(error)
        self._current = None
        self._ready.clear()
        return errors

    def _segments(self) -> list[Segment]:
        return [*([self._current] if self._current else ()), *self._ready]


def _whole(frames: Sequence[bytes], space: int) -> tuple[int, int]:
    length = 0
    for count, record in enumerate(frames):
        if length + len(record) > space:
            return count, length
        length += len(record)
    return len(frames), length
