# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys rotate`: by hand, with the successor on standard output; or by the key's schedule, which delivers it.

In: the command line. Out: acts of the control process, printed; a key's text once, on standard output alone.
The command makes a secret of its own for the successor (a claim) and asks again with it when an answer is lost: a control
process that is killed between the act and its answer loses no key and makes no second one.
"""

import secrets
import sys
from pathlib import Path

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import Span, at, expiry, organisation_option, print_new, quoted, reference, warn
from beffroi.core.key import PREFIX

PATIENCE = 30.0  # seconds for which a rotation whose answer was lost is asked for again


@click.command()
@click.argument("key", shell_complete=key_names)
@click.option(
    "--overlap",
    type=Span(),
    default="24h",
    show_default=True,
    help="How long the old key is still accepted: 24h, 30m, 7d, or 0 for not at all.",
)
@click.option("--auto", is_flag=True, help="Rotate by the key's schedule, which delivers the successor, now.")
@click.option("--in", "wait", type=Span(what="a wait"), default="0", help="With --auto: not now, but that much later.")
@organisation_option
@data_option
@show.output_options(csv=False)
def rotate(
    key: str, overlap: int, auto: bool, wait: int, organisation: str | None, data: Path | None, out: show.Output
) -> None:
    """Give KEY a successor and print it, this once.

    The successor may do what KEY may and shares its limits and budgets, so that both together never use more than one
    could. KEY is accepted beside it until the overlap ends, then refused; requests in progress finish.

    With --auto nothing is printed but the rotation: the successor goes where the key's schedule says, and the old key
    ends once nobody uses it any more, or its overlap is over.
    """
    if auto:
        _begin(data_directory(data), key, wait, organisation, out)
        return
    if wait:
        raise click.UsageError("--in goes with --auto")
    body = {"overlap_seconds": overlap, "claim": secrets.token_urlsafe(32)}
    path = at(f"/keys/{quoted(key)}/rotate", organisation)
    made = call(data_directory(data), "POST", path, body, patience=PATIENCE)
    old = f"{PREFIX}{made['old_public']}-…"
    ends = show.moment(made["old_expires_at"] * 1_000_000_000).text
    end = "is refused from now on" if overlap == 0 else f"is accepted until {ends}"
    said = f"{made['id']} ({show.safe(made['name'])}), {expiry(made)}, follows {old}, which {end}. The key is not shown again."
    print_new(made, out, said)
    if made["waiting"]:
        warn(made["waiting"], f"do not know of it yet: there, only {old} works")
        sys.exit(1 if overlap == 0 else 0)


def _begin(data: Path, key: str, wait: int, organisation: str | None, out: show.Output) -> None:
    body = {"key": reference(key), "in_seconds": wait}
    begun = call(data, "POST", at("/rotations", organisation), body, repeatable=False)
    if out.kind == "json":
        show.as_json(begun)
        return
    due = show.moment(begun["due_at"] * 1_000_000_000).text
    click.echo(f"{begun['id']}: the successor of {begun['key_id']} is made {'now' if not wait else f'on {due}'}.")
    click.echo(f"See how it goes with `beffroi keys rotations show {begun['id']}`.")
