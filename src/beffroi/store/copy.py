# SPDX-License-Identifier: Apache-2.0
"""Copies the database of one machine while it is written to: all of it as it was at one moment.

In: the database file. Out: a `Pinned` view that later commits do not change, and the copy made from it.
It is SQLite's own way of reading (a WAL read transaction) and of copying (the backup API); nobody waits for it.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

_PAGES = 512  # copied at a time; between two lots the interpreter is given back
_BUSY_S = 10.0
Told = Callable[[int, int], None]  # bytes done, bytes in all


class NotSound(Exception):
    """A database file that SQLite cannot read, or finds fault with."""


class Pinned:
    """The database as it is now, for as long as this is open; used from one thread at a time.

    Args:
        database: an existing file.

    Raises:
        NotSound: it is no database, or a damaged one.
        OSError: there is none.
    """

    def __init__(self, database: Path) -> None:
        if not database.is_file():
            raise FileNotFoundError(2, "there is no such database", str(database))
        self._connection = sqlite3.connect(
            f"file:{database}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the view begins with a read
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        except sqlite3.Error as error:
            self._connection.close()
            raise NotSound(f"{database.name} cannot be read: {error}") from None
        self.bytes = int(pages) * int(size)
        self._page = int(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def copy(self, target: Path, told: Told | None = None) -> None:
        """Write the pinned view to `target`, a file that is not there yet; on disk when this returns.

        Raises:
            NotSound: SQLite could not read the source, or not write the copy.
        """

        def progress(_status: int, left: int, total: int) -> None:
            if told is not None:
                told((total - left) * self._page, total * self._page)

        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                self._connection.backup(copy, pages=_PAGES, progress=progress, sleep=0)
        except sqlite3.Error as error:
            raise NotSound(f"the database could not be copied: {error}") from None

    def close(self) -> None:
        """Let go of the view."""
        self._connection.close()


def faults(database: Path) -> list[str]:
    """What SQLite's own check finds wrong with a database that nobody uses, at most ten things."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, isolation_level=None)) as connection:
            rows = connection.execute("PRAGMA integrity_check(10)").fetchall()
    except sqlite3.Error as error:
        return [f"{database.name} cannot be read: {error}"]
    return [f"{database.name}: {text}" for (text,) in rows if text != "ok"]
