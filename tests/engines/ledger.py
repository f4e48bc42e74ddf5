# SPDX-License-Identifier: Apache-2.0
"""The scripted engine's own log: what it was asked and what it made, to reconcile a gateway's ledger with.

In: one call when a generation begins and one when it ends. Out: a file with a JSON line for each, written as it happens;
`read` folds the two lines of a request into one entry.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass
class Entry:
    """One generation. `state` is open, completed, aborted (the client left), cut (told to) or failed (told to)."""

    number: int
    request_id: str
    model: str
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    made: int = 0
    state: str = "open"


class Log:
    """The file, line buffered; None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("a", buffering=1) if path else None

    def write(self, entry: Entry) -> None:
        """Add the entry as it stands."""
        if self._file:
            self._file.write(json.dumps(vars(entry), separators=(",", ":")) + "\n")

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def read(path: Path) -> list[Entry]:
    """The entries of a log in the order in which they began, each as last written; a line cut by a kill is left out."""
    found: dict[int, Entry] = {}
    for line in path.read_text().splitlines():
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[entry.number] = entry
    return list(found.values())
