# SPDX-License-Identifier: Apache-2.0
"""Reads TOML into plain data and remembers where everything stood.

In: text. Out: plain data and `Marks`. The standard library reads and judges it; a second pass over what is known to be TOML
finds the places, which that library does not tell.
"""

import re
import tomllib
from bisect import bisect_right

from beffroi.config.problems import Invalid, Marks, Place, Problem, Spot

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\])*"|\'[^\']*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\n#]+")
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
_HINTS = (
    ("Cannot overwrite", "a name may be set once: keep one of them"),
    ("Cannot declare", "a table may be opened once: put its settings together"),
    ("Cannot mutate", "write the whole table in one place"),
    ("Unclosed", "close the bracket that is open here"),
    ("Unterminated", "close the quote that is open here"),
    ("Expected '='", "write `name = value`; a name with other signs than letters, figures, _ and - needs quotes"),
    ("Illegal character", "close the quote before the end of the line; control characters are written as escapes"),
    ("Unescaped '\\'", "write the text in single quotes: within double quotes a backslash begins an escape"),
    ("Invalid initial character for a key", "begin a line with a name or with [table]"),
    ("Invalid value", "write text in quotes, numbers and true or false without"),
    ("Expected newline", "put each setting on a line of its own, and text in quotes"),
)


def read(text: str, file: str) -> tuple[dict[str, object], Marks]:
    """The document of `text`.

    Raises:
        Invalid: it is not TOML.
    """
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, found = str(error), _AT.search(str(error))
        line, column = (found[1], found[2]) if found and found[1] else (text.rstrip().count("\n") + 1, 0)
        hint = next((hint for sign, hint in _HINTS if sign in said), "check quotes, brackets and commas of this line")
        spot = Spot(file, int(line), int(column))
        raise Invalid([Problem(spot, "", f"is not TOML: {_AT.sub('', said)}", hint)]) from None
    except ValueError:  # what Python will not read as a number: it has thousands of figures
        raise Invalid([Problem(Spot(file, 1), "", "has a number that is too long", "write a smaller number")]) from None
    except RecursionError:
        raise Invalid([Problem(Spot(file, 1), "", "is nested too deep", "write fewer brackets")]) from None
    return value, _Places(text.replace("\r\n", "\n"), file).marks


class _Places:
    """Walks over sound TOML."""

    def __init__(self, text: str, file: str) -> None:
        self.marks = Marks(file)
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._counts: dict[Place, int] = {}
        self._at = 0
        self._document()

    def _mark(self, at: int) -> tuple[int, int]:
        line = bisect_right(self._starts, at)
        return line, at - self._starts[line - 1] + 1

    def _skip(self, what: re.Pattern[str]) -> str:
        match = what.match(self._text, self._at)
        if match is None:  # not met on sound TOML; a place less is better than a loop without end
            self._at += 1
            return ""
        self._at = match.end()
        return match[0]

    def _here(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _document(self) -> None:
        table: Place = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._here("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_GAP)

    def _header(self) -> Place:
        start = self._at
        many = self._here("[[")
        self._at += 2 if many else 1
        names = [name for name, _ in self._names()]
        self._at += 2 if many else 1
        table: Place = ()
        for depth, name in enumerate(names):
            table = (*table, name)
            last = depth == len(names) - 1
            self.marks.keys.setdefault(table, self._mark(start))
            if many and last:
                self._counts[table] = self._counts.get(table, -1) + 1
            if table in self._counts:
                table = (*table, self._counts[table])
        self.marks.values[table] = self._mark(start)
        return table

    def _names(self) -> list[tuple[str, int]]:
        """The parts of a dotted name, each with where it stands."""
        names = []
        while True:
            self._skip(_BLANK)
            start = self._at
            quoted = self._here('"') or self._here("'")
            raw = self._skip(_STRING if quoted else _BARE)
            names.append((str(tomllib.loads(f"name = {raw}")["name"]) if quoted else raw, start))
            self._skip(_BLANK)
            if not self._here("."):
                return names
            self._at += 1

    def _pair(self, table: Place) -> None:
        place = table
        for name, start in self._names():
            place = (*place, name)
            self.marks.keys.setdefault(place, self._mark(start))
        self._at += 1  # =
        self._skip(_BLANK)
        self._value(place)

    def _value(self, place: Place) -> None:
        self.marks.values[place] = self._mark(self._at)
        if self._here("["):
            self._at += 1
            index = 0
            while self._more("]"):
                self._value((*place, index))
                index += 1
        elif self._here("{"):
            self._at += 1
            while self._more("}"):
                self._pair(place)
        else:
            self._skip(_STRING if self._here('"') or self._here("'") else _SCALAR)

    def _more(self, end: str) -> bool:
        """Whether another item follows; steps over commas, and over `end` when there is none."""
        self._skip(_GAP)
        while self._here(","):
            self._at += 1
            self._skip(_GAP)
        if self._here(end) or self._at >= len(self._text):
            self._at += 1
            return False
        return True
