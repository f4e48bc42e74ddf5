# SPDX-License-Identifier: Apache-2.0
"""Waits as long as the gateway says when a limit is reached (429), and not at all when waiting cannot help.

In: a call. Out: its result. Make the client with `max_retries=0`: else the SDK's own retries come before these.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

try:
    from openai import RateLimitError
except ImportError:
    raise ImportError("beffroi.client goes with the OpenAI SDK: pip install 'beffroi[client]'") from None

T = TypeVar("T")
_FIRST, _LONGEST = 0.5, 30.0  # seconds, where the gateway does not say


def patiently(call: Callable[[], T], seconds: float = 60.0) -> T:
    """`call()`, again after each 429, waiting `seconds` in all at most.

    Raises:
        openai.RateLimitError: the gateway asks for a longer wait than is left, as it does for a budget that is used up.
    """
    waits = _Waits(seconds)
    while True:
        try:
            return call()
        except RateLimitError as error:
            time.sleep(waits.next(error))


async def patiently_async(call: Callable[[], Awaitable[T]], seconds: float = 60.0) -> T:
    """As `patiently`, for `AsyncOpenAI`."""
    waits = _Waits(seconds)
    while True:
        try:
            return await call()
        except RateLimitError as error:
            await asyncio.sleep(waits.next(error))


class _Waits:
    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._count = 0

    def next(self, error: RateLimitError) -> float:
        """Seconds to wait now; raises `error` where they are more than are left."""
        told = error.response.headers.get("retry-after", "")
        wait = float(told) if told.replace(".", "", 1).isdigit() else min(_LONGEST, _FIRST * 2.0**self._count)
        if time.monotonic() + wait > self._until:
            raise error
        self._count += 1
        return wait + random.uniform(0, 0.1)  # noqa: S311 - so that those who were refused together do not come together
