# SPDX-License-Identifier: Apache-2.0
"""How commands print: aligned columns for people, JSON for programs.

In: rows. Out: text on standard output.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click


def as_json(value: Any) -> None:
    """One JSON document, indented."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Columns under headings; those numbered in `right` are set to the right, as figures are."""
    cells = [[*map(str, headings)], *[[*map(str, row)] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        parts = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(parts).rstrip())


def day(seconds: int | None) -> str:
    """Unix seconds as a date (UTC); `never` for None."""
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()
