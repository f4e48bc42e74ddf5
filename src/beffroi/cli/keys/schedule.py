# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys schedule`: when a key gets a successor by itself, and where that goes.

In: the command line. Out: a change of the key.
"""

from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import Span, at, organisation_option, quoted

_DAY = 86_400


@click.command()
@click.argument("key", shell_complete=key_names)
@click.option("--every", type=Span(_DAY, 366 * _DAY, "the time between two rotations"), help="Rotate that often: 90d.")
@click.option(
    "--off", is_flag=True, help="No schedule of its own; that of its organisation's policy holds, if it has one."
)
@click.option(
    "--notice", type=Span(what="a notice"), default="7d", show_default=True, help="Announce it so long before."
)
@click.option(
    "--overlap",
    type=Span(),
    default="7d",
    show_default=True,
    help="The old key ends so long after delivery at the latest.",
)
@click.option(
    "--idle",
    type=Span(300, what="the idle time"),
    default="24h",
    show_default=True,
    help="It ends earlier once nobody used it for that long.",
)
@click.option("--no-idle", is_flag=True, help="It does not end earlier.")
@click.option("--store", default="", help="Put the successor into this secret store; a one-time link when left out.")
@click.option("--path", "place", default="", help="Where in the store.")
@click.option("--field", default="api_key", show_default=True, help="Under which name there.")
@click.option("--mail", multiple=True, metavar="ADDRESS", help="Who is told, and sent the link; repeat for more.")
@click.option(
    "--link-life",
    type=Span(300, what="the life of a link"),
    default="3d",
    show_default=True,
    help="How long a link lives.",
)
@organisation_option
@data_option
@show.output_options(csv=False)
def schedule(
    key: str,
    every: int | None,
    off: bool,
    notice: int,
    overlap: int,
    idle: int,
    no_idle: bool,
    store: str,
    place: str,
    field: str,
    mail: tuple[str, ...],
    link_life: int,
    organisation: str | None,
    data: Path | None,
    out: show.Output,
) -> None:
    """Have KEY rotated by itself.

    It is announced, its successor delivered, and the old key ended once nobody uses it.
    """
    if off == (every is not None):
        raise click.UsageError("say --every SPAN, such as --every 90d, or --off")
    plan: dict[str, Any] | None = None
    if every is not None:
        plan = {
            "every_days": every // _DAY,
            "notice_seconds": notice,
            "overlap_seconds": overlap,
            "idle_seconds": None if no_idle else idle,
            "link_seconds": link_life,
            "delivery": {"store": store, "path": place, "field": field} if store else {},
            "mail": list(mail),
        }
    found = call(data_directory(data), "PATCH", at(f"/keys/{quoted(key)}", organisation), {"rotation": plan})
    if out.kind == "json":
        show.as_json(found)
        return
    name = f"{found['id']} ({show.safe(found['name'])})"
    if every is None:
        click.echo(f"{name} has no schedule of its own any more.")
        return
    to = f"goes into the store {store}" if store else f"is offered by a link{' in a mail' if mail else ''}"
    click.echo(f"{name} is rotated every {every // _DAY} days; its successor {to}.")
