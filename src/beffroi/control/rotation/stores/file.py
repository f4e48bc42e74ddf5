# SPDX-License-Identifier: Apache-2.0
"""A file per key, 0600, below one directory: for an agent, a sidecar or a mounted volume that reads it from there.

In: a directory of the configuration and a place. Out: `<directory>/<organisation>/<path>`, replaced whole by a rename.
"""

import asyncio
import contextlib
import os
import stat
from pathlib import Path

from beffroi.control.rotation.stores.port import Place, StoreFault, StoreSettings
from beffroi.store.files import replace_file

_LONGEST = 4096


class FileStore:
    """One file. Everything blocking is done in a thread: the directory may be on a network."""

    def __init__(self, settings: StoreSettings, place: Place) -> None:
        self._name = settings.name
        self._root = Path(settings.directory)
        self._path = self._root / place.organisation / place.path

    async def read(self) -> str | None:
        """As `Store.read`."""
        return await asyncio.to_thread(self._read)

    async def write(self, text: str) -> None:
        """As `Store.write`."""
        await asyncio.to_thread(self._write, text)

    def _read(self) -> str | None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault("read", error) from None
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise StoreFault(f"{self._path} of the store {self._name} is no regular file")
            with contextlib.suppress(UnicodeDecodeError):
                return file.read(_LONGEST).decode().rstrip("\n")
        return ""

    def _write(self, text: str) -> None:
        folder = self._path.parent
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for depth in range(len(folder.relative_to(self._root).parts)):
                self._root.joinpath(*folder.relative_to(self._root).parts[: depth + 1]).mkdir(0o700, exist_ok=True)
            # No link may lead out of the directory that the configuration names.
            if not folder.resolve().is_relative_to(self._root.resolve()):
                raise StoreFault(f"{folder} leads out of the directory of the store {self._name}")
            replace_file(self._path, text.encode() + b"\n")
        except OSError as error:
            raise self._fault("write", error) from None

    def _fault(self, verb: str, error: OSError) -> StoreFault:
        return StoreFault(f"the store {self._name} cannot {verb} {self._path}: {error.strerror}")
