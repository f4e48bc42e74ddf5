# SPDX-License-Identifier: Apache-2.0
"""Reads the YAML file of another gateway so that nothing in it is passed over.

In: a path. Out: a `Part`, from which converters take what they know; what is left in it at the end is reported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from beffroi.config.yaml_text import MAX_DEPTH, too_deep

Place = tuple[str | int, ...]
MAX_FILE = 4 << 20
MAX_VALUES = 200_000


class Unreadable(ValueError):
    """The file cannot be read as what it should be; the text says where and why."""


class Part:
    """A group of settings: its names are taken one by one; `rest` has those that nobody took.

    Attributes:
        values: the settings by name.
        place: where the group stands in the file.
    """

    def __init__(
        self, values: dict[str, Any], place: Place, lines: dict[Place, int], file: str, title: str = ""
    ) -> None:
        self.values, self.place = values, place
        self._lines, self._file, self._title = lines, file, title
        self._taken: set[str] = set()

    def line(self, *names: str | int) -> int:
        """The line of a setting of this group, or of the nearest thing around it."""
        place = (*self.place, *names)
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def name(self, *names: str | int) -> str:
        """The dotted name of a setting, such as `model_list[0].litellm_params.model`."""
        return self._title + dotted((*self.place, *names))

    def take(self, name: str) -> Any:
        """The value of a setting, None where it is not set; from now on it counts as taken."""
        self._taken.add(name)
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        """A setting that is one word or sentence; None where it is not set or empty."""
        value = self.take(name)
        if isinstance(value, dict | list):
            raise self.unreadable("must be text", name)
        return None if value is None or str(value).strip() == "" else str(value).strip()

    def group(self, name: str) -> "Part":
        """A group within this one; an empty one where it is not set."""
        value = self.take(name)
        if not isinstance(value, dict | None):
            raise self.unreadable("must be a group of settings", name)
        return self._inner(value or {}, name)

    def groups(self, name: str) -> list["Part"]:
        """A list of groups within this one."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.unreadable("must be a list of groups of settings", name)
        return [self._inner(item, name, index) for index, item in enumerate(value)]

    def rest(self) -> Iterator[str]:
        """The names that were not taken."""
        return (name for name in self.values if name not in self._taken)

    def unreadable(self, what: str, *names: str) -> Unreadable:
        """The error that says so of a setting."""
        return Unreadable(f"{self._file}:{self.line(*names)}: {self.name(*names)}: {what}")

    def _inner(self, values: dict[str, Any], *names: str | int) -> "Part":
        return Part(values, (*self.place, *names), self._lines, self._file, self._title)


def dotted(place: Place) -> str:
    """A place as people write it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def read(path: Path, *, listed: str | None = None) -> Part:
    """The whole file, YAML or JSON.

    Args:
        listed: the name that a bare list gets, where the file may be one; its findings carry the file's name.

    Raises:
        Unreadable: it is not there, too large, not YAML, or not a group of settings.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise Unreadable(f"{path}: is larger than {MAX_FILE} bytes")
    try:
        value, lines = _parse(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Unreadable(f"{path}:{line}: is not UTF-8 text") from None
    if listed is not None and isinstance(value, list):
        value, lines = {listed: value}, {(listed, *place): line for place, line in lines.items()}
    if not isinstance(value, dict | None):
        raise Unreadable(f"{path}: must be a group of settings, such as `model_list:` and what follows")
    return Part(value or {}, (), lines, str(path), "" if listed is None else f"{path.name}: ")


def _parse(text: str, file: str) -> tuple[Any, dict[Place, int]]:
    lines: dict[Place, int] = {}
    count = 0
    try:
        loader = yaml.CSafeLoader(text)
    except yaml.YAMLError as error:  # a character that no YAML may have
        raise Unreadable(f"{file}: is not YAML: {' '.join(str(error).split())}") from None

    def plain(node: yaml.Node, place: Place) -> Any:
        nonlocal count
        count += 1
        line = node.start_mark.line + 1
        if count > MAX_VALUES or len(place) > MAX_DEPTH:
            raise Unreadable(f"{file}:{line}: {dotted(place)[:80]}: is nested too deep or too large")
        lines.setdefault(place, line)
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            mapping: dict[str, Any] = {}
            for key, item in node.value:
                name = str(key.value)
                lines[*place, name] = key.start_mark.line + 1
                mapping[name] = plain(item, (*place, name))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [plain(item, (*place, index)) for index, item in enumerate(node.value)]
        return loader.construct_object(node)

    try:
        if (spot := too_deep(text)) is not None:
            raise Unreadable(f"{file}:{spot.line}: is nested too deep or too large")
        root = loader.get_single_node()
        return (None if root is None else plain(root, ())), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        raise Unreadable(f"{where}: is not YAML: {error.problem or error.context}") from None
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"{file}: is not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
