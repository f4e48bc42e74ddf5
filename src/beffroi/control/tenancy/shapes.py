# SPDX-License-Identifier: Apache-2.0
"""What is asked and shown of tenants: structs that refuse what does not fit, with bounds on every text and list.

In: bodies of calls, rows. Out: typed values. In a change, a field that is left out (`UNSET`) stays as it is.
"""

import ipaddress
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Row

from beffroi.control.tenancy.permissions import Permission, Role
from beffroi.core.errors import BadRequest

_PLAIN = r"^[^\x00-\x1f\x7f]+$"
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=_PLAIN)]
Slug = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Id = Annotated[str, Meta(max_length=60, pattern=r"^[A-Za-z0-9_-]*$")]
Sentence = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")]
Email = Annotated[str, Meta(max_length=254, pattern=r"^[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+$")]
Address = Annotated[str, Meta(min_length=2, max_length=50)]
Alias = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
State = Annotated[str, Meta(pattern="^(active|suspended)$")]
Days = Annotated[int, Meta(ge=1, le=36_500)]


class Policy(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an organisation's API keys must obey.

    Attributes:
        max_key_days: the longest life of a key; over 366 only where somebody decided so.
        rotate_every_days: keys without a schedule of their own get a successor that often; None: never by themselves.
        rotation_overlap_hours: how long the old key of a rotation is accepted beside the new one, at most.
        addresses: networks (CIDR) that a key's own must lie in, and that a key without any gets; empty: all.
    """

    max_key_days: Days = 365
    rotate_every_days: Days | None = None
    rotation_overlap_hours: Annotated[int, Meta(ge=0, le=720)] = 24
    addresses: Annotated[list[Address], Meta(max_length=100)] = []

    def checked(self) -> "Policy":
        """The same with its networks in their one spelling.

        Raises:
            BadRequest: one is no network.
        """
        return msgspec.structs.replace(self, addresses=networks(self.addresses, "policy.addresses"))


def networks(texts: list[str], param: str) -> list[str]:
    """Networks in their one spelling.

    Raises:
        BadRequest: one is none, or has bits set beyond its length.
    """
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            raise BadRequest(
                f"`{text}` is no network; write one such as 10.0.0.0/8 or 2001:db8::/32, without host bits", param=param
            ) from None
    return found


class Kept(Struct, frozen=True, kw_only=True):
    """What is shown of everything that people administer. `managed_by`: empty, `file` or `apply`."""

    id: str
    created_at: int
    state: str
    revision: int
    managed_by: str


class OrganisationAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new organisation. `id`: one that is easy to write; else one is made."""

    name: Name
    id: Slug | None = None
    policy: Policy = Policy()


class OrganisationChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different. A policy is replaced whole."""

    name: Name | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET


class Organisation(Kept, frozen=True, kw_only=True):
    """An organisation. `waiting`: workers that have not confirmed its state yet."""

    name: str
    policy: Policy
    waiting: list[int] = []


class ProjectAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new project. `id`: one that is easy to write; else one is made."""

    name: Name
    id: Slug | None = None


class ProjectChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different."""

    name: Name | UnsetType = UNSET


class Project(Kept, frozen=True, kw_only=True):
    """A project. `waiting`: workers that have not confirmed its state yet."""

    organisation: str
    name: str
    waiting: list[int] = []


class MemberAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new member. `project`: the only one that the role holds in; empty: all."""

    email: Email
    role: Role
    name: Alias = ""
    project: Id = ""


class MemberChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different; `state`: active or suspended."""

    name: Alias | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    state: State | UnsetType = UNSET


class Member(Kept, frozen=True, kw_only=True):
    """A person, and what it may do."""

    organisation: str
    project: str
    email: str
    name: str
    role: Role


class AccountAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new service account: a program that acts in its own name."""

    name: Name
    role: Role
    project: Id = ""


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different; `state`: active or suspended."""

    name: Name | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    state: State | UnsetType = UNSET


class Account(Kept, frozen=True, kw_only=True):
    """A service account."""

    organisation: str
    project: str
    name: str
    role: Role


Models = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=500)]


class SystemAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new AI system. `owner`: who answers for it; `models`: names or aliases of those that it uses."""

    name: Name
    purpose: Sentence
    owner: Name
    models: Models = []
    project: Id = ""


class SystemChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different; `state`: active or suspended (out of use)."""

    name: Name | UnsetType = UNSET
    purpose: Sentence | UnsetType = UNSET
    owner: Name | UnsetType = UNSET
    models: Models | UnsetType = UNSET
    state: State | UnsetType = UNSET


class System(Kept, frozen=True, kw_only=True):
    """An AI system: what an organisation does with models, for a purpose."""

    organisation: str
    project: str
    name: str
    purpose: str
    owner: str
    models: list[str]


class AdminKeyAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """A new key to the administration.

    Attributes:
        role: what it is; `operator` only in the organisation `*`.
        scopes: permissions of that role that it has; None: all.
        principal: the member or service account as which it acts, and beyond whose role it never goes.
        project: the only one that it reaches.
    """

    name: Name
    role: Role
    scopes: Annotated[list[Permission], Meta(min_length=1, max_length=100)] | None = None
    expires_in_days: Annotated[int, Meta(ge=1, le=366)] = 90
    principal: Id = ""
    project: Id = ""


class AdminKey(Struct, frozen=True, kw_only=True):
    """A key to the administration, without itself. `state`: active, expired, revoked."""

    id: str
    public: str
    name: str
    organisation: str
    project: str
    principal: str
    role: Role
    scopes: list[Permission] | None
    created_at: int
    created_by: str
    expires_at: int
    revoked_at: int | None
    used_at: int | None
    state: str
    revision: int


class NewAdminKey(AdminKey, frozen=True, kw_only=True):
    """One just made; `key` is shown this once."""

    key: str


class EventQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which events: of what, by whom, of which kind (`key:create`, with or without its door), since and until when."""

    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    since: Annotated[int, Meta(ge=0, le=9_000_000_000)] | None = None
    until: Annotated[int, Meta(ge=0, le=9_000_000_000)] | None = None


class Event(Struct, frozen=True, kw_only=True):
    """One act. `at`: ISO 8601."""

    id: str
    at: str
    actor: str
    action: str
    subject: str
    organisation: str
    project: str
    before: Any
    after: Any


def shown(row: Row[Any], kind: type[Any], **more: Any) -> Any:
    """A row as one of the structs above: the columns that it has."""
    there = row._asdict() | more
    return msgspec.convert({name: there[name] for name in kind.__struct_fields__ if name in there}, kind)


def changes(change: Struct) -> dict[str, Any]:
    """What a change says, as plain data."""
    said = {name: getattr(change, name) for name in change.__struct_fields__}
    return {name: msgspec.to_builtins(value) for name, value in said.items() if value is not UNSET}
