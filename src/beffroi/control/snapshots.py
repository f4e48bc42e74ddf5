# SPDX-License-Identifier: Apache-2.0
"""Writes the snapshot into the data directory: whole files renamed into place, deltas appended, all of it synced.

In: a config, the key rows, changes. Out: `snapshot.bin`, `keys.bin`, `keys.log` (read by `core.state`), `peppers.bin`.
"""

import hashlib
import os
import secrets
import time
from pathlib import Path

import msgspec

from beffroi.core import snapshot
from beffroi.core.snapshot import Config, Damaged, KeyBase, KeyDelta, KeyRecord, QuotaRecord
from beffroi.core.state import KEYS, LENGTH, LOG, SNAPSHOT, apply, load_config, load_keys
from beffroi.store.files import replace_file
from beffroi.telemetry import logs

PEPPERS = "peppers.bin"
COMPACT_BYTES = 4 << 20  # a log of this size is folded into a new base
log = logs.Logger("control.snapshots")


def _fresh_revision() -> int:
    """A revision above any counted one, for when the last is not known: no worker may take old for new."""
    return time.time_ns() // 1_000_000


def publish_config(data: Path, config: Config) -> tuple[Config, bool]:
    """Write the config under the revision after the one on disk; unchanged content keeps its revision and its file.

    Returns:
        The config with its revision, and whether it differs from what was there.
    """
    try:
        before = load_config(data)
        if msgspec.structs.replace(config, revision=before.revision) == before:
            return before, False
        revision = before.revision + 1
    except FileNotFoundError:
        revision = 1
    except (OSError, Damaged) as error:
        log.error("the config snapshot on disk is not readable; it is written anew", reason=str(error))
        revision = _fresh_revision()
    config = msgspec.structs.replace(config, revision=revision)
    replace_file(data / SNAPSHOT, snapshot.encode(config))
    return config, True


def load_peppers(data: Path, *, create: bool) -> dict[int, bytes]:
    """The secrets that key hashes are made with, by id; in a file of their own: no copy of the database has them.

    Args:
        create: make the first one if there is no file.

    Raises:
        OSError: there is no file.
        Damaged: it is not readable.
    """
    try:
        body = (data / PEPPERS).read_bytes()
    except FileNotFoundError:
        if not create:
            raise
        return add_pepper(data, {})
    if hashlib.sha256(body[32:]).digest() != body[:32]:
        raise Damaged(f"{PEPPERS} is damaged")
    return msgspec.msgpack.decode(body[32:], type=dict[int, bytes])


def add_pepper(data: Path, peppers: dict[int, bytes]) -> dict[int, bytes]:
    """All of `peppers` and a new one, whose id is the highest; on disk when this returns."""
    peppers = {**peppers, max(peppers, default=0) + 1: secrets.token_bytes(32)}
    body = msgspec.msgpack.encode(peppers)
    replace_file(data / PEPPERS, hashlib.sha256(body).digest() + body)
    return peppers


class KeyFiles:
    """The key table on disk, and in memory for compaction. Not for two threads at once.

    Args:
        data: the data directory.
        keys, quotas, closed: all of them, as the database has them: it is right, and what is on disk is made to follow.
    """

    def __init__(
        self,
        data: Path,
        keys: list[KeyRecord],
        peppers: dict[int, bytes],
        quotas: list[QuotaRecord] | None = None,
        closed: frozenset[str] = frozenset(),
    ) -> None:
        self._data = data
        self.keys = {key.id: key for key in keys}
        self.quotas = {quota.id: quota for quota in quotas or ()}
        self.closed = closed
        self.peppers = peppers
        self._same = False
        self.revision = self._first_revision()
        self._fd = -1
        self._size = 0
        try:
            self._compact()
        except OSError as error:
            if not self._same:
                raise
            log.error("the key table stays as it is on disk; changes wait for space", reason=str(error))

    def _first_revision(self) -> int:
        try:
            before = load_keys(self._data)
        except FileNotFoundError:
            return 1
        except (OSError, Damaged) as error:
            log.error("the key table on disk is not readable; it is written anew", reason=str(error))
            return _fresh_revision()
        there = (
            before.peppers,
            {key.id: key for key in before.keys},
            {each.id: each for each in before.quotas},
            before.closed,
        )
        self._same = there == (self.peppers, self.keys, self.quotas, self.closed)
        return before.revision if self._same else before.revision + 1

    def _compact(self) -> None:
        base = KeyBase(self.revision, self.peppers, tuple(self.keys.values()), tuple(self.quotas.values()), self.closed)
        replace_file(self._data / KEYS, snapshot.encode(base))
        replace_file(self._data / LOG, b"")
        self.close()
        self._fd = os.open(self._data / LOG, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = 0

    def append(
        self,
        *,
        upsert: tuple[KeyRecord, ...] = (),
        peppers: dict[int, bytes] | None = None,
        quotas: tuple[QuotaRecord, ...] = (),
        remove_quotas: tuple[str, ...] = (),
        closed: frozenset[str] | None = None,
    ) -> KeyDelta:
        """Make a change durable; it may be pushed when this returns.

        Raises:
            OSError: it could not be written. The table on disk and in memory is as before.
        """
        delta = KeyDelta(self.revision + 1, upsert, (), peppers or {}, quotas, remove_quotas, closed)
        body = snapshot.encode(delta)
        record = LENGTH.pack(len(body)) + body
        if self._fd < 0:
            self._compact()
        try:
            if os.write(self._fd, record) != len(record):
                raise OSError("the disk took only part of a change")
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(record)
        self.revision = delta.revision
        apply(delta, self.keys, self.peppers, self.quotas)
        if closed is not None:
            self.closed = closed
        if self._size > COMPACT_BYTES:
            try:
                self._compact()
            except OSError as error:  # the change itself is safe; the next one tries again
                log.error("the key log could not be folded into a new base", reason=str(error))
        return delta

    def close(self) -> None:
        """Give the log back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
