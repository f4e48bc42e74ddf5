# SPDX-License-Identifier: Apache-2.0
"""The files a journal is made of: their names, their 64-byte header, and what a reader learns from them.

    journal/w<worker, 2 digits>/<boot, 32 hexadecimal digits>-<number, 8 digits>.seg
    magic 8 · version u16 · worker u16 · number u32 · boot 16 · base sequence u64 · created u64 (Unix ns) · CRC-32C u32 · 12 zero

In: names and first bytes. Out: who wrote a segment, and the sequence number of its first record.
A header of zeros marks a segment that was made ahead and not begun. Sequences run on from one segment of a boot to its next.
"""

import re
import struct
from typing import NamedTuple

import google_crc32c

MAGIC = b"BFSPOOL\n"
VERSION = 1
SIZE = 64
_FIELDS = struct.Struct("<8sHHI16sQQ")
_SUM = struct.Struct("<I")
_NAME = re.compile(r"([0-9a-f]{32})-(\d{8})\.seg")
_FOLDER = re.compile(r"w(\d{2,5})")


class Header(NamedTuple):
    """Who wrote a segment, and where it stands in what that writer wrote."""

    worker: int
    boot: str
    number: int
    base: int
    created_ns: int

    def pack(self) -> bytes:
        """The first 64 bytes of the segment."""
        fields = _FIELDS.pack(
            MAGIC, VERSION, self.worker, self.number, bytes.fromhex(self.boot), self.base, self.created_ns
        )
        return (fields + _SUM.pack(google_crc32c.value(fields))).ljust(SIZE, b"\0")


class BadHeader(ValueError):
    """A segment whose first bytes are not a header of ours."""


def unpack(data: bytes) -> Header | None:
    """The header in the first 64 bytes; None: the segment is not begun.

    Raises:
        BadHeader: damaged, cut, or of a release that writes another version.
    """
    head = bytes(data[:SIZE])
    if not head.strip(b"\0"):
        return None
    if len(head) < SIZE or head[:8] != MAGIC:
        raise BadHeader("the first bytes are not those of a journal segment")
    if _SUM.unpack_from(head, _FIELDS.size)[0] != google_crc32c.value(head[: _FIELDS.size]):
        raise BadHeader("the checksum of the segment header does not hold")
    _, version, worker, number, boot, base, created = _FIELDS.unpack_from(head)
    if version != VERSION:
        raise BadHeader(f"the segment is of version {version}; this release reads {VERSION}")
    return Header(worker, boot.hex(), number, base, created)


def folder(worker: int) -> str:
    """Where the segments of a worker slot live, below the journal directory."""
    return f"w{worker:02d}"


def name(boot: str, number: int) -> str:
    """File name of a segment; those of one boot sort in the order they were written."""
    return f"{boot}-{number:08d}.seg"


def parse_folder(text: str) -> int | None:
    """The worker slot of a folder's name; None: not such a folder."""
    found = _FOLDER.fullmatch(text)
    return None if found is None else int(found[1])


def parse(text: str) -> tuple[str, int] | None:
    """Boot and number of a file's name; None: not a segment."""
    found = _NAME.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))
