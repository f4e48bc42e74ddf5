# SPDX-License-Identifier: Apache-2.0
"""`beffroi quotas` and `beffroi tiers`: limits on organisations, projects, keys, models, end users.

In: the command line. Out: what the admin API answers; what is used of a quota now.
"""

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import click

from beffroi.cli import show
from beffroi.cli.control import Control, control_options
from beffroi.cli.limits import BUDGETS
from beffroi.cli.show import Column
from beffroi.cli.things.spec import LIMIT_OPTIONS, Record, Said, Shown, Thing, state
from beffroi.cli.things.verbs import find, group, organisation_option, within
from beffroi.core.ids import new_id

F = TypeVar("F", bound=Callable[..., Any])
_SINCE = "Day, or Unix seconds, from which it holds; now when left out."


def _said(limits: Record | None) -> str:
    """Limits on one line."""
    found = dict(limits or {})
    period = found.pop("budget_period", "month")
    parts = []
    for name, value in found.items():
        if value is None:
            continue
        amount = show.money(value).text if name in BUDGETS else str(value)
        more = f"/{period}" if name in ("hard_budget", "soft_budget") else ""
        parts.append(f"{name.replace('_', ' ')} {amount}{more}")
    return ", ".join(parts) or "no limit"


def _in_force(record: Record) -> show.Value:
    term = record.get("in_force")
    if term is None:
        return "nothing yet"
    return f"tier {term['tier']}" if term["tier"] else _said(term["limits"])


def _shape(body: Record, creates: bool) -> Record:
    """Limits that were said become a term of the quota."""
    term = {name: body.pop(name) for name in ("tier", "limits", "since") if name in body}
    if "limits" in term:
        term["limits"] = {name: value for name, value in term["limits"].items() if value is not None}
    if creates:
        return body | term
    if term:
        body["add"] = {"since": int(time.time())} | term
    return body


_QUOTAS = Thing(
    "quotas",
    "quota",
    "/api/v1/quotas",
    "Limit tenants, keys, models and end users.",
    (
        Shown("SCOPE", "scope", shrinks=True),
        Shown("IN FORCE", "in_force", _in_force, shrinks=True),
        Shown("NAME", "name", lambda one: one["name"] or None, shrinks=True, drop=1),
        Shown("STATE", "state", state),
        Shown("ID", "id", drop=2),
        *(
            Shown("", name)
            for name in ("organisation", "project", "key", "model", "each_end_user", "revision", "managed_by")
        ),
    ),
    (
        Said("project", "Requests of this project alone.", update=False),
        Said("key", "Requests with this key alone.", update=False),
        Said("model", "Requests for this model alone.", update=False),
        Said("each_end_user", "Count every end user apart.", bool, update=False),
        Said("tier", "Tier whose limits hold."),
        Said("since", _SINCE),
        *LIMIT_OPTIONS,
    ),
    names=("name", "scope"),
    notes={
        "create": "Limit all requests that match each option. NAME is for people.",
        "update": "Give QUOTA other limits, or another tier. They replace all that it had, from now on or from --since on.",
        "delete": "Remove QUOTA; what it counted is forgotten.",
    },
    shape=_shape,
)
quotas = group(_QUOTAS)


@quotas.command("use")
@click.argument("quota")
@click.option("--end-user", help="Of this end user, where each has counters of its own.")
@organisation_option
@control_options
@show.output_options()
def use(quota: str, end_user: str | None, organisation: str | None, control: Control, out: show.Output) -> None:
    """Show what is used of QUOTA now, what is left, and when more returns."""
    query = within(organisation)
    found = find(_QUOTAS, control, quota, query)
    asked = query | ({"end_user": end_user} if end_user else {})
    standing = control.call("GET", f"/api/v1/quotas/{quote(found['id'], safe='')}/standing", query=asked)
    columns = [Column("LIMIT"), Column("USED"), Column("OF", "allowed"), Column("LEFT"), Column("SHARE", "-"), Column("MORE", "-")]  # fmt: skip
    rows = [_use(one) for one in standing["uses"]]
    out.table(columns, rows, document=standing, empty="Nothing is limited by it now.")


def _use(one: Record) -> list[show.Value]:
    money = one["limit"] in BUDGETS
    used, whole, left = (show.money(one[name]) if money else one[name] for name in ("used", "allowed", "left"))
    seconds = one["resets_in"]
    more = f"in {show.duration(math.ceil(seconds))}" if one["used"] and seconds else ""
    return [one["limit"].replace("_", " "), used, whole, left, show.bar(one["used"], one["allowed"]), more]


@click.group()
def tiers() -> None:
    """Make, list and assign tiers, in versions."""


@tiers.command("list")
@organisation_option
@control_options
@show.output_options()
def list_tiers(organisation: str | None, control: Control, out: show.Output) -> None:
    """List tiers with all their versions.

    Those of the house are everybody's.
    """
    found = control.pages("/api/v1/tiers", query=within(organisation))
    _table([version for versions in found for version in versions], out)


@tiers.command("show")
@click.argument("name")
@organisation_option
@control_options
@show.output_options()
def show_tier(name: str, organisation: str | None, control: Control, out: show.Output) -> None:
    """Show every version of the tier NAME."""
    query = within(organisation)
    _table(control.call("GET", f"/api/v1/tiers/{quote(name, safe='')}", query=query), out)


def _table(versions: list[Record], out: show.Output) -> None:
    columns = [
        Column("NAME"), Column("VERSION"), Column("STATE"), Column("FROM", "effective_at"),
        Column("LIMITS", "-", shrinks=True), Column("TITLE", shrinks=True, drop=1), Column("CREDIT", "credit", drop=2),
        Column("OF", "organisation", drop=3), Column("", "managed_by"),
    ]  # fmt: skip
    rows: list[list[show.Value]] = [
        [
            one["name"], one["version"], show.state(one["state"], show.GOOD if one["state"] == "in force" else show.DIM),
            show.day(one["effective_at"]) if one["effective_at"] else "the beginning", _said(one["limits"]), one["title"] or None,
            None if one["credit_nano"] is None else show.money(one["credit_nano"]),
            "all" if one["organisation"] == "*" else one["organisation"], one["managed_by"],
        ]
        for one in versions
    ]  # fmt: skip
    out.table(columns, rows, document=versions, empty="There are no tiers; make one with `beffroi tiers create NAME`.")


def _limits(command: F) -> F:
    """Adds an option for each limit."""
    for limit in reversed(LIMIT_OPTIONS):
        command = click.option(limit.name, limit.field, type=limit.kind, help=limit.help)(command)
    return command


@tiers.command("create")
@click.argument("name")
@click.option("--title", help="What people call it.")
@click.option(
    "--effective", metavar="MOMENT", help="Day, or Unix seconds, from which it holds; the beginning when left out."
)
@click.option("--credit", metavar="AMOUNT", help="Prepaid credit that goes with it; shown, and counted by nobody yet.")
@_limits
@organisation_option
@control_options
@show.output_options(csv=False)
def create(
    name: str,
    title: str | None,
    effective: str | None,
    credit: str | None,
    organisation: str | None,
    control: Control,
    out: show.Output,
    **limits: Any,
) -> None:
    """Make the tier NAME, or its next version. `--organisation '*'` makes it everybody's."""
    said = {"title": title, "effective": effective, "credit": credit}
    body: Record = {"name": name} | {field: value for field, value in said.items() if value is not None}
    body["limits"] = {limit: value for limit, value in limits.items() if value is not None}
    query = within(organisation)
    made = control.call("POST", "/api/v1/tiers", body, query=query, once=new_id("op"))
    if out.kind == "json":
        show.as_json(made)
    else:
        click.echo(f"{show.safe(made['name'])}: version {made['version']} made, {made['state']}.")


@tiers.command("delete")
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@organisation_option
@control_options
@show.output_options(csv=False)
def delete(name: str, version: int, organisation: str | None, control: Control, out: show.Output) -> None:
    """Take back VERSION of the tier NAME.

    It must be one that has not begun, or that no quota names.
    """
    query = within(organisation)
    control.call("DELETE", f"/api/v1/tiers/{quote(name, safe='')}/versions/{version}", query=query)
    if out.kind == "json":
        show.as_json({"name": name, "version": version, "done": "delete"})
    else:
        click.echo(f"{show.safe(name)}: version {version} taken back.")


@tiers.command("assign")
@click.argument("name")
@click.option("--project", help="One project of the organisation; all of it when left out.")
@click.option("--since", metavar="MOMENT", help=_SINCE)
@organisation_option
@control_options
@show.output_options(csv=False)
def assign(
    name: str, project: str | None, since: str | None, organisation: str | None, control: Control, out: show.Output
) -> None:
    """Give an organisation, or one of its projects, the tier NAME."""
    body = {field: value for field, value in (("project", project), ("since", since)) if value is not None}
    query = within(organisation)
    made = control.call("POST", f"/api/v1/tiers/{quote(name, safe='')}/assign", body, query=query)
    if out.kind == "json":
        show.as_json(made)
    else:
        click.echo(f"{made['id']}: {show.safe(made['scope'])} has the tier {show.safe(name)}.")
