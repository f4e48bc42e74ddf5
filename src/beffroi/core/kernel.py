# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel, where it was built: leaves of the hot path in C, each with a twin in Python (folder `native/`).

In: `beffroi._native`, and BEFFROI_NATIVE=0 where it shall not be used. Out: `KERNEL`, or None: then the twins do all.
A function of it that answers None has not recognised its input as plain; its twin then reads the same bytes.
"""

import fcntl
import importlib
import os
from typing import Protocol, cast

INTERFACE = 2  # that of native/module.c: a build of other sources is left alone


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
    ) -> tuple[str, bool, bool, int, int | None, str | None, tuple[str, ...], bool] | None:
        """A plain chat request: model, stream, whether usage was asked for, n, bound, user, names of its fields.

        The last: whether its bytes alone show that the guard's structure layer has nothing to look at.
        """
        ...

    def edit_answer(
        self, body: bytes, prefix: bytes, request_id: str, model: bytes, kind: bytes, backend: bytes, /
    ) -> tuple[bytes, int, int, int, int, bool, bool] | None:
        """A plain answer with these fields set and usage that adds up; prompt, cached, completion, reasoning.

        Then whether a choice ends with "stop", and whether thoughts may be among what was said.
        """
        ...

    def regular_events(
        self, data: bytes, opening: bytes, ours: bytes, finish: bytes, tools: bytes, /
    ) -> tuple[bytes, int, int]:
        """The events at the beginning of a block that open so and hold neither word: renamed, their number, their bytes."""
        ...

    def frame_record(self, kind: int, sequence: int, payload: bytes, /) -> bytes:
        """As `core.record` frames a payload."""
        ...

    def lockf_now(self, fd: int, command: int, length: int, start: int, /) -> None:
        """`fcntl.lockf` with LOCK_EX | LOCK_NB or LOCK_UN, from the beginning of the file.

        Raises:
            OSError: another process holds it, or the file cannot be locked.
        """
        ...

    def take_words(
        self,
        buffer: object,
        spent: int,
        column: int,
        parts: tuple[int, ...],
        tokens: int,
        output: int,
        bound: int,
        estimate: int,
        /,
    ) -> int | None:
        """As `quota.table.Table.take` with the region's word SPENT: requests left; None: over a limit, or not plain."""
        ...

    def give_words(
        self,
        buffer: object,
        spent: int,
        column: int,
        moved: bool,
        tokens: int,
        output: int,
        bound: int,
        estimate: int,
        cost: int,
        /,
    ) -> bool:
        """As `quota.table.Table.give`, of differences; False: not plain, and nothing was changed."""
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
lockf = KERNEL.lockf_now if KERNEL else fcntl.lockf
"""A record lock that is tried without waiting, or let go."""
