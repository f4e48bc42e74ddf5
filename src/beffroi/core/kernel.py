# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel, where it was built: leaves of the hot path in C, each with a twin in Python (folder `native/`).

In: `beffroi._native`, and BEFFROI_NATIVE=0 where it shall not be used. Out: `KERNEL`, or None: then the twins do all.
A function of it that answers None has not recognised its input as plain; its twin then reads the same bytes.
"""

import importlib
import os
from typing import Protocol, cast

INTERFACE = 1  # that of native/module.c: a build of other sources is left alone


class Kernel(Protocol):
    """What is compiled. All arguments that are bytes must be `bytes`."""

    INTERFACE: int
    CHAT_FIELDS: tuple[str, ...]

    def read_request(
        self, data: bytes, max_head: int, max_headers: int, max_target: int, max_body: int, /
    ) -> tuple[bytes, bytes | None, bytes, bytes] | None:
        """One whole POST with a length and nothing behind it: target, Authorization, Content-Type, body."""
        ...

    def read_answer(self, data: bytes, /) -> tuple[bytes, bytes] | None:
        """One whole answer of status 200 that leaves its connection open: media type, body without framing."""
        ...

    def plain_head(
        self, status: int, reason: bytes, kind: bytes, length: int, request_id: str, extra: bytes, body: bytes, /
    ) -> bytes:
        """As `wire.http.plain_head`, with the body behind it."""
        ...

    def glance_chat(
        self, body: bytes, max_depth: int, /
    ) -> tuple[str, bool, bool, int, int | None, str | None, tuple[str, ...]] | None:
        """A plain chat request: model, stream, whether usage was asked for, n, bound, user, names of its fields."""
        ...

    def edit_answer(
        self, body: bytes, answer_id: bytes, model: bytes, kind: bytes, backend: bytes, /
    ) -> tuple[bytes, int, int, int, int] | None:
        """A plain answer with these fields set (JSON each) and usage that adds up; prompt, cached, completion, reasoning."""
        ...

    def regular_events(
        self, data: bytes, opening: bytes, ours: bytes, finish: bytes, tools: bytes, /
    ) -> tuple[bytes, int, int]:
        """The events at the beginning of a block that open so and hold neither word: renamed, their number, their bytes."""
        ...

    def frame_record(self, kind: int, sequence: int, payload: bytes, /) -> bytes:
        """As `core.record` frames a payload."""
        ...

    def request_id(self, high: int, low: int, /) -> str:
        """`req_` and two words in hexadecimal."""
        ...


def load() -> Kernel | None:
    """The kernel, if it is there, fits, and is wanted."""
    if os.environ.get("BEFFROI_NATIVE") == "0":
        return None
    try:
        found = cast("Kernel", importlib.import_module("beffroi._native"))
    except ImportError:
        return None
    return found if found.INTERFACE == INTERFACE else None


KERNEL = load()
