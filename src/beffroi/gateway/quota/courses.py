# SPDX-License-Identifier: Apache-2.0
"""What the requests of a key count in, worked out once and kept until a quota changes or a term begins.

In: keys, models, the quotas of the snapshot, the worker's clock. Out: accounts, and when they must be looked at again.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from beffroi.core.snapshot import KeyDelta, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota.layout import TICK_NS
from beffroi.gateway.quota.port import Needs
from beffroi.gateway.quota.scopes import NEVER, Account, Scopes, account_of, in_force, quota_account
from beffroi.gateway.quota.terms import is_hard, limited
from beffroi.gateway.quota.timebase import SECOND, Timebase

AGAIN_TICKS = 60 * SECOND // TICK_NS  # a clock that was wrong for a while has named a wrong term for no longer


class Course(msgspec.Struct, frozen=True):
    """What requests of one key for one model count in until tick `until`.

    Attributes:
        accounts: the key's own and those of quotas, by slot, where a limit is set.
        users: quotas that each end user has for itself, with the limits in force.
    """

    accounts: tuple[Account, ...]
    users: tuple[tuple[QuotaRecord, Limits], ...]
    needs: Needs
    until: int

    def all_accounts(self, end_user: str) -> tuple[Account, ...]:
        """Those of one end user too."""
        return self.accounts + tuple(quota_account(quota, limits, end_user) for quota, limits in self.users)


class Counted(NamedTuple):
    """What requests of one key for one model count in at a moment.

    Attributes:
        accounts, users, needs: as `Course`, accounts in no order.
        quotas: whether there is any that could come to concern them; following: when the next term begins (Unix seconds).
    """

    accounts: list[Account]
    users: list[tuple[QuotaRecord, Limits]]
    needs: Needs
    quotas: bool
    following: int


def counted(scopes: Scopes, key: KeyRecord, model: str, wall_s: int) -> Counted:
    """The same for every backend; terms are read at `wall_s` (Unix seconds)."""
    accounts = [account_of(key)] if limited(key.limits) else []
    users: list[tuple[QuotaRecord, Limits]] = []
    hard, soft, next_s = is_hard(key.limits), key.limits.soft_budget is not None, NEVER
    matching = scopes.matching(key.organisation, key.project, key.slot, model)
    for quota in matching:
        limits, _, following = in_force(quota, wall_s)
        next_s = min(next_s, following)
        if not limited(limits):
            continue
        hard, soft = hard or is_hard(limits), soft or limits.soft_budget is not None
        if quota.each_end_user:
            users.append((quota, limits))
        else:
            accounts.append(quota_account(quota, limits))
    return Counted(accounts, users, Needs(hard, soft), bool(matching), next_s)


class Courses:
    """The quotas as one worker knows them."""

    def __init__(self, time: Timebase) -> None:
        self._time = time
        self._scopes = Scopes()

    def know(self, quotas: Iterable[QuotaRecord]) -> None:
        """All there are."""
        self._scopes = Scopes(quotas)

    def learn(self, delta: KeyDelta) -> set[str]:
        """Take a change; the organisations whose keys it concerns (empty text: all)."""
        touched: set[str] = set()
        for quota in delta.quotas:
            before = self._scopes.put(quota)
            touched |= {quota.organisation, *(() if before is None else (before.organisation,))}
        for quota_id in delta.remove_quotas:
            before = self._scopes.drop(quota_id)
            touched |= {before.organisation} if before is not None else set()
        return touched

    def alone(self, key: KeyRecord) -> bool:
        """Whether nothing but its own limits can concern a key."""
        return not self._scopes.concern(key.organisation, key.project, key.slot)

    def of(self, key: KeyRecord, model: str) -> Course:
        """What a request counts in now."""
        tick = self._time.tick()
        drift_ns = self._time.wall(0)
        wall_s = (tick * TICK_NS + drift_ns) // SECOND
        accounts, users, needs, quotas, following = counted(self._scopes, key, model, wall_s)
        until = tick + AGAIN_TICKS if quotas else NEVER
        if following != NEVER:
            until = min(until, -(-(following * SECOND - drift_ns) // TICK_NS))
        accounts.sort(key=lambda account: account.slot)
        return Course(tuple(accounts), tuple(users), needs, until)
