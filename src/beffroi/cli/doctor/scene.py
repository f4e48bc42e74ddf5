# SPDX-License-Identifier: Apache-2.0
"""What the doctor looks at, and what it says of it.

In: the options of `beffroi doctor`. Out: a `Scene`, which every check is given, and the `Finding` that it answers with.
"""

import fcntl
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from beffroi.config import schema
from beffroi.config.compile import compile_config
from beffroi.config.load import EMPTY, Invalid, Source, load
from beffroi.core.snapshot import Config, Damaged
from beffroi.core.state import load_config

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One check's answer: a state, what was found in a sentence, and what to do about it (empty when ok)."""

    check: str
    state: str
    finding: str
    remedy: str = ""


@dataclass(frozen=True)
class Scene:
    """One machine, one data directory, one configuration.

    Attributes:
        server: the process settings in force: those of the file, else the defaults.
        base: what relative paths of the configuration count from.
        config: what would be served, or is; None: no file was named and nothing was served yet, or the file has faults.
        faults: of the configuration file, one a line.
        supervisor: process id of the Beffroi that holds the data directory; 0: none does.
        began: wall and monotonic seconds when the examination began.
    """

    data: Path
    file: Path | None = None
    server: schema.Server = field(default_factory=schema.Server)
    base: Path = Path()
    config: Config | None = None
    faults: tuple[str, ...] = ()
    supervisor: int = 0
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))

    @property
    def workers(self) -> int:
        """How many a start makes, as `serve` counts."""
        return self.server.workers or max(1, len(os.sched_getaffinity(0)) // 2)


def look(data: Path, file: Path | None) -> Scene:
    """The scene as it is now; a faulty configuration is part of it."""
    source, config = EMPTY, None
    faults: tuple[str, ...] = ()
    if file is not None:
        source, config, faults = _read(file)
    elif (data / "snapshot.bin").exists():
        try:
            config = load_config(data)
        except (OSError, Damaged) as error:
            faults = (f"{data / 'snapshot.bin'}: {error}",)
    return Scene(data, file, source.document.server, source.base, config, faults, holder(data))


def _read(file: Path) -> tuple[Source, Config | None, tuple[str, ...]]:
    try:
        source = load(file)
    except Invalid as error:
        return EMPTY, None, tuple(str(error).splitlines())
    try:
        return source, compile_config([source], 0), ()
    except Invalid as error:
        return source, None, tuple(str(error).splitlines())


def holder(data: Path) -> int:
    """The process that holds the directory's lock; 0: nobody, -1: somebody who has not said his number."""
    try:
        lock = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(lock, 32, 0).strip()
        return int(said) if said.isdigit() else -1
    except OSError:  # no locks here: the check of the file system says so
        return 0
    finally:
        os.close(lock)
    return 0
