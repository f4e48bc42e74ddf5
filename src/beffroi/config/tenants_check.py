# SPDX-License-Identifier: Apache-2.0
"""What types cannot tell of a file of tenants: names that clash or are no names, amounts, moments, networks, addresses.

In: a `Declaration` and its marks. Out: its faults. What the file refers to and does not hold is not judged here.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from beffroi.config import moments
from beffroi.config.declaration import Declaration, Key, Limits, Organisation, Quota, Tier
from beffroi.config.problems import Broken, Marks, Place, Problem, dotted
from beffroi.core.money import parse_nano

_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MONEY = ("hard_budget", "soft_budget", "monthly_cap")
Found = Iterator[tuple[Place, str, str]]  # where, what is wrong, what to do


def check(declaration: Declaration, marks: Marks, broken: Broken) -> list[Problem]:
    """Every fault of sense; none at a place that is wrong already."""
    return [
        Problem(marks.value(place), dotted(place), message, remedy)
        for place, message, remedy in _all(declaration)
        if broken.sound(*place)
    ]


def _all(declaration: Declaration) -> Found:
    yield from _tiers(declaration.tiers, ("tiers",))
    yield from _twice(("organisations",), ((one.id,) for one in declaration.organisations), "organisation")
    for index, one in enumerate(declaration.organisations):
        place: Place = ("organisations", index)
        yield from _slug((*place, "id"), one.id)
        if one.policy is not None:
            yield from _networks(one.policy.addresses, (*place, "policy", "addresses"))
        for name, found in _PARTS.items():
            yield from found(one, (*place, name))


def _twice(place: Place, names: Iterable[tuple[object, ...]], what: str) -> Found:
    seen: dict[tuple[object, ...], int] = {}
    for index, name in enumerate(names):
        if name in seen:
            said = next(str(part) for part in reversed(name) if part)[:60] if any(name) else ""
            yield (*place, index), f"there are two {what}s `{said}`", "keep one of them, or give it another name"
        seen.setdefault(name, index)


def _slug(place: Place, text: str) -> Found:
    if not _SLUG.fullmatch(text):
        yield (
            place,
            f"`{text[:60]}` is no id",
            "write small letters a to z, figures and hyphens between them, 40 at most",
        )


def _words(place: Place, *texts: tuple[str, str]) -> Found:
    for name, text in texts:
        if _CONTROL.search(text):
            yield (*place, name), "holds a control character", "take it away"


def _projects(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((project.id,) for project in one.projects), "project")
    for index, project in enumerate(one.projects):
        yield from _slug((*place, index, "id"), project.id)
        yield from _words((*place, index), ("name", project.name))


def _members(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((who.project, who.email.lower()) for who in one.members), "member")
    for index, who in enumerate(one.members):
        if not _MAIL.fullmatch(who.email):
            yield (
                (*place, index, "email"),
                f"`{who.email[:60]}` is no mail address",
                "write one such as a.n@example.org",
            )
        yield from _words((*place, index), ("name", who.name))


def _accounts(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((who.name,) for who in one.service_accounts), "service account")
    for index, who in enumerate(one.service_accounts):
        yield from _words((*place, index), ("name", who.name))


def _systems(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((system.name,) for system in one.systems), "system")
    for index, system in enumerate(one.systems):
        yield from _words((*place, index), ("name", system.name), ("owner", system.owner))


def _keys(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((key.project, key.name) for key in one.keys), "key")
    for index, key in enumerate(one.keys):
        yield from _key(key, (*place, index))


def _key(key: Key, place: Place) -> Found:
    yield from _words(place, ("name", key.name))
    yield from _moment(key.expires, (*place, "expires"))
    yield from _limits(key.limits, (*place, "limits"))
    yield from _secret(key.secret_to, (*place, "secret_to"))
    for name in ("models", "endpoints"):
        if getattr(key, name) == ():
            yield (
                (*place, name),
                "is empty: the key could do nothing",
                "leave it out to permit all, or name what it may use",
            )
    yield from _networks(key.addresses, (*place, "addresses"))


def _networks(addresses: Sequence[str], place: Place) -> Found:
    for index, address in enumerate(addresses):
        try:
            ipaddress.ip_network(address)
        except ValueError:
            yield (*place, index), f"`{address[:60]}` is no network", f"write {_network(address)}"


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return "one such as 10.0.0.0/8, or an address such as 10.0.0.7"


def _secret(text: str | None, place: Place) -> Found:
    if text is not None and (not text.startswith("file:") or len(text) == len("file:")):
        yield place, "names no file", "write `file:PATH`, or leave it out to have it printed"


def _moment(text: str | None, place: Place) -> Found:
    if text is None:
        return
    try:
        moments.seconds(text, "UTC")
    except ValueError:
        yield place, f"`{text[:40]}` is no day or moment", "write 2027-01-31, or 2027-01-31T12:00:00+01:00"


def _limits(limits: Limits, place: Place) -> Found:
    for name in _MONEY:
        yield from _amount(getattr(limits, name), (*place, name))


def _amount(value: float | str | None, place: Place) -> Found:
    try:
        if value is not None:
            parse_nano(value)
    except ValueError as error:
        yield place, str(error).partition(";")[0], "write an amount such as 10.50, with nine decimals at most"


def _tiers(tiers: Sequence[Tier], place: Place) -> Found:
    yield from _twice(place, ((_at(tier.effective), tier.name) for tier in tiers), "tier")
    for index, tier in enumerate(tiers):
        here = (*place, index)
        yield from _slug((*here, "name"), tier.name)
        yield from _words(here, ("title", tier.title))
        yield from _moment(tier.effective, (*here, "effective"))
        yield from _limits(tier.limits, (*here, "limits"))
        yield from _amount(tier.credit, (*here, "credit"))


def _at(text: str | None) -> object:
    """What two moments are compared by; a day and its midnight in a zone that is not known here may pass for two."""
    try:
        return 0 if text is None else moments.seconds(text, "UTC")
    except ValueError:
        return text


def _own_tiers(one: Organisation, place: Place) -> Found:
    yield from _tiers(one.tiers, place)


def _quotas(one: Organisation, place: Place) -> Found:
    scopes = ((quota.each_end_user, quota.model, quota.key, quota.project) for quota in one.quotas)
    seen: set[object] = set()
    for index, scope in enumerate(scopes):
        if scope in seen:
            yield (*place, index), "there is a quota for the same requests already", "put their limits together"
        seen.add(scope)
    for index, quota in enumerate(one.quotas):
        yield from _quota(quota, (*place, index))


def _quota(quota: Quota, place: Place) -> Found:
    yield from _words(place, ("name", quota.name))
    ways = [name for name in ("tier", "limits", "terms") if getattr(quota, name) not in ("", Limits(), ())]
    if len(ways) > 1:
        both = " and ".join(f"`{way}`" for way in ways)
        yield (*place, ways[1]), f"has {both}", "keep one of them; a tier's limits are not mixed with others"
    elif not ways:
        yield place, "limits nothing", "add `limits`, `tier` or `terms`"
    yield from _limits(quota.limits, (*place, "limits"))
    moments_seen: set[object] = set()
    for index, term in enumerate(quota.terms):
        here = (*place, "terms", index)
        yield from _moment(term.since, (*here, "since"))
        yield from _limits(term.limits, (*here, "limits"))
        if bool(term.tier) == (term.limits != Limits()):
            yield here, "needs a tier, or limits, and not both", "keep one of them"
        if _at(term.since) in moments_seen:
            yield (*here, "since"), "begins when another one does", "keep one of them"
        moments_seen.add(_at(term.since))


def _webhooks(one: Organisation, place: Place) -> Found:
    yield from _twice(place, ((hook.url,) for hook in one.webhooks), "webhook")
    for index, hook in enumerate(one.webhooks):
        try:
            parts = urlsplit(hook.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and hook.url.isprintable()
        except ValueError:
            sound = False
        if not sound:
            yield (*place, index, "url"), "is no address", "write one such as https://example.org/hooks/beffroi"
        yield from _secret(hook.secret_to, (*place, index, "secret_to"))


_PARTS: dict[str, Callable[[Organisation, Place], Found]] = {
    "projects": _projects,
    "members": _members,
    "service_accounts": _accounts,
    "systems": _systems,
    "keys": _keys,
    "tiers": _own_tiers,
    "quotas": _quotas,
    "webhooks": _webhooks,
}
