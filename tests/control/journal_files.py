# SPDX-License-Identifier: Apache-2.0
"""Segments made by hand, so that tests decide what a writer left behind: dead unless its file is held open and locked.

And how tests look at the ledger that shipping makes of them.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from beffroi.control.shipping import Shipper
from beffroi.core import segment as format_
from beffroi.core.record import INTENT, PROGRESS, REFUSALS, SETTLEMENT, Intent, Payload, Progress, Refusals, frame
from beffroi.store.engine import reading
from beffroi.store.tables import events, exchanges

BOOT = "0" * 31 + "1"
OTHER = "0" * 31 + "2"
KINDS: dict[type, int] = {Intent: INTENT, Progress: PROGRESS, Refusals: REFUSALS}


def framed(payloads: Sequence[Payload], base: int = 1) -> bytes:
    """Records in sequence."""
    return b"".join(frame(KINDS.get(type(each), SETTLEMENT), n, each) for n, each in enumerate(payloads, base))


def header(boot: str = BOOT, number: int = 1, base: int = 1, worker: int = 0) -> bytes:
    """The first 64 bytes."""
    return format_.Header(worker, boot, number, base, 1).pack()


def segment(
    directory: Path,
    payloads: Sequence[Payload],
    *,
    boot: str = BOOT,
    number: int = 1,
    base: int = 1,
    worker: int = 0,
    tail: bytes = bytes(4096),
) -> Path:
    """A segment file with these records, and then `tail`."""
    folder = directory / format_.folder(worker)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / format_.name(boot, number)
    path.write_bytes(header(boot, number, base, worker) + framed(payloads, base) + tail)
    return path


def append(path: Path, payloads: Sequence[Payload], base: int, at: int) -> int:
    """More records in a segment from offset `at`, as its writer would; the offset after them."""
    data = framed(payloads, base)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return at + len(data)


@contextlib.contextmanager
def alive(path: Path) -> Iterator[None]:
    """While this lasts the writer of the segment lives."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def rows(database: Engine, table: Any = exchanges) -> list[dict[str, Any]]:
    """All rows of a table."""
    with reading(database) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def actions(database: Engine) -> list[str]:
    """What was noted."""
    return [row["action"] for row in rows(database, events)]


def later(shipper: Shipper) -> int:
    """One look that calls the roll, whenever the last one was."""
    shipper.living(0, "")
    return shipper.step()
