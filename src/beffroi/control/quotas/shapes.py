# SPDX-License-Identifier: Apache-2.0
"""What is asked and shown of tiers and quotas.

In: bodies of calls, rows. Out: typed values. A moment is Unix seconds, or a day such as `2026-01-31` in the zone that
budgets follow; one that is left out is the beginning of time, so that what is asked holds at once.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from beffroi.control.keyshapes import LimitsAsk, Word
from beffroi.control.tenancy.shapes import Id, Kept
from beffroi.core.snapshot import Limits

TierName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Title = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Moment = Annotated[str, Meta(max_length=20)] | Annotated[int, Meta(ge=0, le=1 << 40)]
Money = Annotated[str, Meta(max_length=40)] | int | float
TERMS = 100  # of one quota


class TierAsk(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tier, or its next version; one with the same `effective` as a version before takes that one's place."""

    name: TierName
    title: Title = ""
    effective: Moment | None = None
    limits: LimitsAsk = LimitsAsk()
    credit: Money | None = None


class Tier(Struct, frozen=True, kw_only=True):
    """One version of a tier. `organisation`: `*` is every one's. `credit_nano`: prepaid; shown, and counted by nobody yet.

    Attributes:
        state: `coming`; `in force`; `past`: a later one is in force; `replaced`: another has the same moment.
    """

    organisation: str
    name: str
    version: int
    title: str
    effective_at: int
    limits: Limits
    credit_nano: int | None
    created_at: int
    managed_by: str
    state: str


class TermAsk(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What holds from a moment on: a tier, or limits."""

    since: Moment | None = None
    tier: Word = ""
    limits: LimitsAsk | None = None


class QuotaAsk(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits on all requests of the organisation that match each field which is set.

    Attributes:
        key: of this key and its successors, by id, public id or name.
        model: a name or an alias.
        each_end_user: every end user has counters of its own.
        tier, limits, since: what holds, and from when on; `terms`: several, by date, in their place.
    """

    name: Title = ""
    project: Id = ""
    key: Word = ""
    model: Word = ""
    each_end_user: bool = False
    since: Moment | None = None
    tier: Word = ""
    limits: LimitsAsk | None = None
    terms: Annotated[list[TermAsk], Meta(max_length=TERMS)] = []


class QuotaChange(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change of a quota. `terms` replaces all of them; `add` puts one in, in place of one with the same moment."""

    name: Title | UnsetType = UNSET
    terms: Annotated[list[TermAsk], Meta(max_length=TERMS)] | UnsetType = UNSET
    add: TermAsk | UnsetType = UNSET


class Assign(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From when on an organisation, or one of its projects, has a tier."""

    since: Moment | None = None
    project: Id = ""


class Term(Struct, frozen=True, kw_only=True):
    """What holds from `since` on. `limits`: of a tier, those of its version then."""

    since: int
    tier: str
    limits: Limits


class Quota(Kept, frozen=True, kw_only=True):
    """A quota. `key`: the id of the key that it was made for.

    Attributes:
        in_force: what holds now; null: nothing yet.
        scope: in words, as an error says it.
        waiting: workers that do not know a change yet.
    """

    organisation: str
    project: str
    key: str
    model: str
    each_end_user: bool
    name: str
    scope: str
    terms: list[Term]
    in_force: Term | None
    waiting: list[int] = field(default_factory=list)


class Use(Struct, frozen=True, kw_only=True):
    """One limit as it stands. `resets_in`: seconds until more returns, 0 when nothing is used."""

    limit: str
    allowed: int
    used: int
    left: int
    resets_in: float


class Standing(Struct, frozen=True, kw_only=True):
    """What is used of a quota now.

    Attributes:
        end_users: how many have counters of their own; null: they are not counted apart, or several machines count them together.
        uses: of one end user where he is named (`?end_user=`); of those that share one set of counters where he is not.
    """

    id: str
    scope: str
    tier: str
    end_users: int | None
    uses: list[Use]


class UserQuery(Struct, frozen=True):
    """Of which end user."""

    end_user: Annotated[str, Meta(max_length=128)] | None = None
