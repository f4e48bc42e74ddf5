# SPDX-License-Identifier: Apache-2.0
"""The counters as control uses them: charged, restored, cleared, and shown. `port.Books` over the mapped files.

In: accounts and amounts. Out: counters that agree with the ledger, and what each limit shows now.
"""

from pathlib import Path

from beffroi.core.clock import Clock
from beffroi.gateway.quota.calendar import KINDS, MONTH
from beffroi.gateway.quota.files import Files
from beffroi.gateway.quota.ground import PATIENCE
from beffroi.gateway.quota.layout import MONTH_SPENT, SPENT, WORD
from beffroi.gateway.quota.scopes import Account
from beffroi.gateway.quota.standing import spent_of, usage_of
from beffroi.gateway.quota.terms import MONEY_CAP, LimitUse, Spent

ONLOOKER = -1


class MappedBooks:
    """The counters of one process that admits nothing.

    Args:
        path: the file, made if it is not there.
        clock: wall and monotonic time.
        zone: time zone of the money periods.
        boot: identity of this boot of the machine; None: the system's.

    Raises:
        CountersUnavailable: a file cannot be used.
        ValueError: an unknown zone.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        worker: int = ONLOOKER,
        zone: str = "Europe/Paris",
        boot: tuple[int, int] | None = None,
    ) -> None:
        self._files = Files(path, worker, clock, zone, boot)
        self._time = self._files.time

    def charge(self, account: Account, nano: int, *, at_ns: int | None = None) -> None:
        """See `port.Books`."""
        ground, base = self._files.region(account)
        if base is None:
            return
        table, words = ground.table, ground.table.words
        cost = min(max(nano, 0), MONEY_CAP)
        with ground.file.held(base * WORD, PATIENCE):
            kind = table.kind(base)
            tick = table.advance(base, kind, self._time.tick())
            for word, period in ((SPENT, kind), (MONTH_SPENT, MONTH)):
                if at_ns is None or at_ns >= self._time.period(period, tick).start_ns:
                    words[base + word] += cost

    def restore(self, account: Account, nano: int, month_nano: int) -> None:
        """See `port.Books`."""
        ground, slot = self._files.keys, account.slot
        if account.end_user is not None:
            place = self._files.places().claim(account.slot, account.end_user, PATIENCE)
            if place is not None and self._files.users is not None:
                ground, slot = self._files.users, place[0]
        base, kind = ground.prepare(slot), KINDS[account.limits.budget_period]
        table, words = ground.table, ground.table.words
        with ground.file.held(base * WORD, PATIENCE):
            tick = table.advance(base, kind, self._time.tick())
            table.turn(base, kind, tick)
            for word, total in ((SPENT, nano), (MONTH_SPENT, month_nano)):
                if words[base + word] < total:
                    words[base + word] = min(total, MONEY_CAP << 8)

    def clear(self, slot: int) -> None:
        """See `port.Books`."""
        ground = self._files.keys
        if ground.known(slot) is not None:
            with ground.file.held(ground.lock(slot), PATIENCE):
                ground.blank(slot)
        places = self._files.known_places()
        if places is not None:
            places.forget(slot)

    def spent(self, account: Account) -> Spent:
        """See `port.Books`. Reads only, waits for nobody."""
        ground, base = self._files.own_region(account)
        return spent_of(ground.table, account, base)

    def usage(self, account: Account) -> tuple[LimitUse, ...]:
        """See `port.Books`. Reads only, waits for nobody."""
        ground, base = self._files.own_region(account)
        return usage_of(ground.table, account, base)

    def end_users(self, slot: int) -> int:
        """How many end users of a quota have counters of their own now."""
        places = self._files.known_places()
        return 0 if places is None else places.count(slot)

    def flush(self) -> None:
        """Write changed pages to the disk; blocks, so control calls it off its loop."""
        for ground in self._files.grounds():
            ground.file.flush()

    def close(self) -> None:
        """Write what is owed and unmap."""
        self._files.close()
