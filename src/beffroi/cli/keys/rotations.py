# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys rotations`: those under way and over, a link to a successor, giving one up.

In: the command line. Out: what control says; a link once, on standard output alone.
"""

from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import at, organisation_option, pages, reference, warn
from beffroi.cli.show import Column

_GOOD = {"announced": "", "made": show.WARN, "overlap": show.WARN, "ended": show.GOOD, "cancelled": show.DIM}


@click.group()
def rotations() -> None:
    """See rotations of keys, get a link to a successor, give one up."""


@rotations.command("list")
@click.option("--key", help="Of this key alone.")
@click.option("--state", type=click.Choice(list(_GOOD)), help="In this state alone.")
@organisation_option
@data_option
@show.output_options()
def list_rotations(
    key: str | None, state: str | None, organisation: str | None, data: Path | None, out: show.Output
) -> None:
    """List rotations, the youngest last."""
    asked = None if key is None else reference(key)
    found = list(pages(data_directory(data), "/rotations", organisation, key=asked, state=state))
    columns = [
        Column("ROTATION"),
        Column("KEY", shrinks=True, drop=2),
        Column("STATE"),
        Column("NEXT", "next_at"),
        Column("ENDS", "ends_at", drop=1),
        Column("FAULT", shrinks=True),
    ]
    rows: list[list[show.Value]] = [
        [each["id"], each["key_id"], _state(each), _when(each), _moment(each["ends_at"]), each["fault"]]
        for each in found
    ]
    out.table(columns, rows, document=found, empty="No key was rotated yet.")


@rotations.command("show")
@click.argument("rotation")
@organisation_option
@data_option
@show.output_options()
def show_rotation(rotation: str, organisation: str | None, data: Path | None, out: show.Output) -> None:
    """Show one rotation.

    Where it is, what it waits for, why it does not get on.
    """
    found = call(data_directory(data), "GET", at(f"/rotations/{rotation}", organisation))
    plan = found["plan"]
    store = (plan.get("delivery") or {}).get("store")
    pairs: list[tuple[str, show.Value]] = [
        ("id", found["id"]),
        ("state", _state(found)),
        ("key", found["key_id"]),
        ("successor", found["successor"] or "not made yet"),
        ("due", _moment(found["due_at"])),
        (
            "goes to",
            f"the store {store}" if store else _offered(found) if "every_days" in plan else "who asked for it",
        ),
        ("old key ends", _moment(found["ends_at"]) or "not before the successor is delivered"),
        ("looked at", _when(found) or "not any more"),
    ]
    if found["link_until"]:
        pairs.append(("link until", _moment(found["link_until"])))
    if found["fetched_at"]:
        pairs.append(("fetched", _moment(found["fetched_at"])))
    if found["fault"]:
        pairs.append(
            ("fault", show.Cell(f"{found['fault']} ({found['attempts']} times)", found["fault"], style=show.BAD))
        )
    out.record(pairs, document=found)


@rotations.command()
@click.argument("rotation")
@organisation_option
@data_option
@show.output_options(csv=False)
def link(rotation: str, organisation: str | None, data: Path | None, out: show.Output) -> None:
    """Print a one-time link to the successor.

    Links of ROTATION from before lead nowhere from then on.
    """
    made = call(data_directory(data), "POST", at(f"/rotations/{rotation}/link", organisation), {}, repeatable=False)
    if out.kind == "json":
        show.as_json(made)
        return
    click.echo(made["link"])
    click.echo(f"It answers once, until {_moment(made['until'])}. It is not shown again.", err=True)
    warn(made["waiting"], "do not know the successor yet")


@rotations.command()
@click.argument("rotation")
@organisation_option
@data_option
@show.output_options(csv=False)
def cancel(rotation: str, organisation: str | None, data: Path | None, out: show.Output) -> None:
    """Give ROTATION up; the key goes on as it was.

    It can be done as long as the successor is not delivered.
    """
    found = call(data_directory(data), "POST", at(f"/rotations/{rotation}/cancel", organisation), {}, repeatable=False)
    if out.kind == "json":
        show.as_json(found)
    else:
        click.echo(f"{found['id']} is given up; {found['key_id']} goes on as it was.")


def _offered(found: dict[str, Any]) -> str:
    if found["state"] == "made" and not found["link_until"]:
        return f"whoever asks for its link: beffroi keys rotations link {found['id']}"
    return "a one-time link"


def _state(found: dict[str, Any]) -> show.Cell:
    bad = bool(found["fault"]) and found["state"] not in ("cancelled", "ended")
    return show.Cell(found["state"], found["state"], style=show.BAD if bad else _GOOD[found["state"]])


def _when(found: dict[str, Any]) -> str:
    return "" if found["state"] in ("ended", "cancelled") else _moment(found["next_at"])


def _moment(at_s: int | None) -> str:
    return "" if at_s is None else show.moment(at_s * 1_000_000_000).text
