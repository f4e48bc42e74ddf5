# SPDX-License-Identifier: Apache-2.0
"""Journal records: what the gateway writes and control reads, and their framing (decision D19).

    length u32 · CRC-32C u32 · type u8 · sequence u64 · msgpack payload          (little endian)

`length` is the payload's; the checksum covers type, sequence and payload. A zero length marks space not written yet.
In: structs. Out: bytes, and structs again. An exchange has one `Intent` per attempt and one `Settlement` per intent,
matched by request id and attempt; a request refused for a known key has a `Settlement` alone (attempt 0).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import google_crc32c
import msgspec

from beffroi.core.kernel import KERNEL
from beffroi.core.price import NO_COST, Cost, Tokens

INTENT, PROGRESS, SETTLEMENT, REFUSALS = 1, 2, 3, 4
HEADER = struct.Struct("<IIBQ")
_SUMMED = struct.Struct("<BQ")
MAX_PAYLOAD = 64 << 10


class Intent(msgspec.Struct, array_like=True, gc=False):
    """Written before a byte of the request goes to an engine. Times are Unix nanoseconds."""

    request_id: str
    attempt: int
    at_ns: int
    key_id: str
    key_slot: int
    organisation: str
    project: str
    model: str
    endpoint: str
    engine: str
    price_version: str
    input_estimate: int
    currency: str = "EUR"
    system: str = ""
    end_user: str | None = None


class Progress(msgspec.Struct, array_like=True, gc=False):
    """Once a second while a stream runs: what has been relayed so far, priced, in case this process dies."""

    request_id: str
    attempt: int
    at_ns: int
    tokens: Tokens
    cost: Cost


class Settlement(msgspec.Struct, array_like=True, gc=False):
    """The wide event: all that is worth knowing of an exchange, and its bill.

    Attributes:
        outcome: complete, client_gone, engine_gone, engine_timeout, engine_refused, refused, drained, journal_failed.
        source: where the token counts come from: engine, relayed (counted as they passed), none, recovered.
        attempts: how many engines were tried; this record settles attempt `attempt`.
        first_us: microseconds to the first byte of the answer; total_us: to its end.
        verdict: allow, annotate or block; `findings` names what the guard saw.
    """

    request_id: str
    attempt: int
    started_ns: int
    ended_ns: int
    key_id: str
    key_slot: int
    organisation: str
    project: str
    model: str
    endpoint: str
    stream: bool
    engine: str
    engine_kind: str
    status: int
    code: str | None
    outcome: str
    source: str
    tokens: Tokens
    price_version: str
    currency: str
    cost: Cost
    attempts: int
    finish_reason: str | None
    verdict: str
    findings: tuple[str, ...]
    bytes_in: int
    bytes_out: int
    first_us: int
    total_us: int
    address: str
    user: str | None = None
    system: str = ""


class Refusals(msgspec.Struct, array_like=True, gc=False):
    """Refusals without a valid key, counted per second, reason and address prefix (decision D21)."""

    at_s: int
    counts: dict[str, int]  # "reason prefix" → how many


Payload = Intent | Progress | Settlement | Refusals
TYPES: dict[int, type[Payload]] = {INTENT: Intent, PROGRESS: Progress, SETTLEMENT: Settlement, REFUSALS: Refusals}
NO_TOKENS = Tokens()
__all__ = ["NO_COST", "NO_TOKENS", "Cost", "Intent", "Progress", "Refusals", "Settlement", "Tokens"]

_encode = msgspec.msgpack.Encoder().encode
_decoders = {kind: msgspec.msgpack.Decoder(cls) for kind, cls in TYPES.items()}


class Record(NamedTuple):
    """One record as read back: its place in the file, and the place after it."""

    kind: int
    sequence: int
    payload: bytes
    start: int
    end: int


class Corrupt(ValueError):
    """A record whose checksum or length does not hold, at `offset` of its file."""

    def __init__(self, why: str, offset: int) -> None:
        super().__init__(f"{why} at byte {offset}")
        self.offset = offset


def frame(kind: int, sequence: int, payload: Payload) -> bytes:
    """One record, ready to write."""
    return reframe(kind, sequence, _encode(payload))


def frame_slowly(kind: int, sequence: int, body: bytes) -> bytes:
    """The twin of the kernel's `frame_record`."""
    return HEADER.pack(len(body), google_crc32c.value(_SUMMED.pack(kind, sequence) + body), kind, sequence) + body


reframe = KERNEL.frame_record if KERNEL else frame_slowly
"""A record of a payload that is encoded already: kind, sequence, payload."""


def is_attempt(record: bytes) -> bool:
    """Whether a framed settlement answers an intent (attempt 1 or more), rather than standing alone (attempt 0)."""
    payload = _decoders[SETTLEMENT].decode(record[HEADER.size :])
    return isinstance(payload, Settlement) and payload.attempt > 0


def scan(data: bytes | memoryview, start: int = 0) -> Iterator[Record]:
    """Records from `start` to the first space not written.

    Raises:
        Corrupt: a record that is cut or damaged. What follows it is not trusted.
    """
    size, at = len(data), start
    while at + HEADER.size <= size:
        length, checksum, kind, sequence = HEADER.unpack_from(data, at)
        if length == 0:
            return
        begin, end = at + HEADER.size, at + HEADER.size + length
        if length > MAX_PAYLOAD or end > size:
            raise Corrupt("a record runs past the end", at)
        body = bytes(data[begin:end])
        if google_crc32c.value(_SUMMED.pack(kind, sequence) + body) != checksum:
            raise Corrupt("a checksum does not hold", at)
        yield Record(kind, sequence, body, at, end)
        at = end


def decode(record: Record) -> Payload:
    """The struct of a record.

    Raises:
        msgspec.MsgspecError: the payload is of another shape (a newer release wrote it).
        KeyError: an unknown type.
    """
    return _decoders[record.kind].decode(record.payload)
