# SPDX-License-Identifier: Apache-2.0
"""What control and workers say to each other over `bus.sock`: length u32 (little endian), then one msgpack message.

In: structs. Out: frames, and structs again. A worker opens with `Hello` and says `Ack` whenever its revisions change;
control sends what is missing. Nothing here waits or reads: the two ends are `gateway.link` and `control.bus`.
"""

import struct
from typing import Any

import msgspec

from beffroi.core.snapshot import KeyDelta

HEADER = struct.Struct("<I")
MAX_FRAME = 16 << 20


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A worker's first message: who it is and what it holds."""

    worker: int
    pid: int
    boot: str
    config_revision: int
    key_revision: int


class Ack(msgspec.Struct, frozen=True, tag=True):
    """A worker's revisions after a change: requests that arrive from now on see them."""

    config_revision: int
    key_revision: int


class Metrics(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Pull`: `body` is a `telemetry.metrics.WorkerMetrics` in msgpack, which this module need not know."""

    request: int
    body: msgspec.Raw


class CutDone(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Cut`: how many exchanges were cut."""

    request: int
    count: int


class Fault(msgspec.Struct, frozen=True, tag=True):
    """A worker could not take over a change, and goes on with what it had."""

    reason: str


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Read the named parts again from the data directory."""

    config: bool = False
    keys: bool = False


class Delta(msgspec.Struct, frozen=True, tag=True):
    """One change of the key table; it is on disk already."""

    delta: KeyDelta


class Pull(msgspec.Struct, frozen=True, tag=True):
    """Send `Metrics` under this number."""

    request: int


class Cut(msgspec.Struct, frozen=True, tag=True):
    """Cut the open exchanges of a key and send `CutDone` under this number."""

    request: int
    key_id: str


ToControl = Hello | Ack | Metrics | CutDone | Fault
ToWorker = Reload | Delta | Pull | Cut

_encode = msgspec.msgpack.Encoder().encode
to_control: msgspec.msgpack.Decoder[ToControl] = msgspec.msgpack.Decoder(ToControl)
to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


class BadFrame(ValueError):
    """The other end does not speak this protocol; the connection is of no use any more."""


def frame(message: ToControl | ToWorker) -> bytes:
    """A message, ready to write.

    Raises:
        BadFrame: it is larger than a frame may be.
    """
    body = _encode(message)
    if len(body) > MAX_FRAME:
        raise BadFrame(f"a message of {len(body)} bytes")
    return HEADER.pack(len(body)) + body


def length(header: bytes) -> int:
    """Bytes that follow a frame's header.

    Raises:
        BadFrame: more than a frame may have.
    """
    size: int = HEADER.unpack(header)[0]
    if size > MAX_FRAME:
        raise BadFrame(f"a frame of {size} bytes")
    return size


def decode(decoder: msgspec.msgpack.Decoder[Any], body: bytes) -> Any:
    """One message.

    Raises:
        BadFrame: it is none that this end understands.
    """
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise BadFrame(str(error)) from None
