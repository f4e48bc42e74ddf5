# SPDX-License-Identifier: Apache-2.0
"""What the commands over one kind of thing are made from.

In: nothing. Out: `Thing`, its `Shown` columns and its `Said` options; `verbs` makes commands of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.limits import BUDGETS, LIMITS, PERIODS
from beffroi.cli.show import Value

Record = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """One column, and one line of `show`.

    Attributes:
        field: its name in JSON and CSV, and in the answer; title: its heading, empty for one that only programs see.
        how: makes a cell of the record.
    """

    title: str
    field: str
    how: Callable[[Record], Value] | None = None
    shrinks: bool = False
    drop: int = 0

    def cell(self, record: Record) -> Value:
        """The value, as this column shows it."""
        if self.how is not None:
            return self.how(record)
        found = record.get(self.field)
        if isinstance(found, list):
            return ", ".join(map(str, found)) or None
        if isinstance(found, dict):
            return ", ".join(f"{name} {part}" for name, part in found.items()) or None
        return found if found is None or isinstance(found, str | int) else str(found)


@dataclass(frozen=True)
class Said:
    """One option, and the field of the body that it sets.

    Attributes:
        kind: what click makes of it; many: it may be repeated, and the field is a list.
        within: the group of the body that the field is in, such as `limits`.
        create, update: with which verbs it may be said; required: `create` wants it.
    """

    field: str
    help: str
    kind: Any = str
    flag: str = ""
    metavar: str | None = None
    many: bool = False
    within: str = ""
    create: bool = True
    update: bool = True
    required: bool = False

    @property
    def name(self) -> str:
        """The option."""
        return self.flag or f"--{self.field.replace('_', '-')}"


@dataclass(frozen=True)
class Thing:
    """One kind.

    Attributes:
        plural: the command; one: what a sentence calls it; path: below `/api/v1`.
        key: the field that NAME sets at `create`; names: fields by which one is found, beside `id`.
        verbs: those there are beside `list` and `show`.
        secret: the field of a creation's answer that is printed once, alone on standard output.
        filters: options of `list`, as names of the query.
        shape: makes the body of what was said; its second argument is whether something is made.
    """

    plural: str
    one: str
    path: str
    about: str
    columns: tuple[Shown, ...]
    options: tuple[Said, ...] = ()
    key: str = "name"
    argument: str = "NAME"
    argument_help: str = ""
    names: tuple[str, ...] = ("name",)
    verbs: frozenset[str] = frozenset({"create", "update", "delete"})
    secret: str = ""
    organisation: bool = True
    filters: tuple[tuple[str, str], ...] = ()
    details: tuple[Shown, ...] = ()
    empty: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    shape: Callable[[Record, bool], Record] | None = None


def state(record: Record) -> Value:
    """Its state, in its colour, and who keeps it."""
    keepers = {"house": "operator", "apply:house": "apply"}
    kept = keepers.get(str(record.get("managed_by") or ""), record.get("managed_by"))
    word = str(record.get("state", "active"))
    return show.state(f"{word} ({kept})" if kept else word)


def when(name: str) -> Callable[[Record], Value]:
    """A moment in Unix seconds."""
    return lambda record: show.moment_or_never(record.get(name))


def date(name: str) -> Callable[[Record], Value]:
    """A day, in Unix seconds."""
    return lambda record: show.day(record.get(name))


LIMIT_OPTIONS = (
    *(Said(name, sentence, click.IntRange(1), within="limits") for name, (_, sentence) in LIMITS.items()),
    *(Said(name, sentence, within="limits") for name, sentence in BUDGETS.items()),
    Said("budget_period", "Period of both budgets.", click.Choice(PERIODS), within="limits"),
)
