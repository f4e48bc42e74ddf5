# SPDX-License-Identifier: Apache-2.0
"""Writes what is there as a document that declares it: applied anew, it changes nothing.

In: a scope of one organisation or of all. Out: plain data in the shape of a file of tenants, without what is a default.
What cannot be named in a file is left out: keys that have ended, a second living key of one name, parts of other kinds.
"""

from typing import Any

from sqlalchemy import Row

from beffroi.config import moments
from beffroi.config.declaration import DEFAULT
from beffroi.control.declare import held
from beffroi.control.declare.state import Fields, Thing, under
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.control.tenancy.shapes import Policy
from beffroi.store import tables as t

_PLURALS = {
    "project": "projects",
    "member": "members",
    "service account": "service_accounts",
    "AI system": "systems",
    "key": "keys",
    "tier": "tiers",
    "quota": "quotas",
    "webhook": "webhooks",
}
_ALL: tuple[Any, ...] = ("", None, [], {}, "active", False)


def export(scope: Scope, zone: str, now: int) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = {}
    if scope.organisation == EVERY and (found := held.tiers_of_house(scope)):
        document["tiers"] = [_tier(thing, zone) for thing in found]
    document["organisations"] = []
    for row in scope.connection.execute(scope.select(t.organisations).order_by(t.organisations.c.id)).all():
        document["organisations"].append(_organisation(scope, row, zone, now))
    return document


def _organisation(scope: Scope, row: Row[Any], zone: str, now: int) -> dict[str, Any]:
    if scope.organisation == EVERY:
        with scope.within(row.id) as inner:
            things = held.there(inner, now)
    else:
        things = held.there(scope, now)
    whole: dict[str, Any] = {"id": row.id}
    parts: dict[str, list[dict[str, Any]]] = {}
    seen = set()
    for thing in things:
        if thing.ref.kind == "organisation":
            whole |= _plain({"name": thing.fields["name"], "state": thing.fields["state"]})
            if said := _policy(thing.fields):
                whole["policy"] = said
        elif thing.ref not in seen:
            seen.add(thing.ref)
            parts.setdefault(_PLURALS[thing.ref.kind], []).append(_thing(thing, zone))
    return whole | {plural: parts[plural] for plural in _PLURALS.values() if plural in parts}


def _policy(fields: Fields) -> Fields:
    usual = Policy()
    return {name: value for name, value in under("policy", fields).items() if value != getattr(usual, name)}


def _thing(thing: Thing, zone: str) -> dict[str, Any]:
    kind, fields, name = thing.ref.kind, thing.fields, thing.ref.name
    if kind == "project":
        return _plain({"id": name[0], "name": fields["name"], "state": fields["state"]})
    if kind == "member":
        return _plain({"email": name[1], "role": fields["role"], "name": fields["name"], "project": name[0], "state": fields["state"]})  # fmt: skip
    if kind == "key":
        return _key(thing, zone)
    if kind == "tier":
        return _tier(thing, zone)
    if kind == "quota":
        return _quota(thing, zone)
    return _plain({"url" if kind == "webhook" else "name": name[0], **fields})


def _key(thing: Thing, zone: str) -> dict[str, Any]:
    fields = {name: value for name, value in thing.fields.items() if "." not in name and name != "expires"}
    project, name = thing.ref.name
    found = {"name": name, **({} if project == DEFAULT else {"project": project}), **_plain(fields)}
    if limits := _limits(thing.fields):
        found["limits"] = limits
    if thing.fields["expires"] is not None:
        found["expires"] = moments.text(thing.fields["expires"], zone)
    return found


def _tier(thing: Thing, zone: str) -> dict[str, Any]:
    name, since = thing.ref.name
    found = _plain({"name": name, "title": thing.fields["title"]})
    if since != "0":
        found["effective"] = moments.text(int(since), zone)
    if limits := _limits(thing.fields):
        found["limits"] = limits
    if thing.fields["credit"] is not None:
        found["credit"] = thing.fields["credit"]
    return found


def _quota(thing: Thing, zone: str) -> dict[str, Any]:
    project, key, model, each = thing.ref.name
    found: dict[str, Any] = {"name": thing.fields["name"]} if thing.fields["name"] else {}
    for word, text in (("project", project), ("key", key), ("model", model)):
        if text:
            found[word] = text.partition(" ")[2]
    if each:
        found["each_end_user"] = True
    terms = thing.fields["terms"]
    if len(terms) == 1 and terms[0]["since"] == 0:
        return found | {name: part for name, part in terms[0].items() if name != "since"}
    found["terms"] = [_plain(_term(term, zone)) for term in terms]
    return found


def _term(term: Fields, zone: str) -> Fields:
    since = {"since": moments.text(term["since"], zone)} if term["since"] else {}
    return since | {name: part for name, part in term.items() if name != "since"}


def _limits(fields: Fields) -> Fields:
    found = under("limits", fields)
    if found.get("budget_period") == "month":
        del found["budget_period"]
    return found


def _plain(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value not in _ALL}
