# SPDX-License-Identifier: Apache-2.0
"""Where things stand in a text: each mark points at what it marks, in YAML and in TOML."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beffroi.config import toml_text, yaml_text
from beffroi.config.problems import Invalid, Marks, Place, Problem
from tests.config.valid import TOML, YAML

TRICKY = '''\
# a comment with key = 1 and [table]
"quoted.key" = 1
'single' = 'x = 2'   # = 3
a.b."c d".e = """
not_a_key = 1
[not_a_table] \\"""
"""
lit = \'\'\'
k = 'v' \'\'\'
arr = [ # first
  "x, ]", { y = [1, 2], z.w = "}" }, [ ],
  1979-05-27T07:32:00Z, # last
]
[t."x.y".z]
n = -1.5e3
[[many]]
id = 1
[many.sub]
k = true
[[many]]
id = 2
[[many.deep]]
v = {}
[[many.deep]]
v = { a = 1, b = { c = "d" } }
'''


def places(value: Any, at: Place = ()) -> list[tuple[Place, Any]]:
    """Every place of plain data, with its value."""
    found: list[tuple[Place, Any]] = [(at, value)]
    if isinstance(value, dict):
        found += [one for name, part in value.items() for one in places(part, (*at, name))]
    elif isinstance(value, list):
        found += [one for index, part in enumerate(value) for one in places(part, (*at, index))]
    return found


def at(text: str, mark: tuple[int, int]) -> str:
    """The rest of the line from a mark on."""
    line, column = mark
    return text.split("\n")[line - 1][column - 1 :]


@pytest.mark.parametrize("text", [TOML, TRICKY], ids=["usual", "tricky"])
def test_every_value_of_a_toml_file_has_its_place(text: str) -> None:
    """Each mark of a name points at that name, each mark of a value at its first sign."""
    value, marks = toml_text.read(text, "b.toml")
    assert value == tomllib.loads(text)
    for place, item in places(value):
        if place and isinstance(place[-1], str):
            there = at(text, marks.keys[place]).lstrip("[ ")
            assert place[-1] in there.replace('"', "").replace("'", "").replace("\\", ""), (place, there)
        if isinstance(item, str | int | float) and not isinstance(item, bool):
            assert at(text, marks.values[place])[0] in f"\"'{item}", (place, item)
        elif isinstance(item, list) and not any(isinstance(part, dict) for part in item):
            assert at(text, marks.values[place])[0] == "[", place


def test_every_value_of_a_yaml_file_has_its_place() -> None:
    """The same, for YAML."""
    problems: list[Problem] = []
    value, marks = yaml_text.read(YAML, "b.yaml", problems)
    assert not problems
    for place, item in places(value):
        if place and isinstance(place[-1], str):
            assert at(YAML, marks.keys[place]).startswith(place[-1]), place
        if isinstance(item, str | int) and not isinstance(item, bool):
            assert at(YAML, marks.values[place]).lstrip("\"'").startswith(str(item)), place


SCALAR = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
DATA = st.dictionaries(
    st.text("abc_.é\"'= #[", min_size=1, max_size=5),
    st.recursive(
        SCALAR,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def basic(text: str) -> str:
    """A string in TOML's double quotes."""
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


def toml(value: Any) -> str:
    """Any value inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{basic(name)} = {toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return basic(value) if isinstance(value, str) else repr(value)


@given(DATA)
def test_whatever_toml_holds_its_places_are_found(data: dict[str, Any]) -> None:
    """Names and texts with quotes, brackets and signs of the language in them do not lead astray."""
    text = "".join(f"{basic(name)} = {toml(value)}\n" for name, value in data.items())
    try:
        value, marks = toml_text.read(text, "b.toml")
    except Invalid:  # a lone surrogate, which no file can hold
        return
    for place, item in places(value):
        if place:
            assert place in marks.values, place
            assert at(text, marks.values[place]).startswith(toml(item)), place


def test_what_is_not_there_has_the_place_of_what_is_around_it() -> None:
    """A missing setting is told where it should be."""
    marks = Marks("b.yaml", {("server",): (3, 1)}, {(): (1, 1), ("server",): (4, 3)})
    assert str(marks.key(("server", "port"))) == "b.yaml:3:1"
    assert str(marks.value(("gateway", "max_body"))) == "b.yaml:1:1"


def test_scalars_are_what_they_look_like() -> None:
    """As YAML 1.2 has it: only true and false are that, a leading zero and a colon make no number, a date is text."""
    texts = {"off": "off", "no": "no", "010": "010", "1:30": "1:30", "2026-01-31": "2026-01-31", "0x1F": "0x1F"}
    others = {"true": True, "1e3": 1000.0, "12": 12, "~": None, "1_000": 1000, ".5": 0.5, "-2.": -2.0}
    for text, wanted in (texts | others).items():
        value, _ = yaml_text.read(f"a: {text}", "b.yaml", [])
        assert value == {"a": wanted}
        assert type(value["a"]) is type(wanted)  # type: ignore[index]


def test_merge_keys_are_no_repetition() -> None:
    """`<<` brings defaults in, which the item overrides; a name twice in one group is a fault all the same."""
    text = "a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\nc: {<<: *base, x: 4}\n"
    problems: list[Problem] = []
    assert yaml_text.read(text, "b.yaml", problems)[0] == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 4, "y": 2},
    }
    assert problems == []
    yaml_text.read("b: {x: 1, x: 2}", "b.yaml", problems)
    assert [str(problem) for problem in problems] == [
        "b.yaml:1:11: b.x: is set twice; keep one of them; the other is on line 1"
    ]
