# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables for people, with colours where somebody looks; JSON and CSV for programs.

In: rows of cells, and the document they were made from. Out: text on standard output.
A command takes `out: Output` from `output_options()` and hands it what it found; which of the three is printed is decided
here alone. People read times in their own zone and money with its currency; programs get ISO 8601 in UTC and plain decimals.
In a pipe a table is plain, whole and aligned; on a terminal it is coloured (not under NO_COLOR) and fits the width.
"""

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from beffroi.core.clock import utc
from beffroi.core.money import show as show_money
from beffroi.core.money import to_decimal

F = TypeVar("F", bound=Callable[..., Any])
GOOD, WARN, BAD, DIM, STRONG = "green", "yellow", "red", "dim", "bold"
_STYLES = {
    GOOD: frozenset(("active", "ready", "up", "complete", "ok", "yes", "settled")),
    WARN: frozenset(("degraded", "expiring", "rotated", "client_gone", "drained", "waiting", "running", "untried")),
    BAD: frozenset(("revoked", "expired", "down", "out", "no", "lost", "refused", "failed", "block")),
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run rather than show


@dataclass(frozen=True)
class Cell:
    """One value: `text` for people, `machine` for programs (the text when left out), and how it looks on a terminal."""

    text: str
    machine: str | int | None = None
    style: str = ""
    right: bool = False


Value = Cell | str | int | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading; empty: only programs see it.
        name: its name in CSV; the title in lower case when left out, `-` for none.
        wide: columns a terminal must have for it to be shown there; pipes show all.
        shrinks: may be cut on a terminal that is too narrow; the others never are.
    """

    title: str
    name: str = ""
    wide: int = 0
    shrinks: bool = False


# --- cells ----------------------------------------------------------------------------------------------------------


def money(nano: int, currency: str = "EUR") -> Cell:
    """An exact amount of nano-units: `0.0008054 EUR`, for programs the number alone."""
    return Cell(show_money(nano, currency), f"{to_decimal(nano):f}", right=True)


def moment(ns: int | None) -> Cell:
    """Unix nanoseconds: to the second in the local zone, for programs to the microsecond in UTC."""
    if ns is None:
        return Cell("-", "")
    local = datetime.fromtimestamp(ns // 1_000_000_000, UTC).astimezone()
    return Cell(f"{local:%Y-%m-%d %H:%M:%S}", utc(ns).isoformat().replace("+00:00", "Z"))


def day(seconds: int | None) -> Cell:
    """Unix seconds as a local date, for programs the whole moment; `never` for None."""
    if seconds is None:
        return Cell("never", "", DIM)
    return Cell(datetime.fromtimestamp(seconds, UTC).astimezone().date().isoformat(), iso(seconds))


def moment_or_never(seconds: int | None) -> Cell:
    """Unix seconds as `moment` shows them; `never` for None."""
    return day(None) if seconds is None else moment(seconds * 1_000_000_000)


def bar(used: int, whole: int) -> Cell:
    """How much of a whole is used: ten blocks and a percentage, in the colour of how near the end is."""
    share = min(1.0, used / whole) if whole else 1.0
    style = BAD if share >= 1 else WARN if share >= 0.8 else GOOD
    return Cell(f"{'█' * round(share * 10):░<10} {share:4.0%}", style=style)


def span(micros: int | None) -> Cell:
    """A duration in microseconds: `12.3 ms`, `1.25 s`, `3 min 20 s`; for programs microseconds."""
    if micros is None:
        return Cell("-", "", right=True)
    return Cell(duration(micros / 1_000_000), micros, right=True)


def state(text: str, style: str | None = None) -> Cell:
    """A state, coloured by what it says."""
    found = next((style for style, words in _STYLES.items() if text.partition(" ")[0] in words), "")
    return Cell(text, text, found if style is None else style)


def iso(seconds: float) -> str:
    """Unix seconds as programs read them: `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """A span of time, in as many digits as one reads."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            whole, rest = divmod(round(seconds), size)
            below = {"d": ("h", 3_600), "h": ("min", 60), "min": ("s", 1)}[unit]
            more = rest // below[1]
            return f"{whole} {unit}" + (f" {more} {below[0]}" if more else "")
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms"


def safe(text: str) -> str:
    """Text that a client may have chosen, without what would move a terminal's cursor or change its colours."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


# --- printing -------------------------------------------------------------------------------------------------------


def coloured() -> bool:
    """Whether standard output is a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str) -> str:
    """`text` in one of the styles above, where colours are wanted."""
    if not style or not coloured():
        return text
    return click.style(text, **({style: True} if style in (DIM, STRONG) else {"fg": style}))


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


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
        total: Sequence[Value] | None = None,
    ) -> None:
        """A listing.

        Args:
            document: what `--json` prints.
            empty: said in place of a table without rows, to a person at a terminal.
            total: a last row for people; as many cells as a row has.
        """
        if self.kind == "json":
            as_json(document)
        elif self.kind == "csv":
            as_csv(columns, rows)
        elif not rows and empty and sys.stdout.isatty():
            click.echo(empty)
        else:
            _people(columns, rows, total)

    def record(self, pairs: Sequence[tuple[str, Value]], *, document: Any) -> None:
        """One thing: names on the left, what they are on the right."""
        if self.kind == "json":
            as_json(document)
        elif self.kind == "csv":
            as_csv([Column(name) for name, _ in pairs], [[value for _, value in pairs]])
        else:
            wide = max(len(name) for name, _ in pairs)
            for name, value in pairs:
                cell = _cell(value)
                click.echo(f"{paint(name.ljust(wide), DIM)}  {paint(safe(cell.text), cell.style)}".rstrip())


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
    click.echo(json.dumps(with_times(value), indent=2, ensure_ascii=False))


def with_times(value: Any) -> Any:
    """A document whose Unix seconds in fields named `…_at` are ISO 8601 in UTC."""
    if isinstance(value, Mapping):
        return {
            name: iso(part) if name.endswith("_at") and isinstance(part, int | float) else with_times(part)
            for name, part in value.items()
        }
    return [with_times(part) for part in value] if isinstance(value, list | tuple) else value


def as_csv(columns: Sequence[Column], rows: Sequence[Sequence[Value]], *, head: bool = True) -> None:
    """RFC 4180, but for the line ends, which are this machine's."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [column.name or column.title.lower().replace(" ", "_") for column in columns]
    shown = [place for place, name in enumerate(names) if name != "-"]
    if head:
        writer.writerow([names[place] for place in shown])
    writer.writerows([_machine(row[place]) for place in shown] for row in rows)


def _machine(value: Value) -> str | int:
    cell = _cell(value)
    plain = cell.text if cell.machine is None else cell.machine
    return f"'{plain}" if isinstance(plain, str) and not cell.right and plain.startswith(_FORMULA) else plain


def _cell(value: Value) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, int):
        text = f"{value:,}" if sys.stdout.isatty() else str(value)
        return Cell(text, value, right=True)
    return Cell("-", "") if value is None else Cell(value)


def _people(columns: Sequence[Column], rows: Sequence[Sequence[Value]], total: Sequence[Value] | None) -> None:
    terminal = sys.stdout.isatty()
    room = width() if terminal else 0
    shown = [at for at, column in enumerate(columns) if column.title and not (terminal and column.wide > room)]
    cells = [[_cell(row[at]) for at in shown] for row in (*rows, *([total] if total else []))]
    rights = [any(row[at].right for row in cells) for at in range(len(shown))]
    heads = [columns[at] for at in shown]
    if terminal:
        _terminal(heads, cells, rights, last=bool(total))
        return
    texts = [[column.title for column in heads], *[[safe(cell.text) for cell in row] for row in cells]]
    widths = [max(_cells(row[at]) for row in texts) for at in range(len(heads))]
    for row in texts:
        parts = []
        for text, wide, right in zip(row, widths, rights, strict=True):
            blank = " " * (wide - _cells(text))
            parts.append(blank + text if right else text + blank)
        click.echo("  ".join(parts).rstrip())


def _cells(text: str) -> int:
    """Places that a text takes on a terminal: characters of some scripts take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def _terminal(heads: Sequence[Column], cells: Sequence[Sequence[Cell]], rights: Sequence[bool], *, last: bool) -> None:
    # Imported here: in pipes, which most commands of scripts are, nobody waits for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at, (column, right) in enumerate(zip(heads, rights, strict=True)):
        least = max(_cells(text) for text in (column.title, *(safe(row[at].text) for row in cells)))
        table.add_column(
            Text(column.title),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.shrinks else least,
        )
    for number, row in enumerate(cells, 1):
        style = "bold" if last and number == len(cells) else None
        table.add_row(*(Text(safe(cell.text), style=cell.style) for cell in row), style=style)
    Console(highlight=False, markup=False, emoji=False, width=width()).print(table)
