# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of limits over mapped words. No locks, no files: whoever calls holds the slot's lock.

In: a plan, what a request asks, what it used. Out: a ticket, or the refusal that names the limit.
A window is a running total and a ring of what that total was at the start of each slot: its sum is one subtraction,
and an admission is one store per total, which cannot be half done. Order of stores: columns before sums when taking,
money spent before sums before columns when giving back, so that a killed process leaves at worst a column to clear.
"""

from array import array
from mmap import mmap

from beffroi.core.kernel import KERNEL
from beffroi.gateway.quota import layout
from beffroi.gateway.quota.calendar import KIND_SHIFT, MONTH
from beffroi.gateway.quota.layout import (
    ALL_FIELDS,
    BOUND,
    COLUMN_FIELDS,
    DAY_TICKS,
    ESTIMATE,
    EXTENDED,
    HOUR_TICKS,
    INPUT,
    MASK,
    MONTH_SPENT,
    ORPHAN_BOUND,
    ORPHAN_ESTIMATE,
    ORPHAN_UNTIL,
    OUTPUT,
    PERIOD,
    REQUESTS,
    RING,
    RING_DAY,
    RING_HOUR,
    RING_TOKENS,
    RUNNING,
    SPAN,
    SPENT,
    TICK,
    TICK_NS,
    TICKET_FIELDS,
    TOKENS,
    WINDOWS,
    WORD,
)
from beffroi.gateway.quota.layout import MONTH as MONTH_WORD
from beffroi.gateway.quota.refusal import refusal
from beffroi.gateway.quota.terms import Ask, Plan, Ticket
from beffroi.gateway.quota.timebase import Timebase
from beffroi.gateway.quota.windows import Window, total_of

take_words = KERNEL.take_words if KERNEL else None
give_words = KERNEL.give_words if KERNEL else None
_fields = TICKET_FIELDS.unpack_from
_all = ALL_FIELDS.unpack_from
_column = COLUMN_FIELDS.unpack_from


class Table:
    """Regions and columns in one mapping, which its owner replaces when it grows (`words`, `buffer`)."""

    __slots__ = ("_mono", "_offset", "buffer", "time", "words")

    def __init__(self, words: "memoryview[int]", buffer: mmap | bytearray, time: Timebase) -> None:
        self.words = words
        self.buffer = buffer
        self.time = time
        self._mono = time.mono
        self._offset = time.offset

    def take(self, plan: Plan, ask: Ask) -> Ticket:
        """Admit a request under every limit of a plain plan, or under none; `several.take_all` does it for all others.

        Raises:
            LimitExceeded, BudgetExceeded: nothing was changed.
        """
        parts, words = plan.parts, self.words
        base, column = parts[0], parts[1]
        tick = (self._mono() + self._offset) // TICK_NS
        if words[base] != tick:
            tick = self.advance(base, plan.kind, tick)
        if take_words is not None:
            left = take_words(self.buffer, base + SPENT, column, parts, ask.tokens, ask.output, ask.bound, ask.estimate)
            if left is not None:
                return Ticket(plan, tick, ask.tokens, ask.output, ask.bound, ask.estimate, left)
        base, column, requests_max, tokens_max, hour_max, day_max, running_max, hard, soft = parts
        fields = _fields(self.buffer, (base + SPENT) * WORD)
        spent, requests, tokens, output, floor_r, floor_t, floor_h, floor_d, bound, estimate, running = fields
        requests += 1
        tokens += ask.tokens
        output += ask.output
        bound += ask.bound
        estimate += ask.estimate
        running += 1
        remaining = requests_max + floor_r - requests
        if (
            remaining < 0
            or tokens - floor_t > tokens_max
            or output - floor_h > hour_max
            or output - floor_d > day_max
            or running > running_max
            or spent + bound > hard
            or spent + estimate > soft
        ):
            raise refusal(words, base, plan, ask, tick, self.time)
        own_bound, own_estimate, own_running = _column(self.buffer, column * WORD)
        words[column] = own_bound + ask.bound
        words[column + 1] = own_estimate + ask.estimate
        words[column + 2] = own_running + 1
        words[base + BOUND] = bound
        words[base + ESTIMATE] = estimate
        words[base + RUNNING] = running
        words[base + REQUESTS] = requests
        words[base + TOKENS] = tokens
        words[base + OUTPUT] = output
        return Ticket(plan, tick, ask.tokens, ask.output, ask.bound, ask.estimate, remaining)

    def give(self, plan: Plan, ticket: Ticket, tokens: int, output: int, cost: int) -> None:
        """Settle: what was used takes the place of what was held."""
        parts = plan.parts
        base, column = parts[0], parts[1]
        words = self.words
        tick = (self._mono() + self._offset) // TICK_NS
        if words[base] != tick:
            tick = self.advance(base, plan.kind, tick)
        if give_words is not None and give_words(
            self.buffer, base + SPENT, column, ticket.tick != tick, tokens - ticket.tokens, output - ticket.output, ticket.bound,
            ticket.estimate, cost,
        ):  # fmt: skip
            return
        fields = _all(self.buffer, (base + MONTH_SPENT) * WORD)
        month, spent, _, all_tokens, all_output, _, _, _, _, bound, estimate, running, mask = fields
        own_bound, own_estimate, own_running = _column(self.buffer, column * WORD)
        words[base + SPENT] = spent + cost
        words[base + MONTH_SPENT] = month + cost
        words[base + BOUND] = bound - ticket.bound
        words[base + ESTIMATE] = estimate - ticket.estimate
        words[base + RUNNING] = running - 1
        words[column] = own_bound - ticket.bound
        words[column + 1] = own_estimate - ticket.estimate
        words[column + 2] = own_running - 1
        tokens -= ticket.tokens
        output -= ticket.output
        moved = ticket.tick != tick
        if mask and moved:
            self._lower_extended(base, mask, ticket.tick, tick, output, tokens - output)
        # The input is the difference of the two: in this order it never looks smaller than it is.
        if output < 0:
            self._add_output(base, ticket.tick, tick, all_output, output)
        if tokens:
            # More than the estimate counts from now; less is taken back from the slot in which it was admitted.
            if tokens < 0 and moved:
                self._lower(base + RING_TOKENS, ticket.tick, tick, tokens)
                self._set_floors(base, tick)
            words[base + TOKENS] = all_tokens + tokens
        if output > 0:
            words[base + OUTPUT] = all_output + output

    def _add_output(self, base: int, since: int, tick: int, total: int, output: int) -> None:
        if since != tick:
            self._lower(base + RING_HOUR, since // HOUR_TICKS, tick // HOUR_TICKS, output)
            self._lower(base + RING_DAY, since // DAY_TICKS, tick // DAY_TICKS, output)
            self._set_floors(base, tick)
        self.words[base + OUTPUT] = total + output

    def _lower_extended(self, base: int, mask: int, since: int, tick: int, output: int, of_input: int) -> None:
        """What was estimated too high leaves the windows that are kept on demand, before it leaves the totals."""
        words = self.words
        for bit, ring, total, floor, ratio in EXTENDED:
            by = output if total == OUTPUT else of_input if total == INPUT else 0
            if mask & bit and by < 0:
                self._lower(base + ring, since // ratio, tick // ratio, by)
                words[base + floor] = words[base + ring + (tick // ratio + 1) % RING]

    def _lower(self, ring: int, since: int, slot: int, by: int) -> None:
        """Take `by` (negative) out of every remembered total that the admission in slot `since` had raised."""
        words = self.words
        for at in range(max(since, slot - RING) + 1, slot + 1):
            words[ring + at % RING] += by

    def _set_floors(self, base: int, tick: int) -> None:
        words = self.words
        for ring, _, floor, ratio in WINDOWS:
            words[base + floor] = words[base + ring + (tick // ratio + 1) % RING]

    def advance(self, base: int, kind: int, tick: int) -> int:
        """Bring a region to a tick and return the tick that it stands at. Done twice, it changes nothing more."""
        words = self.words
        before = words[base + TICK]
        if before > tick:
            if before - tick <= RING:
                return before  # another process read the clock a moment later than we did
            before = tick - RING * DAY_TICKS  # no clock of ours says so: the windows start anew
        for ring, total, floor, ratio in WINDOWS:
            if tick // ratio != before // ratio:
                self._slide(base, ring, floor, tick // ratio, before // ratio, words[base + total])
        mask = words[base + MASK]
        if mask:
            for bit, ring, total, floor, ratio in EXTENDED:
                if mask & bit and tick // ratio != before // ratio:
                    self._slide(base, ring, floor, tick // ratio, before // ratio, total_of(words, base, total))
        self.turn(base, kind, tick)
        until = words[base + ORPHAN_UNTIL]
        if until and tick >= until:
            words[base + ORPHAN_BOUND] = words[base + ORPHAN_ESTIMATE] = 0
            self.sum_up(base)
            words[base + ORPHAN_UNTIL] = 0
        words[base + TICK] = tick
        self.time.look(tick)
        return tick

    def _slide(self, base: int, ring: int, floor: int, last: int, before: int, value: int) -> None:
        """Bring one window to its slot `last`."""
        words = self.words
        fresh = min(last - before, RING)
        if fresh == 1:
            words[base + ring + last % RING] = value
        else:
            self._fill(base + ring, (last - fresh + 1) % RING, fresh, value)
        words[base + floor] = words[base + ring + (last + 1) % RING]

    def extend(self, base: int, mask: int) -> None:
        """Keep more windows from now on; each begins empty. Its pages have disk space already."""
        words = self.words
        missing = mask & ~words[base + MASK]
        for bit, ring, total, floor, _ in EXTENDED:
            if missing & bit:
                value = total_of(words, base, total)
                self._fill(base + ring, 0, RING, value)
                words[base + floor] = value
        words[base + MASK] |= missing

    def _fill(self, ring: int, first: int, count: int, value: int) -> None:
        words = self.words
        cells = array("q", (value,)) * count
        room = min(count, RING - first)
        words[ring + first : ring + first + room] = memoryview(cells)[:room]
        if room < count:
            words[ring : ring + count - room] = memoryview(cells)[room:]

    def turn(self, base: int, kind: int, tick: int) -> None:
        """Open the money periods of a tick. Going back (a clock set right) renames the period and forgives nothing."""
        words = self.words
        number = self.time.period(kind, tick).number
        known = words[base + PERIOD]
        if known != number:
            if known >> KIND_SHIFT != kind or known < number:
                words[base + SPENT] = 0
            words[base + PERIOD] = number
        month = number if kind == MONTH else self.time.period(MONTH, tick).number
        known = words[base + MONTH_WORD]
        if known != month:
            if known < month:
                words[base + MONTH_SPENT] = 0
            words[base + MONTH_WORD] = month

    def kind(self, base: int) -> int:
        """The kind of period a region was last used with."""
        return (self.words[base + PERIOD] >> KIND_SHIFT) or MONTH

    def window(self, base: int, window: Window, tick: int) -> int:
        """The sum of one window at a tick, read without the lock or any store."""
        words = self.words
        if window.bit and not words[base + MASK] & window.bit:
            return 0
        oldest = tick // window.ratio - SPAN
        stands = words[base + TICK] // window.ratio
        value = total_of(words, base, window.total)
        if oldest > stands:
            return 0
        return max(0, value - words[base + window.ring + oldest % RING])

    def sum_up(self, base: int) -> None:
        """Set the sums of what is held from the columns and orphans: right whatever a dead process left half done."""
        words, columns = self.words, layout.columns_at(base)
        bound, estimate, running = (sum(words[start:end:step].tolist()) for start, end, step in columns)
        words[base + BOUND] = bound + words[base + ORPHAN_BOUND]
        words[base + ESTIMATE] = estimate + words[base + ORPHAN_ESTIMATE]
        words[base + RUNNING] = running
