# SPDX-License-Identifier: Apache-2.0
"""Walks plain data beside the schema and gathers every fault, each with what to do.

In: plain data and its `Marks`. Out: a `Document`, complete even where a value is missing or wrong: `broken` names the places
that hold a stand-in, so that whoever looks on can go on without complaining about what is told already.
"""

import difflib
import math
import re
from collections.abc import Iterable
from datetime import date
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from beffroi.config.problems import Broken, Marks, Place, Problem, dotted
from beffroi.config.reference import (
    bounds,
    default_of,
    is_struct,
    item_struct,
    reference,
    shown_default,
    special,
    strip,
    wanted,
)
from beffroi.config.schema import Document

T = TypeVar("T", bound=msgspec.Struct)
_SHOWN = 40  # characters of a name that are repeated to whoever wrote it


class Reader:
    """Fills structs; never raises for what stands in the data. `root`: what a whole file is."""

    def __init__(self, marks: Marks, problems: list[Problem], root: type[msgspec.Struct] = Document) -> None:
        self.broken = Broken()
        self._marks = marks
        self._problems = problems
        self._root = root
        self._known: dict[type[msgspec.Struct], dict[str, msgspec.structs.FieldInfo]] = {}
        self._elsewhere: dict[str, list[str]] = {}  # last part of a name → the whole names

    def _fields(self, kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
        if kind not in self._known:
            self._known[kind] = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        return self._known[kind]

    def _fault(self, place: Place, message: str, remedy: str, *, at_key: bool = False) -> None:
        spot = self._marks.key(place) if at_key else self._marks.value(place)
        self._problems.append(Problem(spot, dotted(place)[:200], message, remedy))
        self.broken.add(place)

    def struct(self, value: object, kind: type[T], place: Place) -> T:
        """The group of settings at `place`; what is missing or wrong in it has a default or a stand-in."""
        fields = self._fields(kind)
        if not isinstance(value, dict):
            names = ", ".join(f"`{name}`" for name in fields)
            self._fault(
                place, f"must be a group of settings, not {called(value)}", f"indent its settings below: {names}"
            )
            value = {}
        taken: dict[str, Any] = {}
        meant: set[str] = set()  # names that a wrong one was probably meant to be: they are not missing too
        for name, item in value.items():
            if name not in fields:
                near = nearest(str(name), fields)
                meant.update(near)
                self._fault(
                    (*place, str(name)[:_SHOWN]),
                    "there is no such setting",
                    self._hint(str(name), near, fields),
                    at_key=True,
                )
            elif item is None:
                continue  # `server:` with nothing under it is as good as left out
            else:
                taken[name] = self._value(item, fields[name], (*place, name))
        for name, field in fields.items():
            if name in taken:
                continue
            if field.required and place not in self.broken.places:
                if name in value:
                    self._fault((*place, name), "has no value", f"write {wanted(field.type)}")
                elif name not in meant:
                    remedy = f"add `{name}`: {wanted(field.type)}"
                    self._problems.append(
                        Problem(self._marks.key(place), dotted(place), f"`{name}` is missing", remedy)
                    )
                self.broken.add((*place, name))
            taken[name] = "" if field.required else default_of(field)
        return kind(**taken)

    def _value(self, value: object, field: msgspec.structs.FieldInfo, place: Place) -> object:
        inner = strip(field.type)
        if is_struct(inner):
            return self.struct(value, inner, place)
        before = len(self._problems)
        if (item := item_struct(inner)) is not None and isinstance(value, list):
            return tuple(self.struct(part, item, (*place, index)) for index, part in enumerate(value))
        if get_origin(inner) is tuple and isinstance(value, list):
            (kind, _) = get_args(inner)
            for index, part in enumerate(value):
                self._scalar(part, kind, (*place, index), None)
        elif get_origin(inner) is dict and isinstance(value, dict):
            for name, part in value.items():
                self._scalar(part, get_args(inner)[1], (*place, name), None)
        if len(self._problems) == before:
            taken = self._scalar(value, field.type, place, field)
            if len(self._problems) == before:
                return taken
        self.broken.add(place)
        return "" if field.required else default_of(field)

    def _scalar(self, value: object, kind: Any, place: Place, field: msgspec.structs.FieldInfo | None) -> object:
        """One value that is no group; None when it is not what it should be."""
        if isinstance(value, str) and "\0" in value:
            self._fault(place, "holds a null character", "take it away")
            return None
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise msgspec.ValidationError
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            secret = special(kind) == "secret"
            must = f"must be {_wanted(kind)}, not {called(value, secret=secret)}"
            if isinstance(value, str) and bounds(kind) and strip(kind) is str:
                must = f"must be {wanted(kind)}, and has {len(value)}"
            self._fault(place, must, _remedy(value, kind, field))
            return None

    def _hint(self, name: str, near: list[str], fields: Iterable[str]) -> str:
        """The nearest name of this group, or the group in which it is a name."""
        if not self._elsewhere:
            for one in reference(self._root):
                self._elsewhere.setdefault(one.name.rsplit(".", 1)[-1], []).append(one.name)
        elsewhere = self._elsewhere.get(name.strip())
        if near and (not elsewhere or _squeeze(near[0]) == _squeeze(name)):
            return f"did you mean `{near[0]}`?"
        if elsewhere:
            return f"it belongs elsewhere: {' or '.join(f'`{one}`' for one in elsewhere[:3])}"
        return f"there are {', '.join(f'`{one}`' for one in fields)}"


def _wanted(kind: Any) -> str:
    if (item := item_struct(strip(kind))) is not None:
        return f"a list of {item.__name__.lower()}s"
    return wanted(kind)


def called(value: object, *, secret: bool = False) -> str:
    """What stands there, in words; numbers are shown, texts are not: one of them may be a secret."""
    if isinstance(value, int | float) and not secret:
        return f"{value}"[:_SHOWN].lower()
    names = {dict: "a group of settings", list: "a list", str: "text", type(None): "nothing"}
    return names.get(type(value), "a day or a time" if isinstance(value, date) else "a number")


def nearest(name: str, among: Iterable[str]) -> list[str]:
    """The name of `among` that `name` was probably meant to be, alone in a list; empty when none is near."""
    squeezed = {_squeeze(one): one for one in among}
    near = difflib.get_close_matches(_squeeze(name), squeezed, 1, 0.6)
    return [squeezed[near[0]]] if near else []


def _squeeze(name: str) -> str:
    """`maxBody`, `max-body` and `MAX_BODY` are slips of the same name."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _remedy(value: object, kind: Any, field: msgspec.structs.FieldInfo | None) -> str:
    inner = strip(kind)
    if get_origin(inner) is Literal and isinstance(value, str) and (near := nearest(value, get_args(inner))):
        return f"did you mean `{near[0]}`?"
    if get_origin(inner) is tuple and not isinstance(value, list):
        return "write a list, also of one: a `-` before each item, or brackets around them"
    if inner is str and isinstance(value, int | float | date):
        return "put it in quotes"
    if isinstance(value, str) and inner in (int, float, bool) and _fits(value.strip().lower(), kind):
        return "take the quotes away, and write true or false out" if inner is bool else "take the quotes away"
    if field is None or field.required:
        return f"write {_wanted(kind)}"
    default = shown_default(field)
    return (
        "correct it, or leave it out"
        if default in ("none", "[]", "{}")
        else f"correct it, or leave it out for {default}"
    )


def _fits(text: str, kind: Any) -> bool:
    """Whether a text becomes a value of that type by taking its quotes away."""
    try:
        msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        return text in {"yes", "no", "on", "off"} and strip(kind) is bool
    return True
