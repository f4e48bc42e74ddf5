# SPDX-License-Identifier: Apache-2.0
"""Settings from environment variables, laid over those of the file: `BEFFROI_SERVER__PORT` is `server.port`.

In: plain data, its marks, the environment. Out: the same data with what the environment sets, and what it sets in vain.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from beffroi.config.problems import Marks, Place, Problem, Spot, dotted
from beffroi.config.reference import DATA, PREFIX, SEPARATOR, special, strip, variable, variables

# What programs of this project read beside settings.
OTHERS = frozenset(f"{PREFIX}{name}" for name in ("CONFIG", "API_KEY", "BASE_URL", "CHILD", "NATIVE", "REQUIRE"))
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_LONGEST = 300  # signs of a number; Python refuses to read one of thousands
_PARTS = frozenset(("SERVER", "GATEWAY"))
_ALIKE = 0.8
Overrides = Mapping[Place, tuple[Any, str]]


def lay_over(
    value: dict[str, Any], marks: Marks, environ: Mapping[str, str], overrides: Overrides, problems: list[Problem]
) -> list[Problem]:
    """Set in `value` what variables set, then what options do; an empty variable sets nothing.

    Args:
        overrides: place → value and the option that gave it.

    Returns:
        What should be told without keeping anybody from starting.
    """
    known = variables()
    notes = []
    for name in sorted(environ):
        text = environ[name].strip()
        if not name.startswith(PREFIX) or not text or name in OTHERS:
            continue
        spot = Spot(name, kind="environment")
        if name in known:
            place, kind = known[name]
            _put(value, marks, place, _value(text, kind), spot)
        elif SEPARATOR in name:
            problems.append(Problem(spot, "", "there is no such setting", _hint(name, known)))
        elif (near := _alike(name, known)) and "://" not in text:  # NAME_PORT=tcp://… is Kubernetes' for a service
            notes.append(
                Problem(spot, "", "is not read: settings have two underscores between levels", f"write {near}")
            )
    for place, (given, option) in overrides.items():
        _put(value, marks, place, given, Spot(option, kind="command line"))
    return notes


def _put(value: dict[str, Any], marks: Marks, place: Place, given: Any, spot: Spot) -> None:
    group: Any = value
    for depth, part in enumerate(place[:-1], 1):
        if group.get(part) is None:
            group[part] = {}
            marks.elsewhere[place[:depth]] = spot
        group = group[part]
        if not isinstance(group, dict):
            return  # the file has something else there, which is told
    group[place[-1]] = given
    marks.elsewhere[place] = spot


def _value(text: str, kind: Any) -> Any:
    """A variable's text as a file would have it; paths count from the working directory."""
    inner = strip(kind)
    if special(kind) == "path":
        return str(Path(text).expanduser().absolute())
    if get_origin(inner) is tuple:
        return [_value(part.strip(), get_args(inner)[0]) for part in text.split(",") if part.strip()]
    if get_origin(inner) is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return {name.strip(): _value(part.strip(), get_args(inner)[1]) for name, _, part in pairs}
    if inner is bool and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if inner in (int, float) and len(text) <= _LONGEST and _NUMBER.fullmatch(text):
        text = text.replace("_", "")
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    return text


def _hint(name: str, known: Mapping[str, Any]) -> str:
    place = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
    if place == DATA:
        return f"write {variable(DATA)}, which every command reads"
    if place[0] == "resources":
        return "engines and models stand in a file; a secret in it may be a reference to a variable, `env:NAME`"
    bare = {one.removeprefix(PREFIX): one for one in known}
    same = [one for one in bare if one.endswith(SEPARATOR + name.rpartition(SEPARATOR)[2])]  # in the wrong group
    if near := same[:1] or difflib.get_close_matches(name.removeprefix(PREFIX), bare, 1, 0.5):
        return f"did you mean {bare[near[0]]} (`{dotted(known[bare[near[0]]][0])}`)?"
    return "see `beffroi config show` for what there is, or unset it"


def _alike(name: str, known: Mapping[str, Any]) -> str:
    """The variable that a name without two underscores was probably meant to be; empty when it looks like none."""
    part, _, rest = name.removeprefix(PREFIX).partition("_")
    begin = f"{PREFIX}{part}{SEPARATOR}"
    flat = {
        one.removeprefix(begin).replace(SEPARATOR, "_"): one
        for one in known
        if one.startswith(begin) and part in _PARTS
    }
    near = difflib.get_close_matches(rest, flat, 1, _ALIKE)
    return flat[near[0]] if near else ""
