# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration file strictly: every fault at once, each with its file, its line and what to do.

In: the path of a YAML or TOML file. Out: a `Source` (the `Document`, and where each setting stands), or `Invalid`.
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import yaml

from beffroi.config.schema import Document, Resources, strip, type_name

Place = tuple[str | int, ...]
T = TypeVar("T", bound=msgspec.Struct)
MAX_FILE = 4 << 20
MAX_VALUES = 500_000
MAX_DEPTH = 32


class Problem(NamedTuple):
    """One fault: the line it is on (0: the file as a whole), the setting's dotted name, and a sentence."""

    line: int
    name: str
    message: str


class Invalid(ValueError):
    """A configuration that is not taken; `problems` has them all, and the text shows one a line as `file:line: …`."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems)
        super().__init__("\n".join(self._show(problem) for problem in self.problems))

    def _show(self, problem: Problem) -> str:
        where = f"{self.file}:{problem.line}" if problem.line else self.file
        return f"{where}: {problem.name}: {problem.message}" if problem.name else f"{where}: {problem.message}"


class Source(NamedTuple):
    """A configuration as read: `lines` maps a place (`("resources", "models", 0, "id")`) to its line."""

    document: Document
    file: str
    lines: dict[Place, int]
    base: Path

    def line(self, place: Place) -> int:
        """The line of a place or of the nearest one around it; 0 when nothing is known."""
        return _nearest(self.lines, place)


EMPTY = Source(Document(), "(no file)", {}, Path())


def load(path: Path) -> Source:
    """Read a file; its suffix says the language (`.toml`, otherwise YAML).

    Raises:
        Invalid: it cannot be read, parsed, or does not follow the schema.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Invalid(str(path), [Problem(0, "", f"cannot be read: {error.strerror}")]) from None
    if len(raw) > MAX_FILE:
        raise Invalid(str(path), [Problem(0, "", f"is larger than {MAX_FILE} bytes")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Invalid(str(path), [Problem(line, "", "is not UTF-8 text")]) from None
    return parse(text, str(path), toml=path.suffix == ".toml", base=path.parent)


def parse(text: str, file: str, *, toml: bool = False, base: Path = Path()) -> Source:
    """As `load`, from text; relative paths in it count from `base`."""
    problems: list[Problem] = []
    value, lines = _toml(text, file) if toml else _yaml(text, file, problems)
    document = _Reader(lines, problems).struct({} if value is None else value, Document, ())
    if problems or document is None:
        raise Invalid(file, problems)
    return Source(document, file, lines, base)


def resources(value: object, file: str) -> Source:
    """A `Source` with only resources, from plain data in the shape of the file (what start-up found or was told).

    Raises:
        Invalid: it does not follow the schema.
    """
    problems: list[Problem] = []
    found = _Reader({}, problems).struct(value, Resources, ("resources",))
    if problems or found is None:
        raise Invalid(file, problems)
    return Source(Document(resources=found), file, {}, Path())


def _nearest(lines: dict[Place, int], place: Place) -> int:
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 0)


def dotted(place: Place) -> str:
    """`resources.models[0].id`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


class _Reader:
    """Walks plain data beside the schema; faults are gathered, and None stands for a value that had one."""

    def __init__(self, lines: dict[Place, int], problems: list[Problem]) -> None:
        self._lines = lines
        self._problems = problems

    def _fault(self, place: Place, message: str) -> None:
        self._problems.append(Problem(_nearest(self._lines, place), dotted(place), message))

    def struct(self, value: object, kind: type[T], place: Place) -> T | None:
        if not isinstance(value, dict):
            self._fault(place, f"must be a group of settings, not {_called(value)}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        taken: dict[str, Any] = {}
        before = len(self._problems)
        for name, item in value.items():
            if name not in fields:
                near = difflib.get_close_matches(str(name), fields, 1, 0.5)
                hint = (
                    f"did you mean `{near[0]}`?" if near else f"there are {', '.join(f'`{name}`' for name in fields)}"
                )
                self._fault((*place, str(name)), f"there is no such setting; {hint}")
            elif item is None and isinstance(strip(fields[name].type), type):
                continue  # `server:` with nothing under it is as good as left out
            else:
                taken[name] = self._value(item, fields[name].type, (*place, name))
        for name, field in fields.items():
            if field.required and name not in value:
                self._fault(place, f"`{name}` is missing")
        return kind(**taken) if len(self._problems) == before else None

    def _value(self, value: object, kind: Any, place: Place) -> object:
        inner = strip(kind)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return self.struct(value, inner, place)
        item = strip(get_args(inner)[0]) if get_origin(inner) is tuple else None
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            if not isinstance(value, list):
                self._fault(place, f"must be a list, not {_called(value)}")
                return None
            return tuple(self.struct(part, item, (*place, index)) for index, part in enumerate(value))
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            choices = f"must be {type_name(kind)}" if get_origin(inner) is Literal else _reworded(str(error))
            self._fault(place, choices)
            return None


def _called(value: object) -> str:
    names = {dict: "a group of settings", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _reworded(message: str) -> str:
    """Msgspec's sentence in ours: what was expected comes first, names of Python types become words."""
    words = {
        "`int`": "a whole number",
        "`float`": "a number",
        "`str`": "text",
        "`bool`": "true or false",
        "`null`": "nothing",
    }
    words |= {"`array`": "a list", "`object`": "a group of settings"}
    message = re.sub(r" - at `\$\.?([^`]*)`", lambda match: f" (at {match[1]})" if match[1] else "", message)
    for name, word in words.items():
        message = message.replace(name, word)
    return message.replace("Expected", "must be", 1).replace(", got", ", not", 1).replace(" | ", " or ")


def _yaml(text: str, file: str, problems: list[Problem]) -> tuple[object, dict[Place, int]]:
    lines: dict[Place, int] = {}
    loader = yaml.CSafeLoader(text)
    count = 0

    def plain(node: yaml.Node, place: Place) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES or len(place) > MAX_DEPTH:
            raise Invalid(
                file, [Problem(node.start_mark.line + 1, dotted(place)[:80], "is nested too deep or too large")]
            )
        lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            mapping: dict[str, Any] = {}
            for key, item in node.value:
                name = str(key.value)
                lines[*place, name] = line = key.start_mark.line + 1
                if name in mapping:
                    problems.append(Problem(line, dotted((*place, name)), "is set twice"))
                mapping[name] = plain(item, (*place, name))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [plain(item, (*place, index)) for index, item in enumerate(node.value)]
        try:
            return loader.construct_object(node)
        except ValueError as error:  # such as a date that no calendar has
            problems.append(Problem(lines[place], dotted(place), str(error)))
            return None

    try:
        root = loader.get_single_node()
        return (None if root is None else plain(root, ())), lines
    except Invalid:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Invalid(
            file, [Problem(mark.line + 1 if mark else 0, "", f"is not YAML: {error.problem or error.context}")]
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(file, [Problem(0, "", f"is not YAML: {str(error).splitlines()[0]}")]) from None
    finally:
        loader.dispose()


_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-\"'. ]+?)\s*=")


def _toml(text: str, file: str) -> tuple[object, dict[Place, int]]:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        raise Invalid(file, [Problem(int(match[1]) if match else 0, "", f"is not TOML: {error}")]) from None
    except RecursionError:
        raise Invalid(file, [Problem(0, "", "is nested too deep")]) from None
    return value, _toml_lines(text)


def _toml_lines(text: str) -> dict[Place, int]:
    """Lines of tables and of keys at the start of a line; what stands inside an inline value counts to its key."""
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, row in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(row):
            table = ()
            names = [part.strip().strip("\"'") for part in header[2].split(".")]
            for depth, name in enumerate(names):
                table = (*table, name)
                if header[1] == "[[" and depth == len(names) - 1:
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            lines.setdefault(table, number)
        elif key := _KEY.match(row):
            lines.setdefault((*table, *(part.strip().strip("\"'") for part in key[1].split("."))), number)
    return lines
