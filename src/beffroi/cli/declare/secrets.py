# SPDX-License-Identifier: Apache-2.0
"""Where the keys go that an `apply` makes: each into the file that the declaration names, once, or onto the screen.

In: the declaration and the folder it lies in; then the keys. Out: files of mode 0600 that were not there before.
The files are opened before anything is made: a key whose file cannot be written is not made.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from beffroi.cli.client import Failure


class Places:
    """The files that an `apply` will write. Those that got nothing are taken away at the end."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._open: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path, fd in self._open.items():
            os.close(fd)
            path.unlink(missing_ok=True)
        self._open.clear()

    def reserve(self, reference: str) -> None:
        """Make an empty file for a key to come.

        Raises:
            Failure: it cannot be made, or is there already.
        """
        path = self._path(reference)
        if path in self._open:
            raise Failure(f"two new keys are to be written to {path}; give each a file of its own")
        try:
            self._open[path] = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise Failure(f"{path} is there already, and a key that is in it would be lost; move it away") from None
        except OSError as error:
            raise Failure(f"a new key cannot be written to {path}: {error.strerror}; nothing was changed") from None

    def write(self, secret: dict[str, Any]) -> Path | None:
        """Write one key where it is to go, on disk before this returns; None where no file was named."""
        if not secret.get("secret_to"):
            return None
        path = self._path(secret["secret_to"])
        fd = self._open.pop(path)
        try:
            os.write(fd, f"{secret['key']}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        return path

    def _path(self, reference: str) -> Path:
        return self._base / Path(reference.removeprefix("file:")).expanduser()
