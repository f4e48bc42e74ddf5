# SPDX-License-Identifier: Apache-2.0
"""What became of each thing in the file: converted, done otherwise by Beffroi, or left, each with its line.

In: what converters say of it. Out: text for people, plain data for programs, and whether anything was left.
"""

import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from beffroi.cli.importer.reading import Part

CONVERTED, OTHERWISE, LEFT = "converted", "otherwise", "left"
_HEADINGS = {
    CONVERTED: "Converted",
    OTHERWISE: "Not needed: Beffroi does this itself, or in its own way",
    LEFT: "Not converted",
}


class Item(NamedTuple):
    """One finding. `advice` says what to do instead, where there is something to do."""

    fate: str
    line: int
    name: str
    message: str
    advice: str = ""


class Report:
    """All findings about one file."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.notes: list[str] = []

    def converted(self, part: Part, *names: str | int, message: str) -> None:
        """It stands in the new file."""
        self.items.append(Item(CONVERTED, part.line(*names), part.name(*names), message))

    def otherwise(self, part: Part, *names: str | int, message: str) -> None:
        """Nothing has to be written for it."""
        self.items.append(Item(OTHERWISE, part.line(*names), part.name(*names), message))

    def left(self, part: Part, *names: str | int, message: str, advice: str = "") -> None:
        """It is lost unless a person does something."""
        self.items.append(Item(LEFT, part.line(*names), part.name(*names), message, advice))

    def note(self, sentence: str) -> None:
        """Something that the file cannot know and the operator must."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    @property
    def complete(self) -> bool:
        """Whether nothing was left."""
        return all(item.fate != LEFT for item in self.items)

    def of(self, fate: str) -> list[Item]:
        """The findings of one kind, in the order of the file."""
        return sorted((item for item in self.items if item.fate == fate), key=lambda item: item.line)

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        fields = ("line", "name", "message", "advice")
        lists = {
            fate: [{field: getattr(item, field) for field in fields} for item in self.of(fate)] for fate in _HEADINGS
        }
        return {"complete": self.complete, **lists, "notes": self.notes}

    def as_text(self, width: int) -> Iterator[str]:
        """For people, line by line, none longer than `width`."""
        for fate, heading in _HEADINGS.items():
            items = self.of(fate)
            if not items:
                continue
            colour = {CONVERTED: "green", LEFT: "yellow"}.get(fate)
            yield ""
            yield click.style(f"{heading} ({len(items)})", fg=colour, bold=True)
            yield "  line"
            for lines, names, item in _merged(items):
                yield from _paragraph(f"  {lines:>4}  {names}: {item.message}", width)
                if item.advice:
                    yield from _paragraph(f"        → {item.advice}", width)
        if self.notes:
            yield ""
            yield click.style("To know", bold=True)
            for note in self.notes:
                yield from _paragraph(f"        {note}", width)


def _paragraph(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def _merged(items: list[Item]) -> Iterator[tuple[str, str, Item]]:
    """Findings that say the same become one entry: its lines, its names, and the first of them."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.message, item.advice), []).append(item)
    for same in groups.values():
        lines = dict.fromkeys(str(item.line) for item in same)
        yield ", ".join(lines), ", ".join(item.name for item in same), same[0]
