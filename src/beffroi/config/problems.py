# SPDX-License-Identifier: Apache-2.0
"""What is said of a configuration that is not taken: where each fault stands, what it is, what to do about it.

In: places in a document and the marks of its text. Out: `Problem`, and `Invalid` with all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Place = tuple[str | int, ...]
Mark = tuple[int, int]  # line and column, from 1


class Spot(NamedTuple):
    """Where a value comes from: a file with line and column (0: as a whole), a variable, an option, or what start-up found."""

    name: str
    line: int = 0
    column: int = 0
    kind: Literal["file", "environment", "command line"] = "file"

    def __str__(self) -> str:
        if self.kind == "environment":
            return f"${self.name}"
        parts = [self.name, *(str(number) for number in (self.line, self.column) if number)]
        return ":".join(parts)


class Problem(NamedTuple):
    """One fault: where, the setting's dotted name (may be empty), what is wrong, what to do."""

    spot: Spot
    name: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        said = f"{self.name}: {self.message}" if self.name else self.message
        return printable(f"{self.spot}: {said}; {self.remedy}" if self.remedy else f"{self.spot}: {said}")


def printable(text: str) -> str:
    """The text with signs that steer a terminal made visible: a name in a file may hold any."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


class Invalid(ValueError):
    """A configuration that is not taken; `problems` has every fault, and the text shows one a line as `file:line:column: …`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each once: those of a file by their lines, then those of the environment and of the command line."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.spot.kind != "file", *problem.spot[:3]))


@dataclass
class Marks:
    """Where names and values stand in a text; `elsewhere` has what the environment or the command line set instead."""

    file: str
    keys: dict[Place, Mark] = field(default_factory=dict)
    values: dict[Place, Mark] = field(default_factory=dict)
    elsewhere: dict[Place, Spot] = field(default_factory=dict)

    def key(self, place: Place) -> Spot:
        """Where the name of a place stands, or of the nearest one around it; list items have only a value."""
        return self._nearest(place, (self.keys, self.values))

    def value(self, place: Place) -> Spot:
        """Where the value of a place stands, or of the nearest one around it."""
        return self._nearest(place, (self.values, self.keys))

    def _nearest(self, place: Place, order: tuple[dict[Place, Mark], ...]) -> Spot:
        while place:
            if place in self.elsewhere:
                return self.elsewhere[place]
            for marks in order:
                if place in marks:
                    return Spot(self.file, *marks[place])
            place, order = place[:-1], (self.keys, self.values)
        return Spot(self.file, *self.values.get((), (0, 0)))


class Broken:
    """Places whose value is a stand-in, because what stood there was wrong or missing."""

    def __init__(self) -> None:
        self.places: set[Place] = set()
        self._around: set[Place] = set()

    def add(self, place: Place) -> None:
        """One more."""
        self.places.add(place)
        self._around.update(place[:depth] for depth in range(len(place) + 1))

    def told(self, place: Place) -> bool:
        """Whether the place, or one around it, is a stand-in."""
        return any(place[:depth] in self.places for depth in range(len(place) + 1))

    def sound(self, *place: str | int) -> bool:
        """Whether nothing at, above or below the place is one."""
        return place not in self._around and not self.told(place)


def dotted(place: Place) -> str:
    """`resources.models[0].id`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
