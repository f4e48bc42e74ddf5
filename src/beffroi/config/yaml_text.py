# SPDX-License-Identifier: Apache-2.0
"""Reads YAML into plain data and remembers where everything stood.

In: text. Out: plain data, `Marks`, and faults. Scalars follow YAML 1.2's core schema: `off`, `no` and `1:30` are text, as they look.
"""

import re
from typing import Any

import yaml

from beffroi.config.problems import Invalid, Marks, Place, Problem, Spot, dotted

MAX_VALUES = 500_000
MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"
_PLAIN = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq", "merge")}
_HINTS = (
    ("'\\t'", "indent with spaces; YAML does not take tabs there"),
    ("mapping values are not allowed", "put text that holds `: ` in quotes, and indent this line like its neighbours"),
    ("could not find expected ':'", "write `name: value`, with a space after the colon"),
    ("undefined alias", "put text that begins with `*` in quotes, or define the anchor `&name` above"),
    ("while scanning an anchor", "put text that begins with `&` or `*` in quotes"),
    ("cannot start any token", "put text that begins with this character in quotes"),
    ("unexpected end of stream", "close the quote that is open here"),
    ("expected ',' or", "close the bracket that is open here, and put commas between its items"),
    ("expected a single document", "keep one document: take the line `---` and what belongs to another away"),
    ("unknown escape character", "write it in single quotes: within double quotes a backslash begins an escape"),
    ("special characters are not allowed", "take the control character away"),
)
_SMALLER = f"keep below {MAX_DEPTH} levels and {MAX_VALUES} values; aliases count where they are used"
_USUAL = "check indentation, quotes and brackets of this line and of the one above it"


_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    first: [
        (f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)$")),
        (f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")),
        (f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$")),
        (
            f"{_TAG}float",
            re.compile(
                r"(?:[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan)$"
            ),
        ),
        (f"{_TAG}merge", re.compile(r"<<$")),
    ]
    for first in ["", *"~nNtTfF+-.0123456789<"]
}


class _Loader(yaml.CSafeLoader):
    """PyYAML's own loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = _RESOLVERS


def read(text: str, file: str, problems: list[Problem]) -> tuple[object, Marks]:
    """The document of `text`; faults that do not keep the rest from being read are added to `problems`.

    Raises:
        Invalid: it is not YAML, or grows too large.
    """
    loader = _Loader(text)
    walk = _Walk(loader, Marks(file), problems)
    try:
        if (spot := too_deep(text)) is not None:
            spot = Spot(file, spot.line, spot.column)
            raise Invalid([Problem(spot, "", "is nested too deep or too large", _SMALLER)])
        root = loader.get_single_node()
        return (None if root is None else walk.plain(root, ())), walk.marks
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = Spot(file, mark.line + 1, mark.column + 1) if mark else Spot(file, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        hint = next((hint for sign, hint in _HINTS if sign in what), _USUAL)
        fault = Problem(spot, "", f"is not YAML: {error.problem or error.context}", hint)
        raise Invalid([*problems, fault]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = "a control character stands here" if error.reason.startswith("special") else error.reason
        raise Invalid(
            [*problems, Problem(Spot(file, line), "", f"is not YAML: {what}", "take it away, or write it as an escape")]
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0]
        raise Invalid([*problems, Problem(Spot(file, 1), "", f"is not YAML: {said}", _USUAL)]) from None
    finally:
        loader.dispose()


def too_deep(text: str) -> Spot | None:
    """Where a text goes deeper than `MAX_DEPTH` levels, its file left empty.

    To be asked before nodes are made: the C library makes them by recursion without a guard of its stack.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH + 1:
                mark = event.start_mark
                return Spot("", mark.line + 1, mark.column + 1) if mark else Spot("", 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


class _Walk:
    def __init__(self, loader: _Loader, marks: Marks, problems: list[Problem]) -> None:
        self.marks = marks
        self._loader = loader
        self._problems = problems
        self._count = 0
        self._seen: set[int] = set()

    def plain(self, node: yaml.Node, place: Place) -> Any:
        """The node's value as dict, list or scalar."""
        self._count += 1
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if self._count > MAX_VALUES or len(place) > MAX_DEPTH:
            raise Invalid(
                [
                    Problem(
                        Spot(self.marks.file, line, column),
                        dotted(place)[:80],
                        "is nested too deep or too large",
                        _SMALLER,
                    )
                ]
            )
        self.marks.values[place] = line, column
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*place, index)) for index, item in enumerate(node.value)]
        if node.tag not in _PLAIN:
            self._fault(node, place, f"has the tag `{node.tag.removeprefix(_TAG)}`", "take the tag away")
            return None
        try:
            return self._loader.construct_object(node)
        except ValueError:
            self._fault(
                node, place, "is no number or text that can be read", "write a smaller number, and no tag before it"
            )
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        if id(node) not in self._seen:  # once: what merge keys bring in is no repetition
            self._seen.add(id(node))
            first: dict[str, int] = {}
            for key, _ in node.value:
                name = str(key.value)
                if name in first and isinstance(key, yaml.ScalarNode):
                    where = f"keep one of them; the other is on line {first[name]}"
                    self._fault(key, (*place, name), "is set twice", where)
                first.setdefault(name, key.start_mark.line + 1)
            self._loader.flatten_mapping(node)
        mapping: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                what = "fill in what `{{ … }}` stands for" if isinstance(key, yaml.MappingNode) else "write plain text"
                self._fault(key, place, "has a group where the name of a setting should be", what)
                continue
            name = str(key.value)
            self.marks.keys[*place, name] = key.start_mark.line + 1, key.start_mark.column + 1
            mapping[name] = self.plain(item, (*place, name))
        return mapping

    def _fault(self, node: yaml.Node, place: Place, message: str, remedy: str) -> None:
        spot = Spot(self.marks.file, node.start_mark.line + 1, node.start_mark.column + 1)
        self._problems.append(Problem(spot, dotted(place), message, remedy))
