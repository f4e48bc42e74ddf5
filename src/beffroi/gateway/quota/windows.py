# SPDX-License-Identifier: Apache-2.0
"""The windows that limits may have: their names and units, and where a region keeps each.

In: limits, words of a region. Out: what a limit counts and how much of it has been used.
"""

import math
from typing import NamedTuple

from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.layout import (
    DAY_TICKS,
    EXTENDED,
    HOUR_TICKS,
    INPUT,
    OUTPUT,
    REQUESTS,
    SPAN,
    TICK_NS,
    TOKENS,
)
from beffroi.gateway.quota.layout import WINDOWS as PLAIN

OF_REQUESTS, OF_TOKENS, OF_OUTPUT, OF_INPUT = range(4)
_COUNTS = {REQUESTS: OF_REQUESTS, TOKENS: OF_TOKENS, OUTPUT: OF_OUTPUT, INPUT: OF_INPUT}
_UNITS = ("requests", "tokens", "output tokens", "input tokens")
_SPANS = {1: "minute", HOUR_TICKS: "hour", DAY_TICKS: "day"}
WANTED = 8  # bits of MASK from here on: the window is needed by a limit of this end user
MONEY_BIT = 1 << (WANTED + 10)
CAP_BIT = 1 << (WANTED + 11)


class Window(NamedTuple):
    """One window.

    Attributes:
        name: of the limit; counts: OF_REQUESTS, …; reset: seconds until all of it is whole again if nothing more comes.
        bit: in MASK, of one that is kept on demand; 0: always kept.
    """

    name: str
    counts: int
    ring: int
    total: int
    floor: int
    ratio: int
    bit: int
    reset: int

    @property
    def unit(self) -> str:
        """What is counted, in words."""
        return _UNITS[self.counts]

    @property
    def span(self) -> str:
        """minute, hour or day."""
        return _SPANS[self.ratio]


def _window(ring: int, total: int, floor: int, ratio: int, bit: int) -> Window:
    counts = _COUNTS[total]
    name = f"{_UNITS[counts].replace(' ', '_')}_per_{_SPANS[ratio]}"
    return Window(name, counts, ring, total, floor, ratio, bit, math.ceil((SPAN + 1) * ratio * TICK_NS / 1e9))


WINDOWS = tuple(_window(*plain, 0) for plain in PLAIN) + tuple(
    _window(each.ring, each.total, each.floor, each.ratio, each.bit) for each in EXTENDED
)
REQUESTS_RESET = WINDOWS[0].reset


def limits_of(limits: Limits) -> tuple[int | None, ...]:
    """The limits on windows, in the order of `WINDOWS`."""
    return (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.output_tokens_per_hour,
        limits.output_tokens_per_day,
        limits.requests_per_hour,
        limits.requests_per_day,
        limits.input_tokens_per_minute,
        limits.input_tokens_per_hour,
        limits.input_tokens_per_day,
        limits.output_tokens_per_minute,
    )


def total_of(words: "memoryview[int]", base: int, total: int) -> int:
    """A running total; that of the input is what the tokens are more than the output."""
    if total == INPUT:
        return words[base + TOKENS] - words[base + OUTPUT]
    return words[base + total]
