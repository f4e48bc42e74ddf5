# SPDX-License-Identifier: Apache-2.0
"""The journal of one worker: records of one loop turn leave in one write, and are durable some milliseconds later.

In: intents, progress, settlements. Out: segments on disk that survive kill -9 from the moment `then` is called.
The rule of the house: what cannot be recorded is not served. So intents are refused while the disk fails, space to
settle everything in flight is always held back, and a settlement is never refused: at worst it waits in memory.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from beffroi.core import segment as format_
from beffroi.core.errors import BeffroiError, InternalError, JournalUnavailable
from beffroi.core.record import (
    HEADER,
    INTENT,
    PROGRESS,
    REFUSALS,
    SETTLEMENT,
    Intent,
    Payload,
    Refusals,
    Settlement,
    frame,
    is_attempt,
    reframe,
)
from beffroi.gateway.journal import bounds
from beffroi.gateway.journal.bounds import MAX_INTENT, MAX_RECORD
from beffroi.gateway.journal.sync import Syncer
from beffroi.gateway.journal.tape import Tape

Then = Callable[[BeffroiError | None], None]
_RETRY = 0.1
_TRIES = 3  # failed writes in a row after which another segment is tried: it may be one bad spot
_MAX_WAITING = 4096
_REFUSES = ("write", "sync", "stall", "full")


class Journal:
    """The writer of one worker slot. All methods belong to the loop's thread.

    Args:
        directory: the journal directory; the segments go to `w<NN>` below it.
        worker: slot number, stable across restarts.
        boot: id of this process, 32 hexadecimal digits.
        segment_bytes: size of one file; how many are made ahead grows with what is in flight.
        sync_interval: seconds within which a sync starts after a write.
        before_then: what else must be done once a turn before anybody hears of its records.

    Memory is bounded: settlements that wait for the disk are at most those in flight when it failed (no intent is
    taken meanwhile); records of requests that were refused without an intent wait up to 4096, then are only counted
    and end up as one refusal with the reason `unrecorded`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        worker: int,
        boot: str,
        loop: asyncio.AbstractEventLoop,
        segment_bytes: int = 8 << 20,
        sync_interval: float = 0.010,
        before_then: Callable[[], None] | None = None,
    ) -> None:
        self.records = 0
        self.open = 0  # intents without a settlement
        self._loop = loop
        self._before_then = before_then
        self._next = 1  # sequence of the next record
        self._room = 0  # bytes that records may take before new space must be found
        self._frames: list[bytes] = []
        self._thens: list[Then | None] = []
        self._scheduled = False
        self._closing = False
        self._held: list[bytes] = []  # settlements of attempts that could not be written, as framed
        self._waiting: deque[bytes] = deque()  # records that may only use space that nobody needs
        self._unrecorded = 0
        self._trouble: dict[str, str] = {}
        self._failing = False  # no intents
        self._blocked = False  # nothing can be written
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._syncer = Syncer(sync_interval, self._sync_report)
        folder = directory / format_.folder(worker)
        self._tape = Tape(folder, worker, boot, segment_bytes, wrote=self._syncer.wrote, retired=self._syncer.retire)
        self._take(self._tape.prepare_first())

    # ------------------------------------------------------------------ what the flow calls

    def intent(self, payload: Intent, then: Then) -> None:
        """Record that a request is about to go to an engine; `then(None)` once written, `then(error)` if it was not.

        An intent that was refused or not written does not count: its request is settled as attempt 0.

        Raises:
            JournalUnavailable: the disk fails, or has no space beyond what settling needs; `then` is not called.
        """
        if self._failing:
            raise _unavailable()
        record = frame(INTENT, self._next, payload)
        size = len(record)
        if size > MAX_INTENT:
            raise InternalError(f"an intent of {size} bytes: a name in the configuration is far too long")
        if self._room - size < (self.open + 1) * MAX_RECORD:
            self._prepare()
            raise _unavailable()
        self.open += 1
        self._put(record, size, then)

    def settle(self, payload: Settlement, then: Then | None) -> None:
        """Record how an attempt ended, whatever the state of the disk; `then(error)`: it waits in memory instead."""
        record = bounds.settlement(self._next, payload)
        size = len(record)
        if payload.attempt:
            self.open -= self.open > 0
            if not self._blocked:
                self._put(record, size, then)
                return
            self._held.append(record)
            self._room -= size
        elif not self._blocked and self._room - size >= self.open * MAX_RECORD:
            self._put(record, size, then)
            return
        else:
            self._wait(record)
        if then is not None:
            self._loop.call_soon(then, _unavailable())

    def append(self, kind: int, payload: Payload) -> None:
        """Record progress or refusals. While space or the disk fails progress is dropped: the next one says more."""
        for part in bounds.refusals(payload) if isinstance(payload, Refusals) else (payload,):
            record = frame(kind, self._next, part)
            size = len(record)
            if not self._blocked and self._room - size >= self.open * MAX_RECORD:
                self._put(record, size, None)
            elif kind == REFUSALS:
                self._wait(record)

    def close_to_intents(self, why: str | None) -> None:
        """Take no intents for that reason, until it is None; what is in flight is settled all the same."""
        if why is None:
            self._clear("full")
        else:
            self._set("full", why)

    @property
    def healthy(self) -> bool:
        """Whether an intent would be taken now."""
        return not self._failing and self._room - MAX_INTENT >= (self.open + 1) * MAX_RECORD

    @property
    def trouble(self) -> str | None:
        """What is wrong with the disk, for the person who looks after it."""
        return "; ".join(self._trouble.values()) or None

    @property
    def syncs(self) -> int:
        """How many times fdatasync returned."""
        return self._syncer.syncs

    @property
    def lag_bytes(self) -> int:
        """Written and not known to be durable: what a power cut could take."""
        return self._tape.written - self._syncer.synced

    @property
    def kept(self) -> int:
        """Records that wait in memory for the disk to recover."""
        return len(self._held) + len(self._waiting)

    def close(self) -> None:
        """Write and sync what there is, cut the segment to its length, remove those not begun. Blocks for the disk.

        What the disk still refuses is lost with the process; its intents are settled by recovery.
        """
        if self._closing:
            return
        self._closing = self._failing = True
        self._tape.finish_preparing()
        self._take(self._tape.take())
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._retry_write()
        self._retry_waiting()
        self._flush()
        self._failing = self._blocked = True
        self._syncer.close()
        for error in self._tape.seal():
            self._trouble["close"] = f"sealing a segment failed: {error}"

    # ------------------------------------------------------------------ one turn of the loop

    def _put(self, record: bytes, size: int, then: Then | None) -> None:
        self._next += 1
        self._room -= size
        self._frames.append(record)
        self._thens.append(then)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        frames, thens = self._frames, self._thens
        self._frames, self._thens = [], []
        self._scheduled = False
        done, error = self._tape.write(frames, self._next - len(frames))
        self.records += done
        if error is not None:
            self._next -= len(frames) - done
            self._write_failed(error, frames[done:])
        if self._room < self.open * MAX_RECORD + self._tape.size:
            self._account()
            self._prepare()
        if self.lag_bytes > 2 * self._tape.size:
            self._set("stall", f"{self.lag_bytes} bytes wait for a sync that does not end")
        if self._before_then is not None:
            self._before_then()
        self._call(thens[:done] if error else thens, None)
        if error is not None:
            self._call(thens[done:], _unavailable())

    def _call(self, thens: Sequence[Then | None], error: BeffroiError | None) -> None:
        rest = iter(thens)
        try:
            for then in rest:
                if then is not None:
                    then(error)
        finally:
            # One that raised is a bug which the loop reports; the others must not wait for ever because of it.
            left = list(rest)
            if left:
                self._loop.call_soon(self._call, left, error)

    def _account(self) -> None:
        """Count the room anew: segments came or went, or a write failed."""
        self._room = self._tape.room() - sum(map(len, self._frames)) - sum(map(len, self._held))

    # ------------------------------------------------------------------ when the disk fails

    def _write_failed(self, error: OSError, frames: Sequence[bytes]) -> None:
        for record in frames:
            kind = record[8]
            if kind == INTENT:
                self.open -= self.open > 0
            elif kind == SETTLEMENT and is_attempt(record):
                self._held.append(record)
            elif kind != PROGRESS:
                self._wait(record)
        self._failures += 1
        self._set("write", f"writing the journal failed: {error}")
        self._account()

    def _wait(self, record: bytes) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(record)
        else:
            self._unrecorded += 1
        self._watch()

    def _retry(self) -> None:
        self._timer = None
        if self._blocked:
            if self._failures >= _TRIES and self._tape.rotate():
                self._failures = 0
            self._retry_write()
        if self.lag_bytes <= self._tape.size:
            self._clear("stall")
        if "prepare" in self._trouble or self._room < self.open * MAX_RECORD + self._tape.size:
            self._make()
        self._retry_waiting()
        if self._trouble or self._waiting or self._unrecorded:
            self._watch()

    def _retry_write(self) -> None:
        """Write what is held; with nothing held, find out whether writing works."""
        frames = [reframe(record[8], self._next + n, record[HEADER.size :]) for n, record in enumerate(self._held)]
        done, error = self._tape.write(frames, self._next) if frames else (0, self._tape.probe())
        self.records += done
        self._next += done
        del self._held[:done]
        self._account()
        if error is None:
            self._failures = 0
            self._clear("write")
        else:
            self._failures += 1
            self._set("write", f"writing the journal failed: {error}")

    def _retry_waiting(self) -> None:
        while self._waiting and not self._blocked:
            record = self._waiting[0]
            if self._room - len(record) < self.open * MAX_RECORD:
                return
            self._waiting.popleft()
            self._put(reframe(record[8], self._next, record[HEADER.size :]), len(record), None)
        if self._unrecorded and not self._blocked:
            counted = Refusals(time.time_ns() // 1_000_000_000, {"unrecorded -": self._unrecorded})
            record = frame(REFUSALS, self._next, counted)
            if self._room - len(record) >= self.open * MAX_RECORD:
                self._unrecorded = 0
                self._put(record, len(record), None)

    def _prepare(self) -> None:
        if "prepare" not in self._trouble:  # or else the timer asks again, not every turn
            self._make()

    def _make(self) -> None:
        if not self._closing:
            self._tape.prepare(lambda: self._loop.call_soon_threadsafe(self._prepared))

    def _prepared(self) -> None:
        if not self._closing:
            self._take(self._tape.take())
            if self._blocked and "prepare" not in self._trouble:
                self._retry_write()
            self._retry_waiting()

    def _take(self, error: OSError | None) -> None:
        if error is None:
            self._clear("prepare")
        else:
            self._set("prepare", f"making a segment failed: {error}")
        self._account()
        if error is None and self._room < self.open * MAX_RECORD + self._tape.size:
            self._prepare()

    def _sync_report(self, text: str | None) -> None:
        """Called in the syncing thread."""
        self._loop.call_soon_threadsafe(self._synced, text)

    def _synced(self, text: str | None) -> None:
        if text is None:
            self._clear("sync")
        else:
            self._set("sync", f"syncing the journal failed: {text}")

    def _set(self, what: str, text: str) -> None:
        self._trouble[what] = text
        self._judge()
        self._watch()

    def _clear(self, what: str) -> None:
        if self._trouble.pop(what, None) is not None:
            self._judge()

    def _judge(self) -> None:
        self._failing = self._closing or any(what in self._trouble for what in _REFUSES)
        self._blocked = "write" in self._trouble

    def _watch(self) -> None:
        if self._timer is None and not self._closing:
            self._timer = self._loop.call_later(_RETRY, self._retry)


def _unavailable() -> JournalUnavailable:
    return JournalUnavailable(
        "The journal cannot be written now, and what cannot be recorded is not served. Try again shortly.",
        retry_after=1.0,
    )
