# SPDX-License-Identifier: Apache-2.0
"""`beffroi webhooks`, `events`, `operations`: who is told, what was done, what is under way.

In: the command line. Out: what the admin API answers.
"""

import click

from beffroi.cli import show
from beffroi.cli.control import Control, control_options
from beffroi.cli.show import Column
from beffroi.cli.things.spec import Said, Shown, Thing, state, when
from beffroi.cli.things.verbs import group, organisation_option

_KEPT = (Shown("", "revision"), Shown("", "managed_by"))

webhooks = group(
    Thing(
        "webhooks",
        "webhook",
        "/api/v1/webhooks",
        "Make, list, change and remove webhooks.",
        (
            Shown("URL", "url", shrinks=True),
            Shown("EVENTS", "events", shrinks=True),
            Shown("STATE", "state", state),
            Shown("FAULT", "fault", shrinks=True, drop=1),
            Shown("ID", "id", drop=2),
            Shown("", "organisation"),
            *_KEPT,
        ),
        (
            Said("events", "An event it is told of, such as `key:create` or `key:*`; repeat for more.", flag="--event", many=True),
            Said("url", "Another address.", create=False),
            Said("state", "active or disabled.", click.Choice(["active", "disabled"]), create=False),
        ),
        key="url",
        argument="URL",
        names=("url",),
        secret="secret",  # noqa: S106 - the name of a field
        notes={"create": "Have URL told what happens. The secret of its signatures is printed, this once."},
    )
)  # fmt: skip


@click.group()
def events() -> None:
    """List who did what."""


@events.command("list")
@click.option("--subject", help="Of this thing alone, by its id.")
@click.option("--actor", help="By this one alone, by its id.")
@click.option("--action", help="Of this kind alone, such as `key:create`, or `api:key:create` for one door.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many.")
@organisation_option
@control_options
@show.output_options()
def list_events(
    subject: str | None,
    actor: str | None,
    action: str | None,
    limit: int,
    organisation: str | None,
    control: Control,
    out: show.Output,
) -> None:
    """List the last events, the newest first."""
    said = {"subject": subject, "actor": actor, "action": action, "organisation": organisation, "limit": str(limit)}
    query = {name: value for name, value in said.items() if value is not None}
    found = control.call("GET", "/api/v1/events", query=query)["data"]
    columns = [
        Column("AT"),
        Column("ACTION"),
        Column("SUBJECT", shrinks=True),
        Column("ACTOR", shrinks=True),
        Column("PROJECT", drop=1),
        Column("", "id"),
        Column("", "organisation"),
    ]
    rows: list[list[show.Value]] = [
        [one[name] for name in ("at", "action", "subject", "actor", "project", "id", "organisation")] for one in found
    ]
    out.table(columns, rows, document=found, empty="Nothing was done that fits.")


operations = group(
    Thing(
        "operations",
        "operation",
        "/api/v1/operations",
        "Look at long work and how far it is.",
        (
            Shown("ID", "id"),
            Shown("KIND", "kind"),
            Shown("STATE", "state", state),
            Shown("PROGRESS", "progress", lambda one: f"{one['progress']} %"),
            Shown("BY", "created_by", shrinks=True, drop=1),
            Shown("MADE", "created_at", when("created_at")),
            Shown("", "organisation"),
        ),
        names=("id",),
        verbs=frozenset(),
        empty="There is no long work.",
    )
)
