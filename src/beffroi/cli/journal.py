# SPDX-License-Identifier: Apache-2.0
"""`beffroi journal`: whether the record of what was served is whole.

In: the journal and the ledger, through the control process or, when there is none, straight from the disk.
Out: what was checked and what does not hold.
"""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from beffroi.cli import show
from beffroi.cli.client import Absent, call
from beffroi.cli.data import data_directory, data_option
from beffroi.core.layout import belongs_to


@click.group()
def journal() -> None:
    """Check the record of what was served."""


@journal.command()
@data_option
@show.output_options(csv=False)
def verify(data: Path | None, out: show.Output) -> None:
    """Check that the record is whole. What is not in the ledger yet: checksums and sequence; in it: one settlement for each intent.

    Works without a running Beffroi too: then it reads the files themselves.
    """
    directory = data_directory(data)
    try:
        found = call(directory, "GET", "/api/v1/journal/verify", patience=0.0)
    except Absent:
        found = _offline(directory)
    _print(found, out)
    sys.exit(0 if found["ok"] else 1)


def _offline(directory: Path) -> Any:
    # Imported here: every other command is spared the half second that the database's library takes to load.
    from beffroi.control import ledger  # noqa: PLC0415
    from beffroi.store.engine import open_engine  # noqa: PLC0415

    if (shared := belongs_to(directory)) is not None:
        raise Absent(
            f"the ledger of {directory} is in {shared}, and Beffroi does not run here: start it, then ask again"
        )
    database = directory / "beffroi.db"
    if not database.is_file():
        raise Absent(f"there is no ledger in {directory}; name the data directory with --data")
    engine = open_engine(database, read_only=True)
    try:
        return msgspec.to_builtins(ledger.verify(engine, directory / "journal"))
    finally:
        engine.dispose()


def _print(found: dict[str, Any], out: show.Output) -> None:
    counts = [
        (name.replace("_", " "), value) for name, value in found.items() if isinstance(value, int) and name != "ok"
    ]
    out.record(counts, document=found)
    if out.kind == "json":
        return
    for note in found["notes"]:
        click.echo(f"note: {note}")
    for finding in found["findings"]:
        click.echo(show.paint(f"- {finding}", show.BAD))
    if found["ok"]:
        click.echo(show.paint("The record is whole.", show.GOOD))
    else:
        click.echo(show.paint(f"{len(found['findings'])} things do not hold.", show.BAD))
