# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables for people, with colours where somebody looks; JSON and CSV for programs.

In: rows of cells, and the document they were made from. Out: text on standard output.
A command takes `out: Output` from `output_options()` and hands it what it found; which of the three is printed is decided
here alone. People read times in their own zone and money with its currency; programs get ISO 8601 in UTC and plain decimals.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from beffroi.cli import tables
from beffroi.cli.cells import (
    BAD,
    DIM,
    GOOD,
    STRONG,
    WARN,
    Cell,
    Column,
    Value,
    bar,
    cell,
    coloured,
    day,
    decimals,
    duration,
    iso,
    moment,
    moment_or_never,
    money,
    paint,
    safe,
    span,
    state,
    width,
)

__all__ = [
    "BAD", "DIM", "GOOD", "STRONG", "WARN", "Cell", "Column", "Output", "Value", "as_json", "bar", "coloured", "day",
    "decimals", "duration", "iso", "moment", "moment_or_never", "money", "output_options", "paint", "safe", "span",
    "state", "width", "with_times",
]  # fmt: skip
F = TypeVar("F", bound=Callable[..., Any])


class Output:
    """Where a command's findings go. `kind`: `people`, `json` or `csv`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Value]],
        *,
        document: Any,
        empty: str = "",
        totals: Sequence[Sequence[Value]] = (),
    ) -> None:
        """A listing.

        Args:
            document: what `--json` prints.
            empty: said in place of a table without rows, to a person at a terminal.
            totals: last rows, for people; as many cells as a row has.
        """
        if self.kind == "json":
            as_json(document)
        elif self.kind == "csv":
            tables.as_csv(columns, rows)
        elif not rows and empty and sys.stdout.isatty():
            click.echo(empty)
        else:
            tables.people(columns, rows, totals)

    def record(self, pairs: Sequence[tuple[str, Value]], *, document: Any) -> None:
        """One thing: names on the left, what they are on the right."""
        if self.kind == "json":
            as_json(document)
        elif self.kind == "csv":
            tables.as_csv([Column(name) for name, _ in pairs], [[value for _, value in pairs]])
        else:
            wide = max(len(name) for name, _ in pairs)
            for name, value in pairs:
                found = cell(value)
                click.echo(f"{paint(name.ljust(wide), DIM)}  {paint(safe(found.text), found.style)}".rstrip())


def output_options(*, csv: bool = True) -> Callable[[F], F]:
    """Adds `--json`, and `--csv` for a listing; the command is given `out`, an `Output`."""

    def decorate(command: F) -> F:
        if csv:
            command = click.option(
                "--csv", "out", type=Output, flag_value="csv", help="Print CSV, for spreadsheets and programs."
            )(command)
        return click.option(
            "--json", "out", type=Output, flag_value="json", default="people", help="Print JSON, for programs."
        )(command)

    return decorate


def as_json(value: Any) -> None:
    """One JSON document, indented; Unix seconds in fields named `…_at` become ISO 8601 in UTC."""
    click.echo(tables.json_text(with_times(value), indent=2))


def with_times(value: Any) -> Any:
    """A document whose Unix seconds in fields named `…_at` are ISO 8601 in UTC."""
    if isinstance(value, Mapping):
        return {
            name: iso(part) if name.endswith("_at") and isinstance(part, int | float) else with_times(part)
            for name, part in value.items()
        }
    return [with_times(part) for part in value] if isinstance(value, list | tuple) else value
