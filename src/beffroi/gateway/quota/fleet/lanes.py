# SPDX-License-Identifier: Apache-2.0
"""Which leases a request takes from: those of its key and of every quota it counts in.

In: quotas, keys, models, end users. Out: leases, the same object for the same scope on this worker; bounded in number.
"""

from collections.abc import Callable, Iterable

from beffroi.core.errors import CountersUnavailable
from beffroi.core.snapshot import KeyDelta, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota.courses import counted
from beffroi.gateway.quota.fleet.lease import Lease
from beffroi.gateway.quota.fleet.wire import Names, Rule
from beffroi.gateway.quota.port import Needs
from beffroi.gateway.quota.scopes import Account, Scopes, quota_account

LANES = 1 << 16
LEASES = 1 << 17
RULES = 1 << 12


class Lane:
    """A key and a model: the leases every request of theirs needs, and the quotas of which each end user has one."""

    __slots__ = ("each", "key", "leases", "needs", "until")

    def __init__(
        self,
        key: KeyRecord,
        leases: tuple[Lease, ...],
        each: tuple[tuple[QuotaRecord, Limits], ...],
        needs: Needs,
        until: int,
    ) -> None:
        self.key, self.leases, self.each, self.needs, self.until = key, leases, each, needs, until


class Lanes:
    """All of one worker.

    Attributes:
        known: lanes by slot of the key and model; good for the key they were made for, until their `until`.
        leases: by scope.
        wall_s: the moment by which dated terms are read (Unix seconds), kept up by the owner.
    """

    def __init__(self, names: Names, spare: Callable[[], None]) -> None:
        self._names = names
        self._spare = spare
        self._scopes = Scopes()
        self.known: dict[tuple[int, str], Lane] = {}
        self._rules: dict[Limits, Rule] = {}
        self.leases: dict[str, Lease] = {}
        self.wall_s = 0

    def know(self, quotas: Iterable[QuotaRecord]) -> None:
        """See `port.Counters`."""
        self._scopes = Scopes(quotas)
        self.known.clear()

    def learn(self, delta: KeyDelta) -> None:
        """See `port.Counters`."""
        if delta.quotas or delta.remove_quotas:
            for quota in delta.quotas:
                self._scopes.put(quota)
            for quota_id in delta.remove_quotas:
                self._scopes.drop(quota_id)
            self.known.clear()

    def lane(self, key: KeyRecord, model: str) -> Lane:
        """The lane of a key and a model; made when it is first asked for, and after each change."""
        lane = self.known.get((key.slot, model))
        if lane is None or lane.key is not key or self.wall_s >= lane.until:
            lane = self._make(key, model)
        return lane

    def of_end_user(self, lane: Lane, end_user: str | None) -> tuple[Lease, ...]:
        """The leases of a request of this end user."""
        return (
            *lane.leases,
            *(self._lease(quota_account(quota, limits, end_user)) for quota, limits in lane.each),
        )

    def drop(self, lease: Lease) -> None:
        """Forget a lease that holds and owes nothing."""
        if self.leases.pop(lease.scope, None) is not None and not lease.account.each_end_user:
            self.known.clear()

    def _make(self, key: KeyRecord, model: str) -> Lane:
        accounts, each, needs, _, until = counted(self._scopes, key, model, self.wall_s)
        lane = Lane(key, tuple(map(self._lease, accounts)), tuple(each), needs, until)
        if len(self.known) >= LANES:
            self.known.clear()
        self.known[key.slot, model] = lane
        return lane

    def _lease(self, account: Account) -> Lease:
        scope = self._names.scope(account)
        lease = self.leases.get(scope)
        if lease is None:
            if len(self.leases) >= LEASES:
                self._spare()
                if len(self.leases) >= LEASES:
                    raise CountersUnavailable(
                        "too many limits are in use at once on this worker; try again", retry_after=1.0
                    )
            lease = self.leases[scope] = Lease(scope, account, self._rule(account.limits))
        elif lease.account.limits != account.limits:
            lease.change(account, self._rule(account.limits))
        return lease

    def _rule(self, limits: Limits) -> Rule:
        rule = self._rules.get(limits)
        if rule is None:
            if len(self._rules) >= RULES:
                self._rules.clear()
            rule = self._rules[limits] = Rule(limits)
        return rule
