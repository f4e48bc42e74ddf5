# SPDX-License-Identifier: Apache-2.0
"""What the doctor looks at, and what it says of it.

In: the options of `beffroi doctor`. Out: a `Scene`, which every check is given, and the `Finding` that it answers with.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from beffroi.cli.settings import effective_data
from beffroi.config import schema
from beffroi.config.compile import compile_all
from beffroi.config.environment import Overrides
from beffroi.config.examine import examine
from beffroi.core.locks import is_locked
from beffroi.core.snapshot import Config, Damaged
from beffroi.core.state import SNAPSHOT, load_config

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One check's answer: a state, what was found in a sentence, and what to do about it (empty when ok)."""

    check: str
    state: str
    finding: str
    remedy: str = ""


def sentence(text: str) -> str:
    """A phrase as a sentence of its own."""
    return text and f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.?!' else '.'}"


@dataclass(frozen=True)
class Scene:
    """One machine, one data directory, one configuration.

    Attributes:
        server: the process settings in force: those of the file, else the defaults.
        base: what relative paths of the configuration count from.
        config: what would be served, or was served last; None: neither is known, or the configuration has faults.
        faults, notes: of the configuration, each with what to do; notes keep nobody from starting.
        supervisor: process id of the Beffroi that holds the data directory; 0: none does.
        began: wall and monotonic seconds when the examination began.
    """

    data: Path
    file: Path | None = None
    server: schema.Server = field(default_factory=schema.Server)
    base: Path = Path()
    config: Config | None = None
    faults: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    supervisor: int = 0
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))

    @property
    def workers(self) -> int:
        """How many a start makes, as `serve` counts."""
        return self.server.workers or max(1, len(os.sched_getaffinity(0)) // 2)


def look(file: Path | None, overrides: Overrides) -> Scene:
    """The scene as a start with this file and these options would meet it; a faulty configuration is part of it."""
    examined = examine(file, overrides=overrides)
    source = examined.source
    data = effective_data(source)
    faults = [(str(problem._replace(remedy="")), problem.remedy) for problem in examined.problems]
    notes = [(str(note._replace(remedy="")), note.remedy) for note in examined.notes]
    config = None
    if not faults and source.document.resources.engines:
        config = compile_all([source], 0, os.environ).config
    elif not faults:
        config = _served_last(data, faults)
    return Scene(data, file, source.document.server, source.base, config, tuple(faults), tuple(notes), holder(data))


def _served_last(data: Path, faults: list[tuple[str, str]]) -> Config | None:
    try:
        return load_config(data)
    except (
        FileNotFoundError,
        NotADirectoryError,
        PermissionError,
    ):  # nothing yet; or the directory's own check says it
        return None
    except (OSError, Damaged) as error:
        remedy = "Restore it from a backup, or move it away: a start writes it anew."
        faults.append((f"{data / SNAPSHOT}: {error}", remedy))
        return None


def holder(data: Path) -> int:
    """The process that holds the directory's lock; 0: nobody, -1: somebody who has not said his number."""
    try:
        lock = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        if not is_locked(lock):
            return 0
        said = os.pread(lock, 32, 0).strip()
        return int(said) if said.isdigit() else -1
    except OSError:  # no locks here: the check of the file system says so
        return 0
    finally:
        os.close(lock)
