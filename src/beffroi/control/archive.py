# SPDX-License-Identifier: Apache-2.0
"""A backup as one file: a gzipped tar of a data directory, closed by a manifest with the checksum of every file in it.

In: a staged folder, or an archive. Out: an archive, written in one pass so that it may go into a pipe; or its files, each
held to its checksum. The manifest comes last: an archive that was cut short has none.
"""

import gzip
import hashlib
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BytesIO, FileIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

import msgspec

from beffroi import __version__
from beffroi.core.clock import utc
from beffroi.core.layout import FORMAT_FILE

MANIFEST = "manifest.json"
VERSION = 1
_LOT = 1 << 18
_LEVEL = 1  # most of a ledger shrinks to a third at this level already, in a fifth of the time
_MOST_MANIFEST = 64 << 20
_MOST_HEADER = 64 << 10  # of what stands before a member: the library reads it whole
Told = Callable[[int], None]  # bytes done since it was last told: of files written, of an archive read


class Held(msgspec.Struct, frozen=True):
    """What the manifest says of one file."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last member of an archive.

    Attributes:
        beffroi_backup: version of this form.
        made_by: the release that made it; format, revision: those of the data directory and its ledger.
        began_at: what was answered before this moment (ISO 8601, UTC) is in it; ended_at: when it was written.
        files: by path.
    """

    beffroi_backup: int
    made_by: str
    format: int
    revision: str
    began_at: str
    ended_at: str
    files: dict[str, Held]


class NotWhole(Exception):
    """An archive that is none, or is damaged, cut short, or of a newer form."""


class _Hashed:
    """A file that is summed while it is read."""

    def __init__(self, file: BinaryIO, told: Told | None) -> None:
        self._file = file
        self._told = told
        self.sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _LOT) if size >= 0 else size)
        self.sum.update(data)
        if self._told is not None:
            self._told(len(data))
        return data


class _Member(tarfile.TarInfo):
    """A member as it is read; one that could fill the memory before anybody sees its name is refused."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not (member.isreg() or member.isdir()) and member.size > _MOST_HEADER:
            raise NotWhole("it has a header of impossible size")
        return member


class _Told(FileIO):
    """A file that says how much of it was read."""

    def __init__(self, path: Path, told: Told | None) -> None:
        super().__init__(path)
        self._told = told

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size) or b""
        if self._told is not None:
            self._told(len(data))
        return data


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write(folder: Path, out: BinaryIO, *, revision: str, began_ns: int, told: Told | None = None) -> Manifest:
    """Write all files below `folder` and their manifest to `out`, which need not be seekable. Blocks.

    Args:
        revision: of the ledger in it; began_ns: when the copy in `folder` was begun (Unix nanoseconds).
    """
    files: dict[str, Held] = {}
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=_LEVEL, filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                tar.addfile(_member(name, tarfile.DIRTYPE, 0o700))
                continue
            with path.open("rb") as file:
                member = _member(name, tarfile.REGTYPE, 0o600, os.fstat(file.fileno()).st_size)
                hashed = _Hashed(file, told)
                tar.addfile(member, hashed)
                files[name] = Held(member.size, hashed.sum.hexdigest())
        manifest = Manifest(
            beffroi_backup=VERSION,
            made_by=__version__,
            format=int((folder / FORMAT_FILE).read_text("ascii")),
            revision=revision,
            began_at=utc(began_ns).isoformat(),
            ended_at=utc(time.time_ns()).isoformat(),
            files=files,
        )
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        tar.addfile(_member(MANIFEST, tarfile.REGTYPE, 0o600, len(content)), BytesIO(content))
    return manifest


def _member(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.mtime = kind, mode, size, int(time.time())
    return member


def read(archive: Path, into: Path | None = None, told: Told | None = None) -> Manifest:
    """Read all of an archive and hold each file to its checksum.

    Args:
        into: an existing folder, to write the files to; None: they are only read.

    Raises:
        NotWhole: something does not hold; what was written until then is left.
        OSError: the archive cannot be opened, or a file not written.
    """
    found: dict[str, Held] = {}
    manifest: Manifest | None = None
    try:
        with (
            _Told(archive, told) as raw,
            gzip.GzipFile(fileobj=raw, mode="rb") as packed,
            tarfile.open(fileobj=packed, mode="r|", tarinfo=_Member) as tar,
        ):
            for member in tar:
                name = _checked_name(member)
                if manifest is not None:
                    raise NotWhole(f"{name} stands behind the manifest")
                if member.isdir():
                    if into is not None:
                        (into / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                elif name == MANIFEST:
                    manifest = _decoded(b"".join(_chunks(tar, member, _MOST_MANIFEST)))
                elif name in found:
                    raise NotWhole(f"{name} stands in it twice")
                else:
                    found[name] = _take(_chunks(tar, member), None if into is None else into / name)
    except (
        tarfile.TarError,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
        ValueError,
    ) as error:  # ValueError: names, numbers
        raise NotWhole(f"it is damaged or cut short: {error}") from None
    if manifest is None:
        raise NotWhole("it is cut short: the manifest at its end is missing")
    for name in sorted(found.keys() | manifest.files.keys()):
        if found.get(name) != manifest.files.get(name):
            kind = "is missing" if name not in found else "is not what the manifest says"
            raise NotWhole(f"{name} {kind}")
    return manifest


def _checked_name(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not (member.isreg() or member.isdir()):
        raise NotWhole(f"it holds {member.name!r}, which no backup of Beffroi does")
    return path.as_posix()


def _chunks(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int | None = None) -> Iterator[bytes]:
    file = tar.extractfile(member)
    if file is None or (most is not None and member.size > most):
        raise NotWhole(f"{member.name} is of impossible size")
    left = member.size
    while left:
        data = file.read(min(_LOT, left))
        if not data:
            raise NotWhole(f"it is cut short in {member.name}")
        left -= len(data)
        yield data


def _take(chunks: Iterator[bytes], target: Path | None) -> Held:
    """Sum a file and write it, its zeros as holes; on disk when this returns."""
    total, size = hashlib.sha256(), 0
    fd = None
    if target is not None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for data in chunks:
            total.update(data)
            if fd is not None and data.strip(b"\0"):
                _write_at(fd, data, size)
            size += len(data)
        if fd is not None:
            os.ftruncate(fd, size)
            os.fsync(fd)
    finally:
        if fd is not None:
            os.close(fd)
    return Held(size, total.hexdigest())


def _write_at(fd: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, at)
        at, rest = at + done, rest[done:]


def _decoded(content: bytes) -> Manifest:
    try:
        form = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).get("beffroi_backup")
        version = 0 if form is None else msgspec.json.decode(form, type=int)
        if version > VERSION:
            made_by = msgspec.json.decode(content).get("made_by", "a newer release")
            raise NotWhole(
                f"it was made by Beffroi {made_by} in a form that this release does not know; use that release"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
        datetime.fromisoformat(manifest.began_at)
    except (msgspec.MsgspecError, ValueError) as error:
        raise NotWhole(f"its manifest cannot be read: {error}") from None
    return manifest
