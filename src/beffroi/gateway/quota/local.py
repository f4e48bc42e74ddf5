# SPDX-License-Identifier: Apache-2.0
"""What one process decides alone while a key's shared counters cannot be reached: its share of the rates.

In: keys and asks. Out: tickets marked `local`. The same arithmetic as the shared file, over private memory.
The failure matrix: rates and concurrency open at limit ÷ workers (at least one), soft budget open, hard budget closed.
"""

import msgspec

from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota.layout import COLUMN_WORDS, PAGE_WORDS, RUNNING, WORD
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import NO_TICKET, Ask, Plan, Ticket, limited, plan_of
from beffroi.gateway.quota.timebase import Timebase

KEYS = 1024


class LocalLimits:
    """Private counters for up to `KEYS` keys; a key with nothing in progress makes room for another."""

    def __init__(self, time: Timebase, workers: int) -> None:
        self._time = time
        self._workers = workers
        self._tables: dict[int, Table] = {}

    def reserve(self, key: KeyRecord, ask: Ask) -> Ticket:
        """Admit within this process's share.

        Raises:
            CountersUnavailable: the key has a hard budget, or too many keys are decided here.
            LimitExceeded: the share is used up.
        """
        if key.limits.hard_budget is not None:
            raise CountersUnavailable("the counters of this key's budget cannot be reached; try again", retry_after=1.0)
        if not limited(key.limits):
            return NO_TICKET
        plan = plan_of(msgspec.structs.replace(key, limits=self._share(key.limits)), 0, PAGE_WORDS)
        ticket = self._table(key.slot).take(plan, ask)
        ticket.local = True
        return ticket

    def settle(self, plan: Plan, ticket: Ticket, tokens: int, output: int) -> None:
        """Put what was used in the place of what was held here."""
        table = self._tables.get(plan.key.slot)
        if table is not None:
            table.give(plan, ticket, tokens, output, 0)

    def _share(self, limits: Limits) -> Limits:
        def part(limit: int | None) -> int | None:
            return None if limit is None else min(limit, max(1, limit // self._workers))

        return Limits(
            requests_per_minute=part(limits.requests_per_minute),
            tokens_per_minute=part(limits.tokens_per_minute),
            output_tokens_per_hour=part(limits.output_tokens_per_hour),
            output_tokens_per_day=part(limits.output_tokens_per_day),
            concurrency=part(limits.concurrency),
            budget_period=limits.budget_period,
        )

    def _table(self, slot: int) -> Table:
        table = self._tables.get(slot)
        if table is None:
            if len(self._tables) >= KEYS:
                idle = next((each for each, other in self._tables.items() if other.words[RUNNING] == 0), None)
                if idle is None:
                    raise CountersUnavailable("the counters cannot be reached; try again", retry_after=1.0)
                del self._tables[idle]
            memory = bytearray((PAGE_WORDS + COLUMN_WORDS) * WORD)
            table = self._tables[slot] = Table(memoryview(memory).cast("q"), memory, self._time)
        return table
