# SPDX-License-Identifier: Apache-2.0
"""Identifiers: UUIDv7 (RFC 9562) with a typed prefix, so that an id says what it names and sorts by time.

In: nothing. Out: text such as `key_0199…` (prefix, underscore, 32 hexadecimal digits).
"""

import os
import time

from beffroi.core.kernel import KERNEL

spell = KERNEL.request_id if KERNEL else lambda high, low: f"req_{high:016x}{low:016x}"


def new_id(prefix: str) -> str:
    """One id, `prefix_` and a UUIDv7 in hexadecimal. For cold paths; the gateway uses `RequestIds`."""
    random = int.from_bytes(os.urandom(10), "big")
    millis = time.time_ns() // 1_000_000
    high = (millis << 16) | 0x7000 | (random >> 68)
    low = (random & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
    return f"{prefix}_{high:016x}{low:016x}"


class RequestIds:
    """Ids of one process, cheap to make: random per process, counted inside it.

    The 62 random bits of a UUIDv7 hold 38 bits drawn at start and a 24-bit counter that carries into `rand_a`: two
    processes started at the same moment still differ, and one process never repeats itself.
    """

    __slots__ = ("_count", "_random")

    def __init__(self) -> None:
        self._random = 0x8000_0000_0000_0000 | (int.from_bytes(os.urandom(5), "big") >> 2) << 24
        self._count = int.from_bytes(os.urandom(2), "big")

    def next(self, wall_ns: int) -> str:
        """A new `req_…` id for a request that arrived at `wall_ns` (Unix nanoseconds)."""
        count = self._count = self._count + 1
        high = (wall_ns // 1_000_000 << 16) | 0x7000 | (count >> 24 & 0xFFF)
        return spell(high, self._random | count & 0xFFFFFF)
