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

from beffroi.cli.cells import DIM, Cell, Column, Value, cell, paint, safe, width

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run rather than show
_READABLE, _LEAST = 14, 6  # places that a column which shrinks keeps, before others are left out and after
_GAP = "  "
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def people(columns: Sequence[Column], rows: Sequence[Sequence[Value]], totals: Sequence[Sequence[Value]]) -> None:
    """A table, for a terminal or for a pipe."""
    grid = _Grid(columns, [[cell(value) for value in row] for row in (*rows, *totals)])
    grid.heading()
    for number, row in enumerate((*rows, *totals)):
        grid.line(row, "bold" if number >= len(rows) else "")
    grid.note()


class _Grid:
    """Which columns are shown, how wide each is, and which are set to the right: settled by the first rows."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        self._columns = columns
        self._terminal = sys.stdout.isatty()
        self._shown = [at for at, column in enumerate(columns) if column.title]
        self._widths = {
            at: max(_places(text) for text in (columns[at].title, *(safe(row[at].text) for row in rows)))
            for at in self._shown
        }
        self._rights = {at for at in self._shown if any(row[at].right for row in rows)}
        self._left_out: list[str] = []
        if self._terminal:
            self._fit(width())

    def _fit(self, room: int) -> None:
        """Cut what may be cut, to a readable width; where that is not enough leave columns out, and cut the rest anew."""
        full = dict(self._widths)
        self._cut(room, _READABLE)
        while self._total() > room:
            last = max(self._shown, key=lambda at: self._columns[at].drop)
            if not self._columns[last].drop:
                break
            self._shown.remove(last)
            self._left_out.append(self._columns[last].title)
        self._widths = full
        self._cut(room, _READABLE)
        self._cut(room, _LEAST)

    def _total(self) -> int:
        return sum(self._widths[at] for at in self._shown) + len(_GAP) * (len(self._shown) - 1)

    def _cut(self, room: int, least: int) -> None:
        soft = [at for at in self._shown if self._columns[at].shrinks]
        while soft and self._total() > room:
            widest = max(soft, key=lambda at: self._widths[at])
            if self._widths[widest] <= max(least, _places(self._columns[widest].title)):
                return
            self._widths[widest] -= 1

    def heading(self) -> None:
        """The titles."""
        self.line([Cell(column.title, style="bold") for column in self._columns])

    def line(self, row: Sequence[Value], style: str = "") -> None:
        """One row."""
        parts = []
        for at in self._shown:
            one, wide = cell(row[at]), self._widths[at]
            text = safe(one.text)
            if self._terminal and self._columns[at].shrinks:
                text = _cut_to(text, wide)
            blank = " " * (wide - _places(text))
            painted = paint(text, one.style or style)
            parts.append(blank + painted if at in self._rights else painted + blank)
        click.echo(_GAP.join(parts).rstrip())

    def note(self) -> None:
        """What was left out."""
        if self._left_out:
            click.echo(paint(f"A wider terminal also shows {', '.join(self._left_out)}.", DIM))


def _places(text: str) -> int:
    """Places that a text takes on a terminal: characters of some scripts take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - in most tables nobody needs to wait for it

    return cell_len(text)


def _cut_to(text: str, wide: int) -> str:
    if _places(text) <= wide:
        return text
    while _places(text) >= wide:
        text = text[:-1]
    return text + "…"


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
    plain = safe(plain) if isinstance(plain, str) else plain
    return f"'{plain}" if isinstance(plain, str) and not found.right and plain.startswith(_FORMULA) else plain


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON with letters as they are, and no control character, not even those beyond ASCII, that a terminal would obey."""
    return json.dumps(value, indent=indent, ensure_ascii=False).translate(_CONTROLS)


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
        elif kind == "people":
            self._grid = _Grid(columns, [[cell(value) for value in row] for row in first])
            self._grid.heading()

    def print(self, row: Sequence[Value], document: Any) -> None:
        """One row, at once."""
        if self._kind == "json":
            click.echo(json_text(document))
        elif self._kind == "csv":
            as_csv(self._columns, [row], head=False)
            sys.stdout.flush()
        else:
            self._grid.line(row)
