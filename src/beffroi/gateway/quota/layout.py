# SPDX-License-Identifier: Apache-2.0
"""Where everything lies in a counters file, in 8-byte words: the only page that knows.

    header page · block 0 · block 1 · …          a block serves BLOCK slots and is
    columns of worker 0 … 63 (4 words per slot) · one region of three pages per slot

`counters.bin` has the slots of keys and quotas. `end-users.bin` is of the same form: in place of the columns of its block 0
stands a directory, a word for each of PLACES, and the places are the slots of the blocks that follow.
The second and third page of a region have disk space only where a limit needs the windows in them (`EXTENDED`).

In: slot and worker numbers. Out: word indexes. Every field is one aligned word, so each store is whole or absent, and
every sequence of stores in this room is ordered so that a process killed between two of them leaves a sound file.
"""

import struct
from typing import NamedTuple

WORD = 8
PAGE_WORDS = 512
HEADER_WORDS = PAGE_WORDS
BLOCK = 256
WORKERS = 64
COLUMN_WORDS = 4
WORKER_WORDS = BLOCK * COLUMN_WORDS
COLUMNS_WORDS = WORKERS * WORKER_WORDS
REGION_WORDS = 3 * PAGE_WORDS
BLOCK_WORDS = COLUMNS_WORDS + BLOCK * REGION_WORDS
MAX_SLOTS = 1 << 22

MAGIC_VALUE = int.from_bytes(b"BFCOUNT2", "little")
OLDER_VALUES = frozenset({int.from_bytes(b"BFCOUNT1", "little")})  # of releases before; set aside at the first start
GEOMETRY_VALUE = BLOCK << 32 | WORKERS << 16 | COLUMN_WORDS

# Header words.
MAGIC, GEOMETRY, OFFSET, DRIFT, LAST, STEP, STEP_SINCE, BOOT_LOW, BOOT_HIGH = range(9)
SEEN = 64  # one word per worker number: it has opened this file

# Region words. TICKET_FIELDS reads SPENT to RUNNING at once, ALL_FIELDS the two around them too: their order is part of
# the format.
(
    TICK,  # the last tick to which the rings were brought
    PERIOD,  # the money period in which SPENT was spent
    MONTH,  # the calendar month in which MONTH_SPENT was spent
    MONTH_SPENT,
    SPENT,
    REQUESTS,  # running totals, never reset; a window's sum is a total less its floor
    TOKENS,
    OUTPUT,
    FLOOR_REQUESTS,  # the totals as they were when each window began
    FLOOR_TOKENS,
    FLOOR_HOUR,
    FLOOR_DAY,
    BOUND,  # sums over the workers' columns, and what orphans hold
    ESTIMATE,
    RUNNING,
    MASK,  # which of EXTENDED are kept
    ORPHAN_BOUND,  # held for dead workers until ORPHAN_UNTIL
    ORPHAN_ESTIMATE,
    ORPHAN_UNTIL,
    READY,  # disk space for this region is allocated
    FLOOR_REQUESTS_HOUR,
    FLOOR_REQUESTS_DAY,
    FLOOR_INPUT_MINUTE,
    FLOOR_INPUT_HOUR,
    FLOOR_INPUT_DAY,
    FLOOR_OUTPUT_MINUTE,
) = range(26)
TICKET_FIELDS = struct.Struct("=11q")
ALL_FIELDS = struct.Struct("=13q")
COLUMN_FIELDS = struct.Struct("=3q")

# Windows: SPAN whole slots and the current one are counted, so no span of the window's length ever admits more than the
# limit, and a limit used to the full is used to SPAN / (SPAN + 1) of it: 99.2 %.
TICK_NS = 500_000_000
SPAN = 120
RING = SPAN + 1
RINGS = 28
RING_REQUESTS, RING_TOKENS, RING_HOUR, RING_DAY = (RINGS + RING * n for n in range(4))
HOUR_TICKS = 60
DAY_TICKS = 1440
# ring, its running total, its floor, ticks per slot
WINDOWS = (
    (RING_REQUESTS, REQUESTS, FLOOR_REQUESTS, 1),
    (RING_TOKENS, TOKENS, FLOOR_TOKENS, 1),
    (RING_HOUR, OUTPUT, FLOOR_HOUR, HOUR_TICKS),
    (RING_DAY, OUTPUT, FLOOR_DAY, DAY_TICKS),
)
INPUT = -1  # in the place of a running total: TOKENS less OUTPUT


class Extended(NamedTuple):
    """A window that is kept only where a limit needs it: its bit in MASK, ring, running total, floor, ticks per slot."""

    bit: int
    ring: int
    total: int
    floor: int
    ratio: int


def _extended(number: int, total: int, floor: int, ratio: int) -> Extended:
    return Extended(1 << number, PAGE_WORDS + number * RING, total, floor, ratio)


EXTENDED = (
    _extended(0, REQUESTS, FLOOR_REQUESTS_HOUR, HOUR_TICKS),
    _extended(1, REQUESTS, FLOOR_REQUESTS_DAY, DAY_TICKS),
    _extended(2, INPUT, FLOOR_INPUT_MINUTE, 1),
    _extended(3, INPUT, FLOOR_INPUT_HOUR, HOUR_TICKS),
    _extended(4, INPUT, FLOOR_INPUT_DAY, DAY_TICKS),
    _extended(5, OUTPUT, FLOOR_OUTPUT_MINUTE, 1),
)

# End users: a set of SET places is where one may stand, and one quota has half of a set at most.
SET = 64
PLACES = COLUMNS_WORDS
FIRST_PLACE = BLOCK  # slot of place 0
MOST_OF_SET = SET // 2


def block_start(block: int) -> int:
    """First word of a block."""
    return HEADER_WORDS + block * BLOCK_WORDS


def region_of(slot: int) -> int:
    """First word of a slot's region."""
    block, index = divmod(slot, BLOCK)
    return block_start(block) + COLUMNS_WORDS + index * REGION_WORDS


def column_of(slot: int, worker: int) -> int:
    """First word of what `worker` holds for a slot: bound, estimate, running."""
    block, index = divmod(slot, BLOCK)
    return block_start(block) + worker * WORKER_WORDS + index * COLUMN_WORDS


def columns_at(base: int) -> tuple[tuple[int, int, int], ...]:
    """For the region at `base`, where its workers' bounds, estimates and runnings lie: start, end, step of each."""
    block, place = divmod(base - HEADER_WORDS, BLOCK_WORDS)
    start = block_start(block)
    first = start + (place - COLUMNS_WORDS) // REGION_WORDS * COLUMN_WORDS
    return tuple((first + field, start + COLUMNS_WORDS, WORKER_WORDS) for field in range(3))


def file_bytes(slot: int) -> int:
    """Length of a file that has room for `slot`."""
    return block_start(slot // BLOCK + 1) * WORD
