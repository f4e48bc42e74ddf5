# SPDX-License-Identifier: Apache-2.0
"""How rows are printed: a table for a terminal, for a pipe, as CSV; or line by line, where the end is not known.

In: columns and rows. Out: text on standard output. In a pipe a table is plain, whole and aligned; on a terminal it is
coloured and fits the width: columns that are too much for it are left out, those that may shrink are cut.
"""

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from beffroi.cli.cells import Cell, Column, Value, cell, paint, safe, width

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run rather than show
_LEAST = 6  # places that a column which shrinks keeps


def people(columns: Sequence[Column], rows: Sequence[Sequence[Value]], totals: Sequence[Sequence[Value]]) -> None:
    """A table, for a terminal or for a pipe."""
    terminal = sys.stdout.isatty()
    shown = _shown(columns)
    cells = [[cell(row[at]) for at in shown] for row in (*rows, *totals)]
    rights = [any(row[at].right for row in cells) for at in range(len(shown))]
    heads = [columns[at] for at in shown]
    if terminal:
        _terminal(heads, cells, rights, last=len(totals))
        return
    texts = [[column.title for column in heads], *[[safe(one.text) for one in row] for row in cells]]
    widths = [max(_places(row[at]) for row in texts) for at in range(len(heads))]
    for row in texts:
        parts = []
        for text, wide, right in zip(row, widths, rights, strict=True):
            blank = " " * (wide - _places(text))
            parts.append(blank + text if right else text + blank)
        click.echo("  ".join(parts).rstrip())


def _places(text: str) -> int:
    """Places that a text takes on a terminal: characters of some scripts take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def _terminal(heads: Sequence[Column], cells: Sequence[Sequence[Cell]], rights: Sequence[bool], *, last: int) -> None:
    # Imported here: in pipes, which most commands of scripts are, nobody waits for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at, (column, right) in enumerate(zip(heads, rights, strict=True)):
        least = max(_places(text) for text in (column.title, *(safe(row[at].text) for row in cells)))
        table.add_column(
            Text(column.title),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.shrinks else least,
        )
    for number, row in enumerate(cells, 1):
        style = "bold" if number > len(cells) - last else None
        table.add_row(*(Text(safe(one.text), style=one.style) for one in row), style=style)
    Console(highlight=False, markup=False, emoji=False, width=width()).print(table)


def as_csv(columns: Sequence[Column], rows: Sequence[Sequence[Value]], *, head: bool = True) -> None:
    """RFC 4180, but for the line ends, which are this machine's; text that begins a formula is quoted as text."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [column.name or column.title.lower().replace(" ", "_") for column in columns]
    shown = [place for place, name in enumerate(names) if name != "-"]
    if head:
        writer.writerow([names[place] for place in shown])
    writer.writerows([_machine(row[place]) for place in shown] for row in rows)


def _machine(value: Value) -> str | int:
    found = cell(value)
    plain = found.text if found.machine is None else found.machine
    return f"'{plain}" if isinstance(plain, str) and not found.right and plain.startswith(_FORMULA) else plain


def _shown(columns: Sequence[Column]) -> list[int]:
    room = width() if sys.stdout.isatty() else 1 << 20
    return [at for at, column in enumerate(columns) if column.title and column.wide <= room]


class Lines:
    """Rows as they come, under one heading: the width of each column is set by those that are there at first.

    Args:
        kind: people, json (an object a line), or csv.
        first: rows to take the widths from; they are not printed.
    """

    def __init__(self, kind: str, columns: Sequence[Column], first: Sequence[Sequence[Value]]) -> None:
        self._kind = kind
        self._columns = columns
        if kind == "csv":
            as_csv(columns, ())
        if kind != "people":
            return
        self._shown = _shown(columns)
        self._widths = [max(_LEAST, _places(columns[at].title)) for at in self._shown]
        cells = [[cell(row[at]) for at in self._shown] for row in first]
        for row in cells:
            self._widths = [max(wide, _places(safe(one.text))) for wide, one in zip(self._widths, row, strict=True)]
        if sys.stdout.isatty():
            self._fit(width())
        self._rights = [any(row[at].right for row in cells) for at in range(len(self._shown))]
        self._line([Cell(columns[at].title, style="bold") for at in self._shown])

    def _fit(self, room: int) -> None:
        while sum(self._widths) + 2 * (len(self._widths) - 1) > room:
            widest = max(
                (at for at, place in enumerate(self._shown) if self._columns[place].shrinks),
                key=lambda at: self._widths[at],
                default=None,
            )
            if widest is None or self._widths[widest] <= _LEAST:
                return
            self._widths[widest] -= 1

    def print(self, row: Sequence[Value], document: Any) -> None:
        """One row, at once."""
        if self._kind == "json":
            click.echo(json.dumps(document, ensure_ascii=False))
        elif self._kind == "csv":
            as_csv(self._columns, [row], head=False)
            sys.stdout.flush()
        else:
            self._line([cell(row[at]) for at in self._shown])

    def _line(self, cells: Sequence[Cell]) -> None:
        terminal, parts = sys.stdout.isatty(), []
        for one, wide, right, place in zip(cells, self._widths, self._rights, self._shown, strict=True):
            text = safe(one.text)
            if terminal and self._columns[place].shrinks and _places(text) > wide:
                text = text[: wide - 1] + "…"
            blank = " " * (wide - _places(text))
            parts.append(blank + paint(text, one.style) if right else paint(text, one.style) + blank)
        click.echo("  ".join(parts).rstrip())
