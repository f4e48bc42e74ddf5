# SPDX-License-Identifier: Apache-2.0
"""What may stand in a file of tenants: organisations and all that is theirs, and the tiers of the house.

In: nothing. Out: the structs that `tenants` fills, and from which its JSON Schema and its reference are made.
A setting that is left out has its default, so that taking a line away takes away what it said; the end of a key alone is
kept as it is when the file does not say it.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from beffroi.config.schema import Amount

Role = Literal["owner", "admin", "billing", "developer", "auditor", "viewer"]
State = Literal["active", "suspended"]
Endpoint = Literal["chat", "completions", "embeddings", "models"]
Period = Literal["day", "month", "total"]
Count = Annotated[int, Meta(ge=1, le=1 << 53)]
Slug = Annotated[str, Meta(min_length=1, max_length=40)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
DEFAULT = "default"


def _about(sentence: str) -> Meta:
    return Meta(description=sentence)


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may be used; what is left out is not limited."""

    requests_per_minute: Annotated[Count | None, _about("Most requests in any minute.")] = None
    requests_per_hour: Annotated[Count | None, _about("Most requests in any hour.")] = None
    requests_per_day: Annotated[Count | None, _about("Most requests in any 24 hours.")] = None
    tokens_per_minute: Annotated[Count | None, _about("Most tokens, in and out, in any minute.")] = None
    input_tokens_per_minute: Annotated[Count | None, _about("Most input tokens in any minute.")] = None
    input_tokens_per_hour: Annotated[Count | None, _about("Most input tokens in any hour.")] = None
    input_tokens_per_day: Annotated[Count | None, _about("Most input tokens in any 24 hours.")] = None
    output_tokens_per_minute: Annotated[Count | None, _about("Most output tokens in any minute.")] = None
    output_tokens_per_hour: Annotated[Count | None, _about("Most output tokens in any hour.")] = None
    output_tokens_per_day: Annotated[Count | None, _about("Most output tokens in any 24 hours.")] = None
    concurrency: Annotated[Count | None, _about("Most requests at once.")] = None
    hard_budget: Annotated[Amount | None, _about("Money per period that is never passed.")] = None
    soft_budget: Annotated[Amount | None, _about("Money per period after which requests are refused.")] = None
    budget_period: Annotated[Period, _about("Period of both budgets.")] = "month"
    monthly_cap: Annotated[
        Amount | None, _about("Money per calendar month that is never passed, beside the budgets.")
    ] = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the keys of an organisation must obey."""

    max_key_days: Annotated[Annotated[int, Meta(ge=1, le=36_500)], _about("Longest life of a key, in days.")] = 365
    rotate_every_days: Annotated[
        Annotated[int, Meta(ge=1, le=36_500)] | None,
        _about("How often keys without a schedule of their own get a successor; never when left out."),
    ] = None
    rotation_overlap_hours: Annotated[
        Annotated[int, Meta(ge=0, le=720)], _about("How long the old key of a rotation is accepted, at most.")
    ] = 24
    addresses: Annotated[
        tuple[str, ...],
        _about("Networks that the keys' own must lie in, and that a key without any gets; all when left out."),
    ] = ()


class Project(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One project of an organisation."""

    id: Annotated[Slug, _about("Its id: small letters, figures and hyphens.")]
    name: Annotated[
        Annotated[str, Meta(max_length=100)],
        _about("What people call it; a new one is called by its id when left out."),
    ] = ""
    state: Annotated[State, _about("Keys of a suspended project are refused.")] = "active"


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person, and what that person may do."""

    email: Annotated[Annotated[str, Meta(min_length=3, max_length=254)], _about("Mail address; it names the member.")]
    name: Annotated[Annotated[str, Meta(max_length=100)], _about("Name for people to read.")] = ""
    role: Annotated[Role, _about("What the member may do.")]
    project: Annotated[str, _about("The one project where that holds; all of them when left out.")] = ""
    state: Annotated[State, _about("Admin keys of a suspended member are refused.")] = "active"


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One service account: a program that acts."""

    name: Annotated[Name, _about("Its name.")]
    role: Annotated[Role, _about("What it may do.")]
    project: Annotated[str, _about("The one project where that holds; all of them when left out.")] = ""
    state: Annotated[State, _about("Admin keys of a suspended account are refused.")] = "active"


class System(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One AI system: what the organisation does with models, and for what."""

    name: Annotated[Name, _about("Its name.")]
    purpose: Annotated[Annotated[str, Meta(min_length=1, max_length=2000)], _about("What it is for.")]
    owner: Annotated[Name, _about("Who answers for it.")]
    models: Annotated[tuple[str, ...], _about("Models that it uses.")] = ()
    project: Annotated[str, _about("The project that it belongs to; none in particular when left out.")] = ""
    state: Annotated[State, _about("Whether it is in use.")] = "active"


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a successor goes."""

    store: Annotated[str, _about("Secret store of the configuration; a one-time link when left out.")] = ""
    path: Annotated[str, _about("Where in the store.")] = ""
    field: Annotated[str, _about("Field there.")] = "api_key"


class Rotation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a key gets a successor by itself, and how the old one ends."""

    every_days: Annotated[
        Annotated[int, Meta(ge=1, le=366)], _about("Days from the making of a key to its successor's.")
    ]
    notice_seconds: Annotated[Annotated[int, Meta(ge=0, le=2_592_000)], _about("How long before it is announced.")] = (
        604_800
    )
    overlap_seconds: Annotated[
        Annotated[int, Meta(ge=0, le=2_592_000)],
        _about("How long the old key is accepted beside the new one, at most."),
    ] = 604_800
    idle_seconds: Annotated[
        Annotated[int, Meta(ge=300, le=2_592_000)] | None,
        _about("The old key ends earlier once nobody used it for that long."),
    ] = 86_400
    link_seconds: Annotated[Annotated[int, Meta(ge=300, le=2_592_000)], _about("How long a one-time link lives.")] = (
        259_200
    )
    delivery: Annotated[Delivery, _about("Where the successor goes.")] = Delivery()
    mail: Annotated[tuple[str, ...], _about("Who is told of each step.")] = ()


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One API key: what it may do. The key itself is made at the first `apply`, and shown or written that once."""

    name: Annotated[Name, _about("Its name, the only one of that name in its project.")]
    project: Annotated[str, _about("The project that it belongs to.")] = DEFAULT
    models: Annotated[tuple[str, ...] | None, _about("Models it may use; all when left out.")] = None
    endpoints: Annotated[tuple[Endpoint, ...] | None, _about("What it may ask for; all when left out.")] = None
    addresses: Annotated[tuple[str, ...], _about("Networks it may be used from; everywhere when left out.")] = ()
    system: Annotated[str, _about("Name of the AI system that it belongs to.")] = ""
    owner: Annotated[str, _about("Whose key it is.")] = ""
    rotation: Annotated[
        Rotation | None, _about("Its own schedule; that of the organisation's policy when left out.")
    ] = None
    limits: Annotated[Limits, _about("Limits of its own.")] = Limits()
    expires: Annotated[
        str | None, _about("Day or moment of its end; a year after it is made, and then kept, when left out.")
    ] = None
    secret_to: Annotated[
        str | None,
        _about("`file:PATH` that the new key is written to, once, mode 0600; it is printed when left out."),
    ] = None


class Term(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a quota allows from a moment on."""

    since: Annotated[str | None, _about("Day or moment it begins; from the beginning when left out.")] = None
    tier: Annotated[str, _about("Tier whose limits hold.")] = ""
    limits: Annotated[Limits, _about("Limits that hold, in place of a tier's.")] = Limits()


class Quota(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits on all requests of the organisation that match each setting which is written."""

    name: Annotated[Annotated[str, Meta(max_length=100)], _about("What people call it.")] = ""
    project: Annotated[str, _about("Requests of this project alone.")] = ""
    key: Annotated[str, _about("Requests with the key of this name alone, and `project` says whose.")] = ""
    model: Annotated[str, _about("Requests for this model alone.")] = ""
    each_end_user: Annotated[bool, _about("Whether every end user has counters apart from the others.")] = False
    tier: Annotated[str, _about("Tier whose limits hold.")] = ""
    limits: Annotated[Limits, _about("Limits that hold, in place of a tier's.")] = Limits()
    terms: Annotated[tuple[Term, ...], _about("By date, in place of both: each holds until the next begins.")] = ()


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One address that is told what happens."""

    url: Annotated[Annotated[str, Meta(min_length=8, max_length=2000)], _about("Address; it names the webhook.")]
    events: Annotated[tuple[str, ...], _about("What it is told of, such as `key:*`; everything when left out.")] = (
        "*",
    )
    state: Annotated[Literal["active", "disabled"], _about("A disabled webhook is told nothing.")] = "active"
    secret_to: Annotated[
        str | None,
        _about("`file:PATH` that its new signing secret is written to, once; it is printed when left out."),
    ] = None


class Tier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits under a name, from a day on; the same name again, from a later day on, is its next version."""

    name: Annotated[Name, _about("Its name.")]
    title: Annotated[Annotated[str, Meta(max_length=100)], _about("What people call it.")] = ""
    effective: Annotated[str | None, _about("Day or moment it begins; from the beginning when left out.")] = None
    limits: Annotated[Limits, _about("Limits that hold.")] = Limits()
    credit: Annotated[Amount | None, _about("Prepaid credit that goes with it.")] = None


class Organisation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One organisation, and all that is its own."""

    id: Annotated[Slug, _about("Its id: small letters, figures and hyphens.")]
    name: Annotated[
        Annotated[str, Meta(max_length=100)],
        _about("What people call it; a new one is called by its id when left out."),
    ] = ""
    state: Annotated[State, _about("Keys of a suspended organisation are refused.")] = "active"
    policy: Annotated[Policy | None, _about("What its keys must obey; stays as it is when left out.")] = None
    projects: Annotated[tuple[Project, ...], _about("Its projects; `default` is always there.")] = ()
    members: Annotated[tuple[Member, ...], _about("Its people.")] = ()
    service_accounts: Annotated[tuple[Account, ...], _about("Its programs that act.")] = ()
    systems: Annotated[tuple[System, ...], _about("Its AI systems.")] = ()
    keys: Annotated[tuple[Key, ...], _about("Its API keys.")] = ()
    tiers: Annotated[tuple[Tier, ...], _about("Tiers that it alone has.")] = ()
    quotas: Annotated[tuple[Quota, ...], _about("Limits on it and its parts.")] = ()
    webhooks: Annotated[tuple[Webhook, ...], _about("Who is told what happens in it.")] = ()


class Declaration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole file of tenants."""

    tiers: Annotated[tuple[Tier, ...], _about("Tiers for every organisation.")] = ()
    organisations: Annotated[tuple[Organisation, ...], _about("Organisations.")] = ()
