# SPDX-License-Identifier: Apache-2.0
"""What one worker decides alone while the centre is away: its part of each rate, limit ÷ workers last seen.

In: the limits, what the centre last said was used, asks. Out: yes, or the limit that this part of it has reached.
What was used before the centre went away is shared out too, so that the part does not begin empty.
"""

from collections import deque

from beffroi.gateway.quota.fleet.wire import Rule, Window
from beffroi.gateway.quota.terms import Ask

SLOTS = 60


class _Part:
    __slots__ = ("cells", "most", "total", "window")

    def __init__(self, window: Window, most: int, before: int, now_ms: int) -> None:
        self.window, self.most, self.total = window, most, before
        self.cells: deque[list[int]] = deque([[now_ms, before]] if before else [])

    def used(self, now_ms: int) -> int:
        cells = self.cells
        while cells and cells[0][0] <= now_ms - self.window.length_ms:
            self.total -= cells.popleft()[1]
        return self.total

    def add(self, now_ms: int, amount: int) -> None:
        width = self.window.length_ms // SLOTS
        if self.cells and now_ms - self.cells[-1][0] < width:
            # The whole cell leaves with its youngest part: never too early.
            self.cells[-1][1] += amount
        else:
            self.cells.append([now_ms + width, amount])
        self.total += amount

    def wait_ms(self, now_ms: int, over: int) -> int:
        for at, amount in self.cells:
            over -= amount
            if over <= 0:
                return max(1, at + self.window.length_ms - now_ms)
        return self.window.length_ms


class LocalShare:
    """One scope's part of one worker, from the moment it first had to decide alone."""

    __slots__ = ("_parts", "running")

    def __init__(self, rule: Rule, sums: dict[str, int], age_ms: int, workers: int, now_ms: int) -> None:
        self._parts = []
        for window, limit in rule.windows:
            left = max(0.0, 1.0 - age_ms / window.length_ms)
            before = int(min(limit, sums.get(window.code, 0)) * left) // workers
            self._parts.append(_Part(window, min(limit, max(1, limit // workers)), before, now_ms))
        most = rule.limits.concurrency
        self.running = None if most is None else min(most, max(1, most // workers))

    def refuses(self, ask: Ask, now_ms: int) -> list[tuple[str, int, int, int, int, int]]:
        """The limits that are reached, as the centre says it."""
        amounts = (1, ask.tokens, ask.tokens - ask.output, ask.output)
        no = []
        for part in self._parts:
            need, used = amounts[part.window.quantity], part.used(now_ms)
            if need and used + need > part.most:
                wait = part.wait_ms(now_ms, used + need - part.most)
                no.append((part.window.code, used, 0, need, part.most, wait))
        return no

    def use(self, quantity: int, amount: int, now_ms: int) -> None:
        """Count what was admitted, or (with an amount below nothing) was not used after all."""
        for part in self._parts:
            if part.window.quantity == quantity:
                part.add(now_ms, amount)
