# SPDX-License-Identifier: Apache-2.0
"""Control's hand on the counters that the workers share: charges orphans, shows what is spent, makes good what was lost.

In: orphans that shipping closed, keys, quotas. Out: counters that agree with the ledger; `Spent` of each that has a budget.
One object for the whole process: record locks belong to a process and end when any of its descriptors of a file closes.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, func
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.rows import Recovered
from beffroi.control.tenancy.scope import CONTROL, EVERY, looking
from beffroi.core.clock import SystemClock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota.books import MappedBooks
from beffroi.gateway.quota.port import Books
from beffroi.gateway.quota.scopes import Account, Scopes, account_of, in_force, quota_account
from beffroi.gateway.quota.terms import Busy, LimitUse, Spent, has_money
from beffroi.store.tables import exchanges as e
from beffroi.telemetry import logs

if TYPE_CHECKING:
    from beffroi.gateway.quota.fleet import FleetBooks

FEW = 500  # keys that a query names one by one
WAITING = 100_000  # charges kept for accounts whose lock is held; the oldest goes first
log = logs.Logger("control.budgets")


class Budgets:
    """The counters as control uses them; any thread may call.

    Args:
        data: the data directory; zone: of the calendar that budgets follow.
        quotas: all there are; `follow` takes changes.
        valkey: `url` and `prefix` of the limits that several machines share; None: the file of this machine.

    Raises:
        CountersUnavailable: the file cannot be used.
    """

    def __init__(
        self, data: Path, *, zone: str, quotas: Iterable[QuotaRecord] = (), valkey: dict[str, str] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._fleet = _fleet(valkey, zone)
        self._books: Books = self._fleet or MappedBooks(data / "counters.bin", clock=SystemClock(), zone=zone)
        self._scopes = Scopes(quotas)
        self._waiting: deque[tuple[Account, int, int]] = deque(maxlen=WAITING)

    def follow(self, quotas: Iterable[QuotaRecord], gone: Iterable[str]) -> None:
        """Take what has changed of quotas."""
        with self._lock:
            for quota in quotas:
                self._scopes.put(quota)
            for quota_id in gone:
                self._scopes.drop(quota_id)

    @staticmethod
    def now_s() -> int:
        """The moment, Unix seconds, at which terms are looked up."""
        return int(time.time())

    @property
    def quotas(self) -> tuple[QuotaRecord, ...]:
        """All that are known."""
        with self._lock:
            return tuple(self._scopes)

    def charge(self, orphan: Recovered) -> None:
        """Add an orphan's cost to what its key and every quota that it matches have spent; later, where a lock is held."""
        with self._lock:
            matching = self._scopes.matching(orphan.organisation, orphan.project, orphan.key_slot, orphan.model)
        now, user = self.now_s(), orphan.end_user or ""
        accounts = [Account(orphan.key_slot, Limits())]
        accounts += [_account(quota, now, user if quota.each_end_user else None) for quota in matching]
        for account in accounts:
            self._waiting.append((account, orphan.cost.total, orphan.ended_ns))
        self.settle()

    def settle(self) -> None:
        """Charge what waits."""
        with self._lock, suppress(CountersUnavailable):
            for _ in range(len(self._waiting)):  # one whose lock is held lets the others pass
                account, nano, ended_ns = self._waiting.popleft()
                try:
                    self._books.charge(account, nano, at_ns=ended_ns)
                except Busy:
                    self._waiting.append((account, nano, ended_ns))
                except CountersUnavailable:
                    self._waiting.appendleft((account, nano, ended_ns))
                    raise

    def begin(self, slot: int) -> None:
        """Make the slot of a new key or quota as new, whatever a database that was restored since has left there.

        Raises:
            Busy, CountersUnavailable: it may not be used.
        """
        with self._lock:
            self._books.clear(slot)

    def spent(self, keys: Iterable[KeyRecord]) -> dict[str, Spent]:
        """By key id, for those that have a budget."""
        with self._lock:
            return {key.id: self._books.spent(account_of(key)) for key in keys if has_money(key.limits)}

    def money(self, account: Account) -> Spent:
        """The money of any account."""
        with self._lock:
            return self._books.spent(account)

    def usage(self, key: KeyRecord) -> tuple[LimitUse, ...]:
        """Every limit of a key, and what is used of it."""
        return self.standing(account_of(key))

    def standing(self, account: Account) -> tuple[LimitUse, ...]:
        """Every limit of any account, and what is used of it."""
        with self._lock:
            return self._books.usage(account)

    def end_users(self, slot: int) -> int | None:
        """See `port.Books`."""
        with self._lock:
            return self._books.end_users(slot)

    def restore(
        self,
        engine: Engine,
        keys: Iterable[KeyRecord],
        quotas: Iterable[QuotaRecord] | None = None,
        budgets_of: frozenset[str] = frozenset(),
    ) -> None:
        """Raise what each budget has spent to the ledger's sum: a power cut can take back what the counters last wrote.

        Args:
            keys: every one there is, also those that are revoked: what they spent is spent of wider scopes too.
            quotas: None: all of them, and the keys' own budgets. Else those alone: a budget that is new, in a month that
                has begun.
            budgets_of: beside those quotas, ids of keys whose own budget is new.
        """
        keys, now = tuple(keys), self.now_s()
        slots = {key.id: key.slot for key in keys}
        chosen = self.quotas if quotas is None else tuple(quotas)
        scopes = Scopes(quota for quota in chosen if has_money(_money_of(quota, now)))
        # Keys that were rotated share a slot: what any of them spent, in or out of use by now, is spent of one budget.
        mine = (key for key in keys if quotas is None or key.id in budgets_of)
        own = {key.slot: key for key in mine if has_money(key.limits) and not key.revoked}
        if not own and not len(scopes):
            return
        money = [*(key.limits for key in own.values()), *(_money_of(quota, now) for quota in scopes)]
        begun = {period: self._starts(period) for period in {limits.budget_period for limits in money}}
        users = any(quota.each_end_user for quota in scopes)
        accounts: dict[tuple[int, str | None], Account] = {}
        totals: Counter[tuple[tuple[int, str | None], int]] = Counter()  # by account and start of a period
        since = {start for starts in begun.values() for start in starts}
        those_of = None if len(scopes) else frozenset(key.id for key in keys if key.slot in own)
        for start, row in self._sums(engine, since, those_of, users=users):
            slot = slots.get(row.key_id, -1)
            those = [account_of(own[slot])] if slot in own else []
            for quota in scopes.matching(row.organisation, row.project, slot, row.model):
                user = (row.end_user or "") if quota.each_end_user else None
                those.append(quota_account(quota, _money_of(quota, now), user))
            for account in those:
                name = account.slot, account.end_user
                accounts[name] = account
                totals[name, start] += int(row.nano)
        for name, account in accounts.items():
            period, month = begun[account.limits.budget_period]
            self._raise(account, totals[name, period], totals[name, month])

    def _starts(self, period: str) -> tuple[int, int]:
        """When a period that is under way and the month began, Unix nanoseconds."""
        with self._lock:
            found = self._books.spent(Account(0, Limits(budget_period=period)))
        return found.starts_ns or 0, found.month_starts_ns

    @staticmethod
    def _sums(
        engine: Engine, starts: set[int], keys: frozenset[str] | None, *, users: bool
    ) -> Iterator[tuple[int, Any]]:
        """What was spent since each of these moments, by all that a quota can match; `users`: each end user apart.

        Args:
            keys: ids of the only ones that matter, where they are few; None: all.
        """
        cost = func.sum(e.c.input_nano + e.c.cached_nano + e.c.output_nano + e.c.reasoning_nano).label("nano")
        by = [e.c.organisation, e.c.project, e.c.key_id, e.c.model, *([e.c.end_user] if users else [])]
        for start in starts:
            with looking(engine, CONTROL, EVERY) as scope:
                query = scope.select(e, *by, cost).where(e.c.ended_ns >= start).group_by(*by)
                if keys is not None and len(keys) <= FEW:
                    query = query.where(e.c.key_id.in_(keys))
                rows: Sequence[Any] = scope.connection.execute(query).all()
            for row in rows:
                yield start, row

    def _raise(self, account: Account, total: int, month: int) -> None:
        try:
            with self._lock:
                self._books.restore(account, total, month)
        except (Busy, CountersUnavailable) as error:
            log.error("a budget could not be compared with the ledger", slot=account.slot, reason=str(error))

    @property
    def shared(self) -> bool:
        """Whether several machines share them."""
        return self._fleet is not None

    def fill(self, engine: Engine, keys: Iterable[KeyRecord]) -> bool:
        """In a fleet, once the shared counters have begun or were lost: raise all budgets to the ledger's sums.

        Then hard budgets open. False: there is nothing to do, or they cannot be reached now.
        """
        if self._fleet is None:
            return False
        try:
            epoch = self._fleet.missing()
            if epoch is None:
                return False
            self.restore(engine, keys)
            self._fleet.filled(epoch)
        except (Busy, CountersUnavailable, SQLAlchemyError) as error:
            log.warning("the budgets of the fleet cannot be compared with the ledger yet", reason=str(error))
            return False
        log.info("the budgets of the fleet stand at the ledger's sums", epoch=epoch)
        return True

    @contextmanager
    def still(self) -> Iterator[None]:
        """For as long as this lasts this process holds no lock of the file, so that it may open and close it once more."""
        with self._lock:
            yield

    def flush(self) -> None:
        """Have the changed counters written to the disk; blocks."""
        with self._lock:
            self._books.flush()

    def close(self) -> None:
        """Charge what can be charged and give the file back."""
        self.settle()
        with self._lock:
            self._books.close()


def _fleet(valkey: dict[str, str] | None, zone: str) -> "FleetBooks | None":
    if valkey is None:
        return None
    from beffroi.gateway.quota.fleet import FleetBooks  # noqa: PLC0415 - its library is an extra

    return FleetBooks(valkey["url"], prefix=valkey["prefix"], clock=SystemClock(), zone=zone)


def _account(quota: QuotaRecord, now: int, end_user: str | None) -> Account:
    return quota_account(quota, in_force(quota, now)[0], end_user)


def _money_of(quota: QuotaRecord, now: int) -> Limits:
    """The limits in force, or the next to come that have a budget: it begins with what was spent until then."""
    limits = in_force(quota, now)[0]
    if has_money(limits):
        return limits
    coming = sorted((term for term in quota.terms if term.since > now), key=lambda term: term.since)
    return next((term.limits for term in coming if has_money(term.limits)), limits)
