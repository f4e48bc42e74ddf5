# SPDX-License-Identifier: Apache-2.0
"""The data directory: private, of one known format, held by one supervisor at a time.

In: a path. Out: a `DataDirectory`, locked until it is closed or its process ends, or a `StartError` that says why not.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from beffroi.core.layout import FORMAT, FORMAT_FILE, RESTORING, too_new
from beffroi.supervisor.errors import StartError

_LONGEST = 107 - len("/control.sock")  # a Unix socket's path has 108 bytes, the last of them zero (unix(7))


class InUse(StartError):
    """Another process holds the data directory."""


class DataDirectory:
    """An open data directory. The lock is the kernel's (flock), so no crash leaves one behind.

    Args:
        path: made with its parents if it is not there.

    Raises:
        StartError: it cannot be used; another `beffroi serve` holds it; a newer release wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        length = len(os.fsencode(self.path))
        if length > _LONGEST:
            raise StartError(
                f"The path of the data directory is too long for the sockets in it: {length} bytes, {_LONGEST} at most.\n"
                f"  {self.path}\nChoose a shorter one with --data.",
                code=2,
            )
        self._lock = self._open()
        try:
            self._take()
            self._check_format()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._lock)

    def _open(self) -> int:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"The data directory {self.path} cannot be used: {error.strerror or error}.") from None

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            who = f"process {holder}" if holder else "another process"
            raise InUse(
                f"Beffroi is already running on {self.path}: {who} holds it.\n"
                "Stop that one first, or give this one a directory of its own with --data."
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        (self.path / "supervisor.pid").write_text(f"{os.getpid()}\n", "ascii")

    def _check_format(self) -> None:
        file = self.path / FORMAT_FILE
        try:
            text = file.read_text("ascii").strip()
        except FileNotFoundError:
            with file.open("w", encoding="ascii") as out:
                out.write(f"{FORMAT}\n")
                out.flush()
                os.fsync(out.fileno())
            return
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{file} cannot be read: {error}.") from None
        if text == RESTORING:
            raise StartError(
                f"A backup was being restored into {self.path} and did not get to its end: part of it is missing.\n"
                "Empty the directory and run `beffroi backup restore` again."
            )
        if not text.isdigit():
            raise StartError(
                f"{file} should hold a number and holds {text[:40]!r}: this is no data directory of Beffroi."
            )
        if int(text) > FORMAT:
            raise StartError(too_new(self.path, f"format {text}", f"format {FORMAT}"))
