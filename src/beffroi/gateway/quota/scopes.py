# SPDX-License-Identifier: Apache-2.0
"""Which quotas a request counts in, and what their limits are now: the same for every backend of the counters.

In: quota records of the snapshot, and their changes. Out: the accounts of a key and a model, in the order of their slots.
A quota's dated terms are read with the worker's own clock: one that begins at midnight needs nobody to tell it.
"""

from collections.abc import Iterable, Iterator

import msgspec

from beffroi.core.snapshot import NO_LIMITS, KeyRecord, Limits, QuotaRecord

NEVER = 1 << 62
OF_KEY = "of this key"


class Account(msgspec.Struct, frozen=True):
    """What is counted together: a key, a quota, or one end user of a quota.

    Attributes:
        slot: of the key or the quota.
        of: whose limits these are, as an error says it: `of project lab in organisation acme`.
        each_end_user: every end user has counters of its own under `slot`; `end_user` says which one is meant.
    """

    slot: int
    limits: Limits
    of: str = OF_KEY
    each_end_user: bool = False
    end_user: str | None = None


def account_of(key: KeyRecord) -> Account:
    """A key's own limits."""
    return Account(key.slot, key.limits)


def quota_account(quota: QuotaRecord, limits: Limits, end_user: str | None = None) -> Account:
    """A quota with the limits that are in force; of one that each end user has, that of `end_user`."""
    return Account(quota.slot, limits, name_of(quota, end_user), quota.each_end_user, end_user)


def others_account(quota: QuotaRecord, limits: Limits) -> Account:
    """Where end users count together for whom there was no place of their own."""
    return Account(quota.slot, limits, name_of(quota).replace("of each end user", "of all other end users", 1), True)


def name_of(quota: QuotaRecord, end_user: str | None = None) -> str:
    """The scope in words, the narrowest first."""
    words = []
    if quota.each_end_user:
        words.append("of each end user" if end_user is None else "of this end user")
    if quota.model:
        words.append(f"of model {quota.model}")
    if quota.key_slot is not None:
        words.append(OF_KEY)
    if quota.project:
        words.append(f"of project {quota.project}")
    if quota.organisation:
        words.append(f"of organisation {quota.organisation}")
    if not words:
        return "of the whole installation"
    return " ".join([words[0], *(word.replace("of ", "in ", 1) for word in words[1:])])


def in_force(quota: QuotaRecord, wall_s: int) -> tuple[Limits, str, int]:
    """The limits of a quota at a moment (Unix seconds), the tier they come from, and when the next term begins."""
    limits, tier, begun, following = NO_LIMITS, "", -1, NEVER
    for term in quota.terms:
        if term.since > wall_s:
            following = min(following, term.since)
        elif term.since >= begun:
            limits, tier, begun = term.limits, term.tier, term.since
    return limits, tier, following


class Scopes:
    """All quotas, found by what they match. A look-up costs eight reads of a dictionary, whatever there is."""

    def __init__(self, quotas: Iterable[QuotaRecord] = ()) -> None:
        self._by_id: dict[str, QuotaRecord] = {}
        self._index: dict[tuple[str, str, int | None], dict[str, QuotaRecord]] = {}
        for quota in quotas:
            self.put(quota)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[QuotaRecord]:
        return iter(self._by_id.values())

    def put(self, quota: QuotaRecord) -> QuotaRecord | None:
        """Take a new quota, or one that has changed; the one before."""
        before = self.drop(quota.id)
        self._by_id[quota.id] = quota
        self._index.setdefault((quota.organisation, quota.project, quota.key_slot), {})[quota.id] = quota
        return before

    def drop(self, quota_id: str) -> QuotaRecord | None:
        """Forget a quota; the one that it was."""
        quota = self._by_id.pop(quota_id, None)
        if quota is not None:
            place = (quota.organisation, quota.project, quota.key_slot)
            those = self._index[place]
            del those[quota_id]
            if not those:
                del self._index[place]
        return quota

    def concern(self, organisation: str, project: str, key_slot: int) -> bool:
        """Whether any quota matches requests of this key, for whatever model."""
        index = self._index
        return bool(index) and any(
            (an_organisation, a_project, a_key) in index
            for an_organisation in {"", organisation}
            for a_project in {"", project}
            for a_key in (None, key_slot)
        )

    def matching(self, organisation: str, project: str, key_slot: int, model: str) -> list[QuotaRecord]:
        """Every quota that a request of this key for this model counts in, by slot."""
        index = self._index
        if not index:
            return []
        found = [
            quota
            for an_organisation in {"", organisation}
            for a_project in {"", project}
            for a_key in (None, key_slot)
            if (those := index.get((an_organisation, a_project, a_key))) is not None
            for quota in those.values()
            if not quota.model or quota.model == model
        ]
        found.sort(key=lambda quota: quota.slot)
        return found
