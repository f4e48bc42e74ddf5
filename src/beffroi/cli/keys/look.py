# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys list` and `show`.

In: the command line. Out: keys, never their texts.
"""

import math
from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import at, organisation_option, pages, quoted
from beffroi.cli.limits import BUDGETS, LIMITS
from beffroi.cli.show import Column
from beffroi.core.key import PREFIX


@click.command("list")
@click.option("--project", metavar="ID", help="Of this project alone.")
@click.option("--owner", metavar="WHO", help="Of this owner alone.")
@click.option("--system", metavar="ID", help="Of this AI system alone.")
@click.option("--organisation", metavar="ID", help="Of this organisation alone.")
@data_option
@show.output_options()
def list_keys(
    project: str | None,
    owner: str | None,
    system: str | None,
    organisation: str | None,
    data: Path | None,
    out: show.Output,
) -> None:
    """List all keys, those revoked too. Keys themselves are stored nowhere."""
    asked = {"project": project, "owner": owner, "system": system}
    found = list(pages(data_directory(data), "/keys", organisation, **asked))
    columns = [
        Column("NAME", shrinks=True),
        Column("KEY"),
        Column("STATE"),
        Column("EXPIRES", "expires_at", drop=1),
        Column("MODELS", shrinks=True),
        Column("LIMITS", "-", shrinks=True),
        Column("", "id"),
        *(Column("", name) for name in (*LIMITS, *BUDGETS, "budget_period")),
    ]
    rows: list[list[show.Value]] = [
        [
            key["name"],
            show.Cell(f"{PREFIX}{key['public']}-…", f"{PREFIX}{key['public']}"),
            show.state(key["state"]),
            show.day(key["expires_at"]),
            _models(key),
            ", ".join(_limits(key)) or "none",
            key["id"],
            *(key["limits"].get(name) for name in LIMITS),
            *(None if (nano := key["limits"].get(name)) is None else show.money(nano) for name in BUDGETS),
            key["limits"].get("budget_period", "month"),
        ]
        for key in found
    ]
    out.table(columns, rows, document=found, empty="There are no keys; make one with `beffroi keys create NAME`.")


@click.command("show")
@click.argument("key", shell_complete=key_names)
@organisation_option
@data_option
@show.output_options()
def show_key(key: str, organisation: str | None, data: Path | None, out: show.Output) -> None:
    """Show what KEY may do, and what is used of each limit. KEY is its id, its name, or its first part (bf-…-)."""
    found = call(data_directory(data), "GET", at(f"/keys/{quoted(key)}", organisation))
    columns = [
        Column("LIMIT"),
        Column("USED"),
        Column("OF"),
        Column("LEFT"),
        Column("", "resets_in_seconds"),
        Column("SHARE", "-", drop=1),
        Column("MORE", "-"),
    ]
    rows = [_use(found, use) for use in found["use"]]
    if out.kind != "people":
        out.table(columns, rows, document=found)
        return
    pairs: list[tuple[str, show.Value]] = [
        ("name", found["name"]),
        ("id", found["id"]),
        ("key", f"{PREFIX}{found['public']}-…"),
        ("state", show.state(found["state"])),
        ("made", f"{show.moment(found['created_at'] * 1_000_000_000).text} by {found['created_by']}"),
        ("expires", show.moment_or_never(found["expires_at"])),
        ("models", _models(found)),
        *([("endpoints", ",".join(found["endpoints"]) or "none")] if found["endpoints"] is not None else []),
        *([("addresses", ", ".join(found["addresses"]))] if found["addresses"] else []),
        ("project", f"{found['organisation']}/{found['project']}"),
        *((name, found[name]) for name in ("owner", "system") if found[name]),
        ("last used", "never" if found["used_at"] is None else show.moment(found["used_at"] * 1_000_000_000).text),
        *([("rotated", f"every {found['rotation']['every_days']} days, by itself")] if found["rotation"] else []),
    ]
    pairs += [(name.replace("_", " "), found[name]) for name in ("rotated_from", "rotated_to") if found[name]]
    if found["revoked_at"]:
        pairs.insert(4, ("revoked", show.moment(found["revoked_at"] * 1_000_000_000)))
    out.record(pairs, document=found)
    click.echo()
    if not rows:
        click.echo("It has no limits.")
        return
    out.table(columns, rows, document=found)
    if found["rotated_from"] or found["rotated_to"]:
        click.echo(show.paint("Keys that were rotated from one another count together.", show.DIM))


def _models(key: dict[str, Any]) -> str:
    return "all" if key["models"] is None else ",".join(key["models"])


def _limits(key: dict[str, Any]) -> list[str]:
    limits = key["limits"]
    period = limits.get("budget_period", "month")
    return [f"{limits[name]} {unit}" for name, (unit, _) in LIMITS.items() if limits.get(name) is not None] + [
        f"{name.partition('_')[0]} {show.money(limits[name]).text}/{period}"
        for name in BUDGETS
        if limits.get(name) is not None
    ]


def _use(key: dict[str, Any], use: dict[str, Any]) -> list[show.Value]:
    """A row: the limit, what is used, the whole, what is left, when more returns, and the share as a bar."""
    budget = use["name"] in BUDGETS
    period = key["limits"].get("budget_period", "month")
    name = f"{use['name'].replace('_', ' ')}/{period}" if budget else LIMITS[use["name"]][0]
    used, limit, left = (show.money(use[n]) if budget else use[n] for n in ("used", "limit", "remaining"))
    share = show.bar(use["used"], use["limit"])
    seconds = use["resets_in"]
    more = "" if not use["used"] or not seconds else f"in {show.duration(math.ceil(seconds))}"
    return [show.Cell(name, use["name"]), used, limit, left, math.ceil(seconds), share, more]
