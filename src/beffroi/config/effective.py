# SPDX-License-Identifier: Apache-2.0
"""What holds in the end, and where each of it comes from: default, file and line, variable, option.

In: a `Source`. Out: one `Effective` per setting, in the order of the schema; secrets as references, never themselves.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from beffroi.config.load import Place, Source, Spot, dotted
from beffroi.config.reference import is_struct, item_struct, special, strip
from beffroi.config.secrets import masked


class Effective(NamedTuple):
    """One setting with its value as plain data; `spot` is None where the default holds."""

    name: str
    value: Any
    spot: Spot | None


def effective(source: Source) -> Iterator[Effective]:
    """Every setting there is; of lists, those of each item that is there."""
    yield from _group(source, source.document, ())


def _group(source: Source, group: msgspec.Struct, place: Place) -> Iterator[Effective]:
    for field in msgspec.structs.fields(group):
        here = (*place, field.encode_name)
        value = getattr(group, field.name)
        inner = strip(field.type)
        if is_struct(inner) and value is not None:
            yield from _group(source, value, here)
        elif item_struct(inner) is not None and value:
            for index, item in enumerate(value):
                yield from _group(source, item, (*here, index))
        else:
            shown = masked(value) if special(field.type) == "secret" and value is not None else value
            yield Effective(dotted(here), msgspec.json.decode(msgspec.json.encode(shown)), _origin(source, here))


def _origin(source: Source, place: Place) -> Spot | None:
    marks = source.marks
    if place in marks.elsewhere:
        return marks.elsewhere[place]
    return Spot(marks.file, *marks.keys[place]) if place in marks.keys else None
