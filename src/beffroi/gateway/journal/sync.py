# SPDX-License-Identifier: Apache-2.0
"""The thread that makes written records durable: fdatasync starts within 10 ms of a write, never on the event loop.

In: what was written, and where. Out: a count of durable bytes; a report when the disk fails and when it works again.
A failed fdatasync may have thrown away the very pages it could not write, and the next one then lies. So what is not
known to be durable is kept and written again, the same bytes to the same place, before syncing again.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from beffroi.gateway.journal.segments import Segment

_RETRY = 0.25
# The part of the interval that is waited for company; the rest is for the thread to be scheduled in.
_GATHER = 0.85


class Syncer:
    """One thread per journal.

    Args:
        interval: seconds within which a sync must start after a write.
        report: called in this thread with the text of a failure, and with None when syncing works again.
    """

    def __init__(self, interval: float, report: Callable[[str | None], None]) -> None:
        self.synced = 0  # bytes
        self.syncs = 0
        self._gather = interval * _GATHER
        self._report = report
        self._written: deque[tuple[Segment, int, bytes]] = deque()  # bounded: the journal refuses intents when it grows
        self._armed = False
        self._armed_at = 0.0
        # Bare locks, held until there is something to do: the loop's side of a semaphore would cost microseconds.
        self._wake, self._end = threading.Lock(), threading.Lock()
        self._wake.acquire()
        self._end.acquire()
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def wrote(self, segment: Segment, offset: int, data: bytes) -> None:
        """These bytes were written there just now."""
        self._written.append((segment, offset, data))
        if not self._armed:
            self._armed_at = time.monotonic()
            self._armed = True
            self._wake.release()

    def retire(self, segment: Segment) -> None:
        """Nothing more will be written to this segment: let go of it once it is durable."""
        self.wrote(segment, -1, b"")

    def close(self) -> None:
        """Sync what is left and end the thread."""
        self._end.release()
        with suppress(RuntimeError):  # it is awake already
            self._wake.release()
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            self._wake.acquire()
            ended = self._end.acquire(timeout=max(0.0, self._armed_at + self._gather - time.monotonic()))
            # Disarmed before the count is taken: a write that is not in it arms the next round.
            self._armed = False
            batch = [self._written.popleft() for _ in range(len(self._written))]
            if batch:
                self._sync(batch)

    def _sync(self, batch: list[tuple[Segment, int, bytes]]) -> None:
        failed = False
        while True:
            try:
                if failed:
                    batch += [self._written.popleft() for _ in range(len(self._written))]
                    for segment, offset, data in batch:
                        if data:
                            os.pwrite(segment.fd, data, offset)
                for segment in {segment.number: segment for segment, _, _ in batch}.values():
                    os.fdatasync(segment.fd)
                    self.syncs += 1
                break
            except OSError as error:
                if not failed:
                    self._report(str(error))
                failed = True
                if self._end.acquire(timeout=_RETRY):
                    self._end.release()  # for the loop around this one
                    return
        self.synced += sum(len(data) for _, _, data in batch)
        for segment, offset, _ in batch:
            if offset < 0:
                os.close(segment.fd)
        if failed:
            self._report(None)
