# SPDX-License-Identifier: Apache-2.0
"""`beffroi plan`, `apply`, `export`: what a file of tenants would change, changing it, and such a file of what is there.

In: a file; a running Beffroi. Out: the plan as people see it at once, or JSON; new keys, once; a file.
`plan` exits with 0 where nothing is to do, with 2 where something is, with 1 where it cannot be told.
"""

import sys
from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import Failure
from beffroi.cli.control import Control, control_options
from beffroi.cli.declare import picture
from beffroi.cli.declare.secrets import Places
from beffroi.cli.settings import count, tell
from beffroi.config import tenants
from beffroi.config.load import Problem, dotted
from beffroi.config.tenants import Told
from beffroi.core.ids import new_id

CHANGES = 2
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_ADOPT = click.option(
    "--adopt",
    is_flag=True,
    help="What FILE declares and was made by hand is kept by `apply` from then on, and read-only elsewhere.",
)
_PRUNE = click.option(
    "--prune", is_flag=True, help="Also take away what an earlier `apply` made and FILE names no longer."
)


@click.command(short_help="Show what applying a file of tenants would change.")
@_FILE
@_PRUNE
@_ADOPT
@control_options
@show.output_options(csv=False)
def plan(file: Path, prune: bool, adopt: bool, control: Control, out: show.Output) -> None:
    """Show what applying FILE would change, and change nothing.

    FILE declares organisations, projects, members, service accounts, AI systems, keys, tiers, quotas, webhooks. `+` is
    new, `~` changes, `-` goes. The status is 0 if there is nothing to do, 2 if there is, 1 if FILE has faults.
    """
    _, found = _planned(file, control, prune=prune, adopt=adopt)
    if out.kind == "json":
        show.as_json(found)
    else:
        _show(found)
    sys.exit(CHANGES if found["changes"] else 0)


@click.command(short_help="Make tenants what a file declares.")
@_FILE
@_PRUNE
@_ADOPT
@click.option("--yes", is_flag=True, help="Do not ask.")
@control_options
@show.output_options(csv=False)
def apply(file: Path, prune: bool, adopt: bool, yes: bool, control: Control, out: show.Output) -> None:
    """Make tenants what FILE declares: all of it, or nothing.

    Shows what would change and asks. A new key is written once to where the file says, or printed. What `apply` makes is
    read-only elsewhere. What was made by hand and FILE does not name is left alone.
    """
    told, found = _planned(file, control, prune=prune, adopt=adopt)
    if out.kind != "json":
        _show(found)
    if not found["changes"]:
        if out.kind == "json":
            show.as_json({"changes": [], "secrets": [], "unchanged": found["unchanged"]})
        return
    if not yes:
        _ask()
    with Places(file.parent) as places:
        for reference in found["secrets_to"]:
            places.reserve(reference)
        body = {
            "document": tenants.as_plain(told.declaration),
            "prune": prune,
            "adopt": adopt,
            "base": found["base"],
        }
        done = control.call("POST", "/api/v1/apply", body, once=new_id("op"))
        written = [(secret, places.write(secret)) for secret in done["secrets"]]
    if out.kind == "json":
        done["secrets"] = [_told_once(secret, path) for secret, path in written]
        show.as_json(done)
        return
    for secret, path in written:
        if path is None:
            click.echo(f"{secret['kind']} {show.safe(secret['name'])}, shown this once:", err=True)
            click.echo(secret["key"])
        else:
            click.echo(f"{secret['kind']} {show.safe(secret['name'])}: written to {path}")
    click.echo(f"Applied: {picture.summary(done['changes'], unchanged=done['unchanged'], done=True)}")
    if done["waiting"]:
        workers = ", ".join(f"w{slot:02d}" for slot in done["waiting"])
        click.echo(f"warning: workers {workers} do not know of it yet", err=True)


@click.command(short_help="Print a file of the tenants that are there.")
@click.option(
    "--organisation",
    "--org",
    "organisation",
    metavar="ID",
    help="Only this organisation; all of them when left out, an admin key's own with --control.",
)
@control_options
@show.output_options(csv=False)
def export(organisation: str | None, control: Control, out: show.Output) -> None:
    """Print a file that declares the tenants that are there: applied anew, it changes nothing.

    Keys are in it as what they may do, never as themselves.
    """
    wanted = organisation or ("" if control.url else "*")
    query = {"organisation": wanted} if wanted else {}
    document = control.call("GET", "/api/v1/export", query=query)["document"]
    if out.kind == "json":
        show.as_json(document)
    else:
        click.echo(tenants.as_yaml(document), nl=False)


def _planned(file: Path, control: Control, *, prune: bool, adopt: bool) -> tuple[Told, dict[str, Any]]:
    """The file and the plan; where one of them has faults, those are told and the command ends."""
    told = tenants.read(file)
    _end_if(told.problems, file)
    body = {"document": tenants.as_plain(told.declaration), "prune": prune, "adopt": adopt}
    found: dict[str, Any] = control.call("POST", "/api/v1/plan", body)
    faults = [
        Problem(
            told.marks.value(tuple(fault["place"])), dotted(tuple(fault["place"])), fault["message"], fault["remedy"]
        )
        for fault in found["faults"]
    ]
    _end_if(faults, file)
    return told, found


def _end_if(problems: list[Problem], file: Path) -> None:
    if problems:
        tell(problems)
        raise Failure(f"{file}: {count(len(problems), 'fault')}; nothing was changed")


def _show(found: dict[str, Any]) -> None:
    for line in picture.plan(found["changes"]):
        click.echo(line)
    if found["changes"]:
        click.echo()
    counts = {name: found[name] for name in ("unchanged", "by_hand", "left")}
    click.echo(f"Plan: {picture.summary(found['changes'], **counts)}")


def _ask() -> None:
    if not sys.stdin.isatty():
        raise Failure("nobody is there to be asked: say --yes to apply it; nothing was changed")
    if not click.confirm("Apply this?", err=True):
        raise Failure("nothing was changed")


def _told_once(secret: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """What JSON says of a new key: the key, or where it was written."""
    if path is None:
        return secret
    return {name: value for name, value in secret.items() if name != "key"} | {"written_to": str(path)}
