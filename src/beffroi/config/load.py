# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration strictly: every fault at once, each with its file, line and column, and what to do.

In: the path of a YAML or TOML file, the environment. Out: a `Source` (the `Document`, and where each setting stands), or `Invalid`.
What goes beyond the schema (names that clash, files that are missing) is told by `examine`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from beffroi.config.environment import Overrides, lay_over
from beffroi.config.problems import Broken, Invalid, Marks, Place, Problem, Spot, dotted
from beffroi.config.reader import Reader
from beffroi.config.schema import Document, Resources

__all__ = ["EMPTY", "Invalid", "Place", "Problem", "Source", "Spot", "dotted", "load", "parse", "read", "resources"]

MAX_FILE = 4 << 20
NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Source:
    """A configuration as read.

    Attributes:
        marks: where each setting stands.
        base: the folder from which its relative paths count.
        broken: places whose value is a stand-in; empty where there was no fault.
    """

    document: Document
    file: str
    marks: Marks
    base: Path
    broken: Broken = field(default_factory=Broken)


EMPTY = Source(Document(), "(no file)", Marks("(no file)"), Path())


@dataclass(frozen=True)
class Reading:
    """What came of reading: a source that may have stand-ins, the faults, and remarks that keep nobody from starting."""

    source: Source
    problems: list[Problem]
    notes: list[Problem]


def read(path: Path | None, environ: Mapping[str, str] = os.environ, overrides: Overrides = NOTHING) -> Reading:
    """Read a file, if there is one, and what variables and options set beside it.

    Raises:
        Invalid: there is nothing to go on with: no file, no text, no YAML, no TOML.
    """
    if path is None:
        return _reading({}, EMPTY.file, Marks(EMPTY.file), Path(), environ, overrides, [])
    return _read_text(text_of(path), str(path), path.suffix == ".toml", path.parent, environ, overrides)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Source:
    """The configuration of a file and of the environment; the file's suffix says its language (`.toml`, otherwise YAML).

    Raises:
        Invalid: it cannot be read, parsed, or does not follow the schema.
    """
    return _whole(read(path, environ))


def parse(
    text: str, file: str, *, toml: bool = False, base: Path = Path(), environ: Mapping[str, str] = NOTHING
) -> Source:
    """As `load`, from text; relative paths in it count from `base`."""
    return _whole(_read_text(text, file, toml, base, environ, NOTHING))


def resources(value: object, file: str) -> Source:
    """A `Source` with only resources, from plain data in the shape of the file (what start-up found or was told).

    Raises:
        Invalid: it does not follow the schema.
    """
    marks = Marks(file)
    problems: list[Problem] = []
    reader = Reader(marks, problems)
    found = reader.struct(value, Resources, ("resources",))
    return _whole(Reading(Source(Document(resources=found), file, marks, Path()), problems, []))


def _whole(reading: Reading) -> Source:
    if reading.problems:
        raise Invalid(reading.problems)
    return reading.source


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        Invalid: there is none that can be read.
    """
    file = str(path)
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
    except OSError as error:
        remedy = "give the path of a file that this user may read, or write one with `beffroi init`"
        raise Invalid([Problem(Spot(file), "", f"cannot be read: {error.strerror}", remedy)]) from None
    if not raw:  # an editor empties a file before it writes it
        remedy = "write it to another file and rename that one into place; a comment is enough to mean every default"
        raise Invalid([Problem(Spot(file), "", "is empty; it may be half written", remedy)])
    if len(raw) > MAX_FILE:
        raise Invalid([Problem(Spot(file), "", f"is larger than {MAX_FILE} bytes", "a configuration is smaller")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        spot = Spot(file, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        raise Invalid([Problem(spot, "", "is not UTF-8 text", "save the file as UTF-8")]) from None


def _read_text(
    text: str, file: str, toml: bool, base: Path, environ: Mapping[str, str], overrides: Overrides
) -> Reading:
    problems: list[Problem] = []
    value, marks = plain(text, file, problems, toml=toml)
    return _reading(value, file, marks, base, environ, overrides, problems)


def plain(text: str, file: str, problems: list[Problem], *, toml: bool) -> tuple[object, Marks]:
    """The text as plain data and its marks; faults that do not keep the rest from being read go to `problems`.

    Raises:
        Invalid: it is no YAML, or no TOML.
    """
    if toml:  # a start loads no parser that it does not need
        from beffroi.config import toml_text  # noqa: PLC0415

        return toml_text.read(text, file)
    from beffroi.config import yaml_text  # noqa: PLC0415

    return yaml_text.read(text, file, problems)


def _reading(
    value: object,
    file: str,
    marks: Marks,
    base: Path,
    environ: Mapping[str, str],
    overrides: Overrides,
    problems: list[Problem],
) -> Reading:
    value = {} if value is None else value
    notes = lay_over(value, marks, environ, overrides, problems) if isinstance(value, dict) else []
    reader = Reader(marks, problems)
    document = reader.struct(value, Document, ())
    return Reading(Source(document, file, marks, base, reader.broken), problems, notes)
