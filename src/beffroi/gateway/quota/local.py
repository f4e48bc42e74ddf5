# SPDX-License-Identifier: Apache-2.0
"""What one process decides alone while shared counters cannot be reached: its share of the rates.

In: accounts and asks. Out: tickets marked `local`. The same arithmetic as the shared file, over private memory.
The failure matrix: rates and concurrency open at limit ÷ workers (at least one), soft budget open, hard ones closed.
"""

from collections.abc import Iterable

import msgspec

from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.layout import COLUMN_WORDS, REGION_WORDS, RUNNING, WORD
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.several import take_all
from beffroi.gateway.quota.table import Table
from beffroi.gateway.quota.terms import NO_TICKET, Ask, Plan, Ticket, is_hard, limited, plan_of
from beffroi.gateway.quota.timebase import Timebase

ACCOUNTS = 1024
Name = tuple[int, str | None]  # slot, end user


class LocalLimits:
    """Private counters for up to `ACCOUNTS` accounts; one with nothing in progress makes room for another."""

    def __init__(self, time: Timebase, workers: int) -> None:
        self._time = time
        self._workers = workers
        self._tables: dict[Name, Table] = {}

    def reserve(self, accounts: Iterable[Account], ask: Ask) -> Ticket:
        """Admit within this process's share of each account.

        Raises:
            CountersUnavailable: one has a hard budget or a monthly cap, or too many accounts are decided here.
            LimitExceeded: a share is used up.
        """
        plans = []
        for account in accounts:
            if is_hard(account.limits):
                raise CountersUnavailable(
                    f"the counters of a budget {account.of} cannot be reached; try again", retry_after=1.0
                )
            if limited(account.limits):
                mine = msgspec.structs.replace(account, limits=self._share(account.limits))
                plans.append(plan_of(mine, self._table((account.slot, account.end_user)), 0, REGION_WORDS))
        if not plans:
            return NO_TICKET
        ticket = take_all(tuple(plans), ask)
        ticket.local = True
        return ticket

    @staticmethod
    def settle(plan: Plan, ticket: Ticket, tokens: int, output: int) -> None:
        """Put what was used in the place of what was held here."""
        plan.table.give(plan, ticket, tokens, output, 0)

    def _share(self, limits: Limits) -> Limits:
        """A worker's part of every limit; none on money: a hard one never gets here, a soft one is open."""
        parts = {
            name: min(limit, max(1, limit // self._workers))
            for name, limit in msgspec.structs.asdict(limits).items()
            if isinstance(limit, int) and name not in ("hard_budget", "soft_budget", "monthly_cap")
        }
        return Limits(**parts, budget_period=limits.budget_period)

    def _table(self, name: Name) -> Table:
        table = self._tables.get(name)
        if table is None:
            if len(self._tables) >= ACCOUNTS:
                idle = next((each for each, other in self._tables.items() if other.words[RUNNING] == 0), None)
                if idle is None:
                    raise CountersUnavailable("the counters cannot be reached; try again", retry_after=1.0)
                del self._tables[idle]
            memory = bytearray((REGION_WORDS + COLUMN_WORDS) * WORD)
            table = self._tables[name] = Table(memoryview(memory).cast("q"), memory, self._time)
        return table
