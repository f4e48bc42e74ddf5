# SPDX-License-Identifier: Apache-2.0
"""What people say of keys, and what they are answered: the structs of the command line and of the API.

In: JSON bodies. Out: structs that are checked as far as a shape can be; `keyring` checks what needs the database.
"""

from ipaddress import IPv6Network, ip_network
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from beffroi.control.rotation.shapes import Schedule
from beffroi.core.errors import BadRequest
from beffroi.core.money import parse_nano
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota.terms import LimitUse

DAY = 86_400
OVERLAP = DAY  # seconds for which a key that was rotated is still accepted, unless told otherwise
Count = Annotated[int, Meta(ge=1, le=1 << 53)]
Money = str | int | float
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Word = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Endpoint = Literal["chat", "completions", "embeddings", "models"]
Models = Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=1000)]
Addresses = Annotated[list[Annotated[str, Meta(max_length=60)]], Meta(max_length=100)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
BUDGETS = ("hard_budget", "soft_budget", "monthly_cap")
PERIODS = ("day", "month", "total")


class LimitsAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Limits as people write them: budgets are amounts of money (`"10.50"`)."""

    requests_per_minute: Count | None = None
    requests_per_hour: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Count | None = None
    input_tokens_per_minute: Count | None = None
    input_tokens_per_hour: Count | None = None
    input_tokens_per_day: Count | None = None
    output_tokens_per_minute: Count | None = None
    output_tokens_per_hour: Count | None = None
    output_tokens_per_day: Count | None = None
    concurrency: Count | None = None
    hard_budget: Money | None = None
    soft_budget: Money | None = None
    budget_period: str = "month"
    monthly_cap: Money | None = None

    def limits(self) -> Limits:
        """As the gateway knows them.

        Raises:
            BadRequest: an amount that is none, or another period than day, month or total.
        """
        return Limits(**_as_known(msgspec.structs.asdict(self)))


class LimitsChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A change of limits: what is named changes, null takes a limit away."""

    requests_per_minute: Count | UnsetType | None = UNSET
    requests_per_hour: Count | UnsetType | None = UNSET
    requests_per_day: Count | UnsetType | None = UNSET
    tokens_per_minute: Count | UnsetType | None = UNSET
    input_tokens_per_minute: Count | UnsetType | None = UNSET
    input_tokens_per_hour: Count | UnsetType | None = UNSET
    input_tokens_per_day: Count | UnsetType | None = UNSET
    output_tokens_per_minute: Count | UnsetType | None = UNSET
    output_tokens_per_hour: Count | UnsetType | None = UNSET
    output_tokens_per_day: Count | UnsetType | None = UNSET
    concurrency: Count | UnsetType | None = UNSET
    hard_budget: Money | UnsetType | None = UNSET
    soft_budget: Money | UnsetType | None = UNSET
    budget_period: str | UnsetType = UNSET
    monthly_cap: Money | UnsetType | None = UNSET


def changed_limits(limits: Limits, change: LimitsChange) -> Limits:
    """Limits after a `LimitsChange`. Raises as `LimitsAsk.limits`."""
    said = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return msgspec.structs.replace(limits, **_as_known(said))


def _as_known(said: dict[str, Any]) -> dict[str, Any]:
    if said.get("budget_period", "month") not in PERIODS:
        raise BadRequest(f"a budget is per day, month or total, not `{said['budget_period']}`", param="budget_period")
    known = dict(said)
    for name in BUDGETS:
        if (value := said.get(name)) is not None:
            try:
                known[name] = parse_nano(value)
            except ValueError as error:
                raise BadRequest(str(error), param=name) from None
    return known


class KeyAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a new key is asked to be.

    Attributes:
        models: names or aliases it may use; None: all, those to come too.
        endpoints: what it may ask for; None: all.
        addresses: networks that it may be used from; none: everywhere.
        system: the AI system that it belongs to; owner: whose key it is.
        expires_in_days: None: after twelve months or what the organisation's policy says, or never for one that is
            `long_lived`.
        long_lived: allows more than the policy does; for the operator alone.
        rotation: its own schedule; None: the one of the organisation's policy, if that has one.
    """

    name: Name
    project: Word = ""
    models: Models | None = None
    endpoints: list[Endpoint] | None = None
    addresses: Addresses = []
    system: Word = ""
    owner: Word = ""
    limits: LimitsAsk = LimitsAsk()
    expires_in_days: Days | None = None
    long_lived: bool = False
    rotation: Schedule | None = None


class KeyChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A change of a key: what is named changes, all else stays; null takes away (JSON merge patch, RFC 7396)."""

    name: Name | UnsetType = UNSET
    models: Models | UnsetType | None = UNSET
    endpoints: list[Endpoint] | UnsetType | None = UNSET
    addresses: Addresses | UnsetType | None = UNSET
    system: Word | UnsetType | None = UNSET
    owner: Word | UnsetType | None = UNSET
    limits: LimitsChange | UnsetType = UNSET
    expires_in_days: Days | UnsetType | None = UNSET
    long_lived: bool = False
    rotation: Schedule | UnsetType | None = UNSET


class RotateAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Body of a rotation; for `overlap_seconds` the old key is still accepted beside the new one.

    Attributes:
        claim: a secret of the client's own making. Whoever asks again with it, within a quarter of an hour, is given the
            same successor: so that an answer which was lost on its way loses nothing.
    """

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * DAY)] = OVERLAP
    claim: Annotated[str, Meta(min_length=43, max_length=100, pattern="^[A-Za-z0-9_-]+$")] | None = None


class RevokeAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Body of a revocation. `cut`: open exchanges too; `why`: kept beside the key."""

    cut: bool = False
    why: Word = ""


class Created(msgspec.Struct, frozen=True):
    """A key just made; `key` is shown this once. `waiting`: workers that do not know it yet."""

    id: str
    public: str
    name: str
    key: str
    expires_at: int | None
    waiting: list[int]


class Revoked(msgspec.Struct, frozen=True):
    """A key that every worker refuses from now on.

    Attributes:
        also: ids of keys that it was rotated from and that were still accepted; they are refused with it.
        replicas: how many Beffroi share the database; the workers of all of them refuse it.
        cut: open exchanges that were cut; None: they may finish.
    """

    id: str
    public: str
    name: str
    workers: int
    milliseconds: float
    cut: int | None
    also: list[str]
    replicas: int = 1


class Rotated(msgspec.Struct, frozen=True):
    """A successor just made; `key` is shown this once. The old key is refused from `old_expires_at` on.

    Attributes:
        waiting: workers that know neither the new key nor the old one's end yet.
    """

    id: str
    public: str
    name: str
    key: str
    expires_at: int | None
    rotated_from: str
    old_public: str
    old_expires_at: int
    waiting: list[int]


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A key as it is shown; never the key itself.

    Attributes:
        state: `active`; `rotated`: accepted until its end, beside its successor; `expired`; `revoked`.
        used_at: when it was last used, to the minute; None: never.
        spent, reserved: nano-units, of one that has a budget; use: of each limit, where one key is asked for.
        waiting: after a change, the workers that do not know of it yet.
    """

    id: str
    public: str
    name: str
    organisation: str
    project: str
    state: str
    models: list[str] | None
    endpoints: list[str] | None
    addresses: list[str]
    system: str
    owner: str
    limits: dict[str, Any]
    rotation: Schedule | None
    expires_at: int | None
    created_at: int
    created_by: str
    revoked: bool
    revoked_at: int | None
    revoked_why: str
    rotated_from: str | None
    rotated_to: str | None
    used_at: int | None
    revision: int
    managed_by: str
    spent: int | None = None
    reserved: int | None = None
    use: list[LimitUse] | None = None
    waiting: list[int] | None = None


def networks(texts: list[str]) -> list[str]:
    """Networks in their one spelling, each once; IPv4 in the clothes of IPv6 as IPv4.

    Raises:
        BadRequest: one that is none, or whose address has bits beyond its length (which did they mean?).
    """
    found: dict[str, None] = {}
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError:
            try:
                meant = f"; did you mean {ip_network(text, strict=False)}?"
            except ValueError:
                meant = "; write one such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
            raise BadRequest(f"`{text}` is no network{meant}", param="addresses") from None
        if isinstance(network, IPv6Network) and network.prefixlen >= 96:
            mapped = network.network_address.ipv4_mapped
            if mapped is not None:
                network = ip_network(f"{mapped}/{network.prefixlen - 96}")
        found[str(network)] = None
    return list(found)
