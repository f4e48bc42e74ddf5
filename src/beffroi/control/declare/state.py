# SPDX-License-Identifier: Apache-2.0
"""What a file wants and what is there, in one form that can be compared: things with plain fields.

In: a `Declaration`. Out: `Thing`s, each value in its one spelling: amounts as exact decimals, moments as Unix seconds,
limits a field each, lists that are sets in order. What makes a thing the same thing in both is its kind, organisation, name.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, NamedTuple

import msgspec

from beffroi.config import moments
from beffroi.config.declaration import DEFAULT, Declaration, Limits, Organisation, Quota, Tier
from beffroi.config.problems import Place
from beffroi.control.rotation.shapes import Schedule
from beffroi.control.tenancy.shapes import Policy
from beffroi.core.money import parse_nano, to_decimal

HOUSE = "*"
KINDS = ("organisation", "tier", "project", "member", "service account", "AI system", "key", "quota", "webhook")
MONEY = frozenset({"hard_budget", "soft_budget", "monthly_cap"})
Fields = dict[str, Any]


class Ref(NamedTuple):
    """Which thing. `name` is a tuple of what tells it from others of its kind in its organisation."""

    kind: str
    organisation: str
    name: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == "tier":
            name, since = self.name
            begins = "" if since == "0" else f" from {datetime.fromtimestamp(int(since), UTC):%Y-%m-%d %H:%M}"
            return f"{name}{begins}" if self.organisation == HOUSE else f"{self.organisation}/{name}{begins}"
        parts = "/".join(part for part in self.name if part)
        if self.kind == "organisation":
            return self.organisation
        return parts if self.organisation == HOUSE else f"{self.organisation}/{parts}" if parts else self.organisation


class Thing(msgspec.Struct, frozen=True):
    """One thing.

    Attributes:
        fields: what can be compared; of a wanted thing, what is not in it stays as it is.
        place: where the file says so; id, revision, managed_by: of one that is there.
    """

    ref: Ref
    fields: Fields
    place: Place = ()
    id: str = ""
    revision: int = 0
    managed_by: str = ""

    @property
    def label(self) -> str:
        """`key acme/chat/intranet`."""
        return f"{self.ref.kind} {self.ref}"


def amount(value: float | str) -> str:
    """The one spelling of an amount of money: `10.5` of `"10.50"`."""
    return exact(parse_nano(value))


def exact(nano: int) -> str:
    """An amount of nano-units in that spelling."""
    return f"{to_decimal(nano):f}"


def limits(found: Limits) -> Fields:
    """Those that are set; the period of budgets stands only beside one."""
    fields: Fields = {}
    for name, value in msgspec.structs.asdict(found).items():
        if name != "budget_period" and value is not None:
            fields[name] = amount(value) if name in MONEY else value
    if found.hard_budget is not None or found.soft_budget is not None:
        fields["budget_period"] = found.budget_period
    return fields


def kept(stored: dict[str, Any]) -> Fields:
    """The same of limits as they are stored, in nano-units and without what is a default."""
    fields = {name: value for name, value in stored.items() if value is not None and name != "budget_period"}
    for name in MONEY & fields.keys():
        fields[name] = exact(fields[name])
    if "hard_budget" in fields or "soft_budget" in fields:
        fields["budget_period"] = stored.get("budget_period", "month")
    return fields


def policy(found: dict[str, Any]) -> Fields:
    """The policy of an organisation, a field for each of its parts."""
    whole = msgspec.to_builtins(msgspec.convert({**found}, Policy, strict=False))
    whole = {field: whole.get(field, getattr(Policy(), field)) for field in Policy.__struct_fields__}
    return {f"policy.{name}": networks(part) if name == "addresses" else part for name, part in whole.items()}


def schedule(found: dict[str, Any]) -> Fields:
    """A schedule of rotations, with what it leaves out."""
    made: Fields = msgspec.to_builtins(msgspec.convert(found, Schedule))
    made["mail"] = list(made["mail"])
    return made


def networks(texts: Iterable[str]) -> list[str]:
    """Networks in their one spelling and in order; what is none is left as it is."""
    found = set()
    for text in texts:
        try:
            found.add(str(ip_network(text)))
        except ValueError:
            found.add(text)
    return sorted(found)


def flat(found: Fields) -> Fields:
    """Limits as fields of their own, so that a difference names the one."""
    return {f"limits.{name}": value for name, value in found.items()}


def under(word: str, found: Fields) -> Fields:
    """Fields that are parts of one thing, `limits.…` or `policy.…`, by the names that they have in it."""
    return {name.removeprefix(f"{word}."): value for name, value in found.items() if name.startswith(f"{word}.")}


def wanted(declaration: Declaration, zone: str) -> list[Thing]:
    """All that a sound file declares, in the order in which it can be made."""
    found = list(_tiers(HOUSE, declaration.tiers, ("tiers",), zone))
    for index, one in enumerate(declaration.organisations):
        found += _organisation(one, ("organisations", index), zone)
    return sorted(found, key=lambda thing: KINDS.index(thing.ref.kind))  # stable: the file's order within a kind


def _tiers(organisation: str, tiers: tuple[Tier, ...], place: Place, zone: str) -> Iterator[Thing]:
    for index, tier in enumerate(tiers):
        since = str(0 if tier.effective is None else moments.seconds(tier.effective, zone))
        fields = {"title": tier.title, "credit": None if tier.credit is None else amount(tier.credit)}
        yield Thing(Ref("tier", organisation, (tier.name, since)), fields | flat(limits(tier.limits)), (*place, index))


def _organisation(one: Organisation, place: Place, zone: str) -> Iterator[Thing]:
    def thing(kind: str, name: tuple[str, ...], fields: Fields, *where: str | int) -> Thing:
        return Thing(Ref(kind, one.id, name), fields, (*place, *where))

    fields: Fields = {"state": one.state, **({"name": one.name} if one.name else {})}
    yield thing("organisation", (), fields | ({} if one.policy is None else policy(msgspec.to_builtins(one.policy))))
    for at, project in enumerate(one.projects):
        fields = {"state": project.state, **({"name": project.name} if project.name else {})}
        yield thing("project", (project.id,), fields, "projects", at)
    for at, member in enumerate(one.members):
        fields = {"name": member.name, "role": member.role, "state": member.state}
        yield thing("member", (member.project, member.email.lower()), fields, "members", at)
    for at, account in enumerate(one.service_accounts):
        fields = {"role": account.role, "project": account.project, "state": account.state}
        yield thing("service account", (account.name,), fields, "service_accounts", at)
    for at, system in enumerate(one.systems):
        fields = {"purpose": system.purpose, "owner": system.owner, "models": sorted(set(system.models))}
        fields |= {"project": system.project, "state": system.state}
        yield thing("AI system", (system.name,), fields, "systems", at)
    for at, key in enumerate(one.keys):
        fields = {
            "models": None if key.models is None else sorted(set(key.models)),
            "endpoints": None if key.endpoints is None else sorted(set(key.endpoints)),
            "addresses": networks(key.addresses),
            "system": key.system,
            "owner": key.owner,
            "rotation": None if key.rotation is None else schedule(msgspec.to_builtins(key.rotation)),
            **flat(limits(key.limits)),
        }
        if key.expires is not None:
            fields["expires"] = moments.seconds(key.expires, zone)
        yield thing("key", (key.project, key.name), fields, "keys", at)
    yield from _tiers(one.id, one.tiers, (*place, "tiers"), zone)
    for at, quota in enumerate(one.quotas):
        yield thing("quota", scope(quota), {"name": quota.name, "terms": _terms(quota, zone)}, "quotas", at)
    for at, hook in enumerate(one.webhooks):
        fields = {"events": sorted(set(hook.events)), "state": hook.state}
        yield thing("webhook", (hook.url,), fields, "webhooks", at)


def scope(quota: Quota) -> tuple[str, ...]:
    """Which requests a quota counts: project, key, model, and whether each end user apart."""
    project = quota.project or (DEFAULT if quota.key else "")
    return scope_name(project, quota.key, quota.model, each_end_user=quota.each_end_user)


def scope_name(project: str, key: str, model: str, *, each_end_user: bool) -> tuple[str, ...]:
    """The name of a quota with that scope."""
    return (
        f"project {project}" if project else "",
        f"key {key}" if key else "",
        f"model {model}" if model else "",
        "each end user" if each_end_user else "",
    )


def _terms(quota: Quota, zone: str) -> list[Fields]:
    if not quota.terms:
        return [term(0, quota.tier, limits(quota.limits))]
    found = [
        term(0 if one.since is None else moments.seconds(one.since, zone), one.tier, limits(one.limits))
        for one in quota.terms
    ]
    return sorted(found, key=lambda one: int(one["since"]))


def term(since: int, tier: str, found: Fields) -> Fields:
    """What holds from a moment on: a tier, or limits."""
    return {"since": since, "tier": tier} if tier else {"since": since, "limits": found}
