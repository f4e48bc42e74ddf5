# SPDX-License-Identifier: Apache-2.0
"""The values that commands print: as people read them, as programs do, and how they look on a terminal.

In: nano-units, Unix times, microseconds, states. Out: cells. Money and times are exact for programs; people see times in
their own zone. Colours only where standard output is a terminal that wants them.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from beffroi.core.clock import stamp
from beffroi.core.money import to_decimal

GOOD, WARN, BAD, DIM, STRONG = "green", "yellow", "red", "dim", "bold"
_STYLES = {
    GOOD: frozenset(("active", "ready", "up", "complete", "ok", "yes", "settled")),
    WARN: frozenset(("degraded", "expiring", "rotated", "client_gone", "drained", "waiting", "running", "untried")),
    BAD: frozenset(("revoked", "expired", "down", "out", "no", "lost", "refused", "failed", "block")),
}


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
        shrinks: may be cut on a terminal that is too narrow; the others never are.
        drop: left out on a terminal that is still too narrow, the highest number first; 0: never. Pipes have all.
    """

    title: str
    name: str = ""
    shrinks: bool = False
    drop: int = 0


# --- cells ----------------------------------------------------------------------------------------------------------


def money(nano: int, currency: str = "EUR", places: int = 0) -> Cell:
    """An exact amount of nano-units: `0.0008054 EUR`, for programs the number alone; zeros up to so many decimals."""
    exact = f"{to_decimal(nano):f}"
    return Cell(f"{to_decimal(nano):.{max(places, decimals(nano))}f} {currency}", exact, right=True)


def decimals(*nanos: int) -> int:
    """Decimals that the longest of some amounts has: with as many for all, their points stand below one another."""
    return max((len(f"{to_decimal(nano):f}".partition(".")[2]) for nano in nanos), default=0)


def moment(ns: int | None) -> Cell:
    """Unix nanoseconds: to the second in the local zone, for programs to the microsecond in UTC."""
    if ns is None:
        return Cell("-", "")
    local = datetime.fromtimestamp(ns // 1_000_000_000, UTC).astimezone()
    return Cell(f"{local:%Y-%m-%d %H:%M:%S}", stamp(ns))


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
        return f"{seconds:.{1 if seconds >= 10 else 2}f} s" if seconds % 1 else f"{seconds:.0f} s"
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
    if not (text and style) or not coloured():
        return text
    return click.style(text, **({style: True} if style in (DIM, STRONG) else {"fg": style}))


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


def cell(value: Value) -> Cell:
    """Plain values as cells: counts to the right, in groups of three digits on a terminal; nothing as a dash."""
    if isinstance(value, Cell):
        return value
    if isinstance(value, int):
        text = f"{value:,}" if sys.stdout.isatty() else str(value)
        return Cell(text, value, right=True)
    return Cell("-", "") if value is None else Cell(value)
