# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys revoke`: one key, every key that has leaked, or those that fit a description.

In: the command line; a file or standard input in which keys may stand. Out: acts of the control process, printed.
Of a text only what has the form and the checksum of a key is sent on, over a socket that only this user may open.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import Span, all_workers, at, organisation_option, quoted
from beffroi.cli.show import Column
from beffroi.core.key import ADMIN, PREFIX, public_id

CHUNK = 4 << 20  # bytes that are searched at a time
LONGEST = 200  # bytes that a key may take, with a zero byte after each
AT_ONCE = 5_000  # keys sent at a time
ANSWER = 300.0  # seconds
_SHAPE = re.compile(rb"(?=(bfa?-[0-9A-Za-z]{12}-[0-9A-Za-z]{38}))")
_ALL = 10 * 365 * 86_400


@click.command()
@click.argument("key", required=False, shell_complete=key_names)
@click.option("--cut", is_flag=True, help="Cut the key's open streams too; they may finish otherwise.")
@click.option(
    "--leaked",
    type=click.File("rb"),
    metavar="FILE",
    help="Revoke every key of ours that stands in FILE (`-`: standard input), whatever else it is.",
)
@click.option("--project", metavar="ID", help="Revoke the keys of a project.")
@click.option("--owner", metavar="WHO", help="Revoke the keys of an owner.")
@click.option("--system", metavar="ID", help="Revoke the keys of an AI system.")
@click.option(
    "--unused", type=Span(0, _ALL, "a span"), metavar="SPAN", help="Those not used for that long, such as 90d."
)
@click.option("--older", type=Span(0, _ALL, "a span"), metavar="SPAN", help="Those made longer ago than that.")
@click.option("--dry-run", is_flag=True, help="Say which keys it would be, and revoke none.")
@click.option("--why", default="", help="A word that is kept beside the keys.")
@organisation_option
@data_option
@show.output_options()
def revoke(
    key: str | None,
    cut: bool,
    leaked: BinaryIO | None,
    dry_run: bool,
    why: str,
    organisation: str | None,
    data: Path | None,
    out: show.Output,
    **which: Any,
) -> None:
    """Revoke KEY, named by its id, its name, or its first part (bf-…-). Returns once every worker refuses it.

    Keys that it was rotated from and that are still accepted are revoked with it.

    With --leaked, KEY is left out: every key of ours whose whole text stands in the file is revoked, admin keys too. With
    --project, --owner, --system, --unused or --older, those keys that fit all of them; try --dry-run first.
    """
    chosen = {name: value for name, value in which.items() if value is not None}
    if sum((key is not None, leaked is not None, bool(chosen))) != 1:
        raise click.UsageError("name one key, or --leaked FILE, or which keys by --project, --owner, --unused …")
    where = data_directory(data)
    if leaked is not None:
        _print_swept(_leaked(where, leaked, organisation, dry_run), out)
    elif chosen:
        _print_swept(_fitting(where, chosen, organisation, dry_run, why), out)
    elif dry_run:
        raise click.UsageError("--dry-run is for several keys; one is shown by `beffroi keys show`")
    else:
        done = call(where, "POST", at(f"/keys/{quoted(str(key))}/revoke", organisation), {"cut": cut, "why": why})
        _print_one(done, out)


def _print_one(done: dict[str, Any], out: show.Output) -> None:
    if out.kind == "json":
        show.as_json(done)
        return
    also = f", and {', '.join(done['also'])} which it was rotated from" if done["also"] else ""
    click.echo(
        f"{done['id']} ({show.safe(done['name'])}){also}: {all_workers(done['workers'], done['replicas'])} it, "
        f"after {done['milliseconds']:.1f} ms."
    )
    if done["cut"] is not None:
        click.echo(f"{done['cut']} open requests were cut.")


def candidates(file: BinaryIO) -> Iterator[str]:
    """Every text in a file, however long, that has the form and the checksum of a key."""
    before = b""
    while chunk := file.read(CHUNK):
        text = (before + chunk).replace(b"\0", b"")  # UTF-16 has one after each letter
        for match in _SHAPE.finditer(text):
            found = match[1].decode()
            if public_id(found, ADMIN if found.startswith(ADMIN) else PREFIX) is not None:
                yield found
        before = text[-LONGEST:]


def _leaked(data: Path, file: BinaryIO, organisation: str | None, dry_run: bool) -> dict[str, Any]:
    texts = sorted(set(candidates(file)))
    whole: dict[str, Any] = {"found": [], "shapes": 0, "dry_run": dry_run, "workers": 0, "milliseconds": 0.0}
    for start in range(0, len(texts), AT_ONCE):
        body = {"text": "\n".join(texts[start : start + AT_ONCE]), "dry_run": dry_run}
        part = call(data, "POST", at("/leaked-keys", organisation), body, answer=ANSWER)
        whole["found"] += part["found"]
        whole["shapes"] += part["shapes"]
        whole["workers"] = part["workers"]
        whole["milliseconds"] += part["milliseconds"]
    return whole


def _fitting(data: Path, which: dict[str, Any], organisation: str | None, dry_run: bool, why: str) -> dict[str, Any]:
    now = int(time.time())
    criteria = {name: value for name, value in which.items() if name in ("project", "owner", "system")}
    if "unused" in which:
        criteria["unused_since"] = now - which["unused"]
    if "older" in which:
        criteria["created_before"] = now - which["older"]
    body = {"criteria": criteria, "dry_run": dry_run, "why": why}
    found: dict[str, Any] = call(data, "POST", at("/key-revocations", organisation), body, answer=ANSWER)
    return found


def _print_swept(swept: dict[str, Any], out: show.Output) -> None:
    found = swept["found"]
    columns = [
        Column("NAME", shrinks=True),
        Column("KEY"),
        Column("WAS"),
        Column("NOW"),
        Column("ORGANISATION", drop=1),
        Column("PROJECT", drop=2),
        Column("", "id"),
    ]
    rows: list[list[show.Value]] = [
        [
            each["name"],
            f"{PREFIX if each['kind'] == 'key' else ADMIN}{each['public']}-…",
            show.state(each["was"]),
            show.state("revoked" if each["revoked"] else each["was"]),
            each["organisation"],
            each["project"],
            each["id"],
        ]
        for each in found
    ]
    if out.kind != "people" or found:
        out.table(columns, rows, document=swept)
    if out.kind != "people":
        return
    if not found:
        others = f" {swept['shapes']} texts look like keys, and none is one of ours." if swept["shapes"] else ""
        click.echo(f"No key of ours was found.{others}")
    elif swept["dry_run"]:
        click.echo(f"{len(found)} found; none was revoked (--dry-run).")
    else:
        gone = sum(each["revoked"] for each in found)
        click.echo(f"{gone} revoked: {all_workers(swept['workers'])} them, after {swept['milliseconds']:.1f} ms.")
        if gone < len(found):
            click.echo(f"{len(found) - gone} were not: revoking them needs the permission admin-keys:write.", err=True)
