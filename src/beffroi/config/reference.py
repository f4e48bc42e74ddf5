# SPDX-License-Identifier: Apache-2.0
"""What the schema says of itself: every setting with its type, bounds, default, sentence and variable.

In: the structs of `schema`. Out: `reference()` for pages, `variables()` for the environment, phrases for messages.
"""

import datetime
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from beffroi.config.problems import Place
from beffroi.config.schema import CURRENCY, Document

PREFIX = "BEFFROI_"
SEPARATOR = "__"
DATA = ("server", "data")  # its variable is the one that every command reads
_PARTS = ("server", "gateway")  # what the environment can set: there is one of each


class Setting(NamedTuple):
    """One entry of the reference; names of list items end in `[]`, and `variable` is empty where there is none."""

    name: str
    type: str
    default: str
    sentence: str
    variable: str
    kind: Any


def reference(root: type[msgspec.Struct] = Document) -> list[Setting]:
    """Every setting of a file there is, in the order of the schema."""
    return list(_walk(root, ()))


def variables() -> dict[str, tuple[Place, Any]]:
    """Name of the environment variable → the setting's place and type."""
    return {
        setting.variable: (tuple(setting.name.split(".")), setting.kind) for setting in reference() if setting.variable
    }


def variable(place: Place) -> str:
    """`BEFFROI_SERVER__TLS__KEY` of `server.tls.key`: two underscores where the file has a dot."""
    return f"{PREFIX}DATA" if place == DATA else PREFIX + SEPARATOR.join(str(part).upper() for part in place)


def _walk(struct: type[msgspec.Struct], prefix: Place) -> Iterator[Setting]:
    for field in msgspec.structs.fields(struct):
        inner = strip(field.type)
        place = (*prefix, field.encode_name)
        if (item := item_struct(inner)) is not None:
            yield from _walk(item, (*prefix, f"{field.encode_name}[]"))
        elif is_struct(inner):
            yield from _walk(inner, place)
        else:
            name = variable(place) if place[0] in _PARTS else ""
            yield Setting(
                ".".join(map(str, place)),
                type_name(field.type),
                shown_default(field),
                _sentence(field.type),
                name,
                field.type,
            )


def strip(kind: Any) -> Any:
    """A type without its annotations and without None: what a value of it is."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    parts = [part for part in get_args(kind) if part is not type(None)] if _is_union(kind) else []
    return strip(parts[0]) if len(parts) == 1 else kind


def metas(kind: Any) -> Iterator[Meta]:
    """All that annotates a type, the outermost first."""
    if get_origin(kind) is Annotated:
        inner, *found = get_args(kind)
        yield from (meta for meta in reversed(found) if isinstance(meta, Meta))
        yield from metas(inner)
    elif _is_union(kind):
        for part in get_args(kind):
            yield from metas(part)


def special(kind: Any) -> str:
    """`path`, `secret`, or empty: what a text is beyond text."""
    return next((str(meta.extra["kind"]) for meta in metas(kind) if meta.extra and "kind" in meta.extra), "")


def item_struct(inner: Any) -> type[msgspec.Struct] | None:
    """The struct that a stripped list type holds; None for all else."""
    if get_origin(inner) is tuple and is_struct(item := strip(get_args(inner)[0])):
        return item  # type: ignore[no-any-return]
    return None


def is_struct(kind: Any) -> bool:
    """Whether a stripped type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The value of a setting that is left out; `msgspec.NODEFAULT` if it may not be."""
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    """The default as a file would write it; `none` and `required` in words."""
    if field.required:
        return "required"
    value = default_of(field)
    return "none" if value is None else msgspec.json.encode(value).decode()


def _sentence(kind: Any) -> str:
    return next((meta.description for meta in metas(kind) if meta.description), "")


def type_name(kind: Any) -> str:
    """A type in words for people."""
    kind = strip(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{arg}`" for arg in args)
    if float in args:
        return "amount"
    if origin is tuple:
        return f"list of {type_name(args[0])}"
    if origin is dict:
        return f"map of {type_name(args[0])} to {type_name(args[1])}"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", datetime.date: "date"}
    return words[kind]


def bounds(kind: Any) -> str:
    """` from 1 to 64`, ` above 0`, ` of 1 to 64 characters`, or empty."""
    low, high, above, short, long = (
        next((value for meta in metas(kind) if (value := getattr(meta, name)) is not None), None)
        for name in ("ge", "le", "gt", "min_length", "max_length")
    )
    if above is not None:
        return f" above {above}"
    if low is not None:
        return f" of at least {low}" if high is None else f" from {low} to {high}"
    if short is not None:
        unit = "characters" if strip(kind) is str else "items"
        return f" with at least one {unit[:-1]}" if long is None else f" of {short} to {long} {unit}"
    return ""


def wanted(kind: Any) -> str:
    """What a value must be, as it fits after `must be`."""
    inner = strip(kind)
    origin, args = get_origin(inner), get_args(inner)
    if origin is Literal:
        return type_name(kind)
    if float in args:
        return "an amount of money such as 0.9"
    if origin is tuple:
        return f"a list of {type_name(args[0])}{bounds(kind)}"
    if origin is dict:
        return "a group of `name: value`"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if inner is str and any(meta.pattern == CURRENCY for meta in metas(kind)):
        return "three capital letters such as EUR"
    return words.get(inner, "a day such as 2026-01-31") + bounds(kind)


def _is_union(kind: Any) -> bool:
    return str(get_origin(kind)) in ("typing.Union", "<class 'types.UnionType'>")
