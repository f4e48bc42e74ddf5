# SPDX-License-Identifier: Apache-2.0
"""Reads a file of tenants strictly: every fault at once, each with its line and what to do; and writes one.

In: the path of a YAML or TOML file, or plain data. Out: `Told`: the declaration, where each setting stands, the faults.
What only a running Beffroi can tell (a model, a tier that is not in the file) is told by its answer to a plan.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from beffroi.config.declaration import Declaration
from beffroi.config.load import plain, text_of
from beffroi.config.problems import Broken, Invalid, Marks, Problem
from beffroi.config.reader import Reader
from beffroi.config.tenants_check import check
from beffroi.config.write import to_yaml

HEAD = """Tenants of Beffroi. `beffroi plan FILE` shows what applying this would change, `beffroi apply FILE` does it.
yaml-language-server: $schema=tenants.schema.json"""


@dataclass(frozen=True)
class Told:
    """A file as read. `broken`: places whose value is a stand-in; `problems`: every fault, in the order of lines."""

    declaration: Declaration
    marks: Marks
    broken: Broken
    problems: list[Problem]

    def sound(self) -> Declaration:
        """What it declares.

        Raises:
            Invalid: it has faults.
        """
        if self.problems:
            raise Invalid(self.problems)
        return self.declaration


def read(path: Path) -> Told:
    """Read a file; its suffix says its language (`.toml`, `.json`, otherwise YAML, of which JSON is a part)."""
    try:
        return parse(text_of(path), str(path), toml=path.suffix == ".toml")
    except Invalid as error:
        return Told(Declaration(), Marks(str(path)), Broken(), error.problems)


def parse(text: str, file: str, *, toml: bool = False) -> Told:
    """As `read`, from text.

    Raises:
        Invalid: it is no YAML, or no TOML.
    """
    problems: list[Problem] = []
    value, marks = plain(text, file, problems, toml=toml)
    return _told(value, marks, problems)


def take(value: object) -> Told:
    """As `read`, from plain data that came over the admin API."""
    return _told(value, Marks("document"), [])


def _told(value: object, marks: Marks, problems: list[Problem]) -> Told:
    reader = Reader(marks, problems, Declaration)
    declaration = reader.struct({} if value is None else value, Declaration, ())
    problems += check(declaration, marks, reader.broken)
    return Told(declaration, marks, reader.broken, Invalid(problems).problems)


def as_plain(declaration: Declaration) -> dict[str, Any]:
    """What the admin API takes and gives: plain data without what is a default."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(declaration))
    return found


def as_yaml(document: dict[str, Any]) -> str:
    """The text of a file that declares what plain data does."""
    lines = to_yaml({"tenants": document}, HEAD).splitlines()
    head = [line for line in lines if line.startswith("#")]
    inner = [line[2:] for line in lines[len(head) + 2 :]]  # without the group around it, and its indent
    return "\n".join([*head, "", *inner]) + "\n"
