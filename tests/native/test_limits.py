# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of limits, with the kernel and without: the same tickets and refusals, the same words in the file."""

import random
from pathlib import Path
from typing import Any

import pytest

from beffroi.core.errors import BeffroiError
from beffroi.core.kernel import Kernel
from beffroi.gateway.quota import Ask, MappedCounters, Used
from tests.gateway.quota.support import DAY, HOUR, MINUTE, SECOND, HandClock, counters, key
from tests.native.conftest import CASES, Without

LIMITED = (
    key(3, requests_per_minute=12, tokens_per_minute=100, output_tokens_per_hour=150, output_tokens_per_day=300, concurrency=5, hard_budget=1000, soft_budget=700),
    key(4, requests_per_minute=1000, hard_budget=1 << 62),
    key(5, concurrency=2),
    key(300, tokens_per_minute=1 << 61, soft_budget=1 << 55, budget_period="total"),
)  # fmt: skip


def said(counters_: MappedCounters, record: Any, ask: Ask) -> Any:
    """A ticket, or why there is none."""
    try:
        return counters_.reserve(record, "m", None, ask)
    except BeffroiError as why:
        return why.code, why.message, why.retry_after


def seen(ticket: Any) -> Any:
    """What can be compared of either."""
    return ticket if isinstance(ticket, tuple) else (ticket.tick, ticket.tokens, ticket.output, ticket.bound, ticket.estimate, ticket.remaining)  # fmt: skip


def test_hours_of_use_leave_the_same_words(kernel: Kernel, without: Without, tmp_path: Path) -> None:
    """Random asks and settlements over random times, on two files whose every word is compared."""
    clock, other_clock = HandClock(), HandClock()
    one = counters(tmp_path / "one", clock, boot=(1, 2))
    other = counters(tmp_path / "other", other_clock, boot=(1, 2))
    rng, open_, refused = random.Random(5), [], 0
    for step in range(CASES):
        record = rng.choice(LIMITED)
        if open_ and rng.random() < 0.5:
            mine, theirs = open_.pop(rng.randrange(len(open_)))
            used = Used(rng.choice((0, 5, 30, 90, 1 << 45)), rng.choice((0, 3, 40)), rng.choice((0, 1, 77, 1 << 60)))
            one.settle(mine, used)
            with without():
                other.settle(theirs, used)
        else:
            ask = Ask(
                rng.choice((0, 7, 30, 1 << 50)), rng.choice((0, 5, 20)), rng.choice((0, 10, 300)), rng.choice((0, 9))
            )
            mine = said(one, record, ask)
            with without():
                theirs = said(other, record, ask)
            assert seen(mine) == seen(theirs), step
            refused += isinstance(mine, tuple)
            if not isinstance(mine, tuple):
                open_.append((mine, theirs))
        if rng.random() < 0.3:
            passed = rng.choice((SECOND // 3, SECOND, 20 * SECOND, MINUTE, HOUR, DAY))
            clock.pass_(passed)
            other_clock.pass_(passed)
        if step % 50 == 0:
            assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes(), step
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert CASES // 10 < refused < CASES * 9 // 10
    one.close()
    other.close()


def test_no_word_outside_the_mapping_is_touched(kernel: Kernel) -> None:
    """Whatever indexes it is told."""
    words = bytearray(8 * 64)
    parts = (1, 40, *(1 << 62,) * 7)
    for spent, column in ((0, 40), (-1, 40), (53, 40), (1 << 60, 40), (1, 62), (1, -1), (1, 1 << 62)):
        with pytest.raises(IndexError):
            kernel.take_words(words, spent, column, parts, 1, 1, 1, 1)
        with pytest.raises(IndexError):
            kernel.give_words(words, spent, column, False, 1, 1, 1, 1, 1)
    assert words == bytes(len(words))
    assert kernel.take_words(words, 1, 61, parts, 1, 2, 3, 4) == (1 << 62) - 1
    assert kernel.give_words(words, 1, 61, False, 0, 0, 3, 4, 0)
    with pytest.raises(BufferError):
        kernel.take_words(bytes(words), 1, 40, parts, 1, 1, 1, 1)
    assert kernel.take_words(words, 1, 40, parts, -1, 1, 1, 1) is None
    assert kernel.take_words(words, 1, 40, parts, 1 << 61, 1, 1, 1) is None
    assert kernel.take_words(words, 1, 40, (1, 40, 0, *parts[3:]), 1, 1, 1, 1) is None
    assert not kernel.give_words(words, 1, 40, True, -1, 0, 0, 0, 0)
    for wrong in ((1, 40, *("x",) * 7), (1, 40), [1] * 9):
        odd: Any = wrong
        with pytest.raises(TypeError):
            kernel.take_words(words, 1, 40, odd, 1, 1, 1, 1)
    words[:] = b"\xff" * 7 + b"\x7f" + bytes(len(words) - 8)  # the largest number, in a word that is not looked at
    assert kernel.take_words(words, 1, 40, parts, 1, 1, 1, 1) is not None
    words[8:16] = b"\xff" * 7 + b"\x7f"
    assert kernel.take_words(words, 1, 40, parts, 1, 1, 1, 1) is None
    assert not kernel.give_words(words, 1, 40, False, 1, 1, 1, 1, 1)
