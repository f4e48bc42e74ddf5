# SPDX-License-Identifier: Apache-2.0
"""Journal segments as their reader sees them, while their writer may be alive, dead, or in the middle of a write.

In: the journal directory. Out: records in order, and for each segment what stands where its records end.
Nothing here writes, so the offline verifier reads through it too.
"""

import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from beffroi.core import segment as format_
from beffroi.core.locks import is_held
from beffroi.core.record import HEADER, MAX_PAYLOAD, TYPES, Payload

_CHUNK = 1 << 18
_SUMMED_FROM = 8  # the checksum covers what follows length and checksum in the record's head
_decoders = {kind: msgspec.msgpack.Decoder(cls).decode for kind, cls in TYPES.items()}


class End(Enum):
    """What stands after the last good record."""

    CLEAN = "nothing more"
    CUT = "the data ends inside a record"
    BAD = "a record that does not hold"


class Part(NamedTuple):
    """A run of records read in one go; `end` is the offset after the last, `sequence` the number that must follow."""

    payloads: list[Payload]
    end: int
    sequence: int
    state: End
    why: str


class Found(NamedTuple):
    """A segment file, as its name says."""

    path: Path
    worker: int
    boot: str
    number: int

    @property
    def key(self) -> str:
        """Its name in the ledger, the same wherever the data directory is moved."""
        return f"{self.path.parent.name}/{self.path.name}"


def find(directory: Path) -> dict[str, list[Found]]:
    """The segments of each boot, in the order they were written; files of other names are left alone."""
    boots: dict[str, list[Found]] = {}
    try:
        folders = sorted(os.listdir(directory))
    except FileNotFoundError:
        return boots
    for folder in folders:
        worker = format_.parse_folder(folder)
        if worker is None:
            continue
        for name in sorted(os.listdir(directory / folder)):
            parsed = format_.parse(name)
            if parsed is not None:
                boots.setdefault(parsed[0], []).append(Found(directory / folder / name, worker, *parsed))
    return boots


def is_alive(segments: list[Found]) -> bool:
    """Whether the writer of these segments lives: it holds a lock that the kernel takes from the dead."""
    return any(is_held(found.path) for found in reversed(segments))


def read_header(path: Path) -> format_.Header | None:
    """The header of a segment file; None: not begun.

    Raises:
        BadHeader: it is damaged.
        FileNotFoundError: it is gone.
    """
    with path.open("rb", buffering=0) as file:
        return format_.unpack(file.read(format_.SIZE) or b"")


def parse(data: bytes, sequence: int) -> Part:
    """Records from the start of `data`, the first of which must have this sequence number; offsets are in `data`."""
    payloads: list[Payload] = []
    at, size, head = 0, len(data), HEADER.size
    unpack, checksum_of = HEADER.unpack_from, google_crc32c.value
    while at + head <= size:
        length, checksum, kind, number = unpack(data, at)
        if length == 0:
            return Part(payloads, at, sequence, End.CLEAN, "")
        end = at + head + length
        if length > MAX_PAYLOAD:
            return Part(payloads, at, sequence, End.BAD, "a record of impossible length")
        if end > size:
            return Part(payloads, at, sequence, End.CUT, "a record is cut short")
        if checksum_of(data[at + _SUMMED_FROM : end]) != checksum:
            return Part(payloads, at, sequence, End.BAD, "a checksum does not hold")
        if number != sequence:
            return Part(payloads, at, sequence, End.BAD, f"record {number} stands where {sequence} should")
        try:
            payloads.append(_decoders[kind](data[at + head : end]))
        except (KeyError, msgspec.MsgspecError) as error:
            return Part(payloads, at, sequence, End.BAD, f"a record of a kind or shape not known here: {error}")
        at, sequence = end, sequence + 1
    state = End.CUT if data[at:].strip(b"\0") else End.CLEAN
    return Part(payloads, at, sequence, state, "a record is cut short" if state is End.CUT else "")


def read(fd: int, offset: int, sequence: int) -> Iterator[Part]:
    """All records from `offset` on, a part at a time; the last part says what stands after them."""
    want = _CHUNK
    while True:
        data = os.pread(fd, want, offset)
        part = parse(data, sequence)
        more = len(data) == want
        part = part._replace(end=offset + part.end)
        if part.state is End.CUT and more and not part.payloads and want < 2 * (MAX_PAYLOAD + HEADER.size) + _CHUNK:
            want *= 2
            continue
        # A part that ends cleanly by using up its data may be followed by another.
        ongoing = more and (
            part.state is End.CUT or (part.state is End.CLEAN and part.end - offset + HEADER.size > want)
        )
        if ongoing:
            part = part._replace(state=End.CLEAN, why="")
        if part.payloads or not ongoing:
            yield part
        if not ongoing:
            return
        offset, sequence = part.end, part.sequence


def lies_beyond(fd: int, offset: int, sequence: int) -> bool:
    """Whether a good record of the same writer stands somewhere after `offset`: then the middle is damaged, not the end.

    Looks for heads by their type and the upper half of their sequence number, and holds what it finds to the checksum.
    """
    data = os.pread(fd, os.fstat(fd).st_size - offset, offset)
    upper = re.escape((sequence >> 32).to_bytes(4, "little"))
    for match in re.finditer(rb"(?=[\x01-\x04].{4}" + upper + rb")", data, re.DOTALL):
        at = match.start() - _SUMMED_FROM
        if at <= 0:
            continue
        length, checksum, _, number = HEADER.unpack_from(data, at) if at + HEADER.size <= len(data) else (0, 0, 0, 0)
        end = at + HEADER.size + length
        if not 0 < length <= MAX_PAYLOAD or end > len(data) or not sequence <= number <= sequence + len(data):
            continue
        if google_crc32c.value(data[at + _SUMMED_FROM : end]) == checksum:
            return True
    return False
