# SPDX-License-Identifier: Apache-2.0
"""Looks at a configuration as a start would, and starts nothing: every fault of form and of sense at once.

In: a file or none, the environment, options. Out: `Examined`: the source, its faults, and remarks that keep nobody from starting.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from beffroi.config.checks import check_addresses, check_fleet, check_tls, check_webhooks
from beffroi.config.compile import compile_all
from beffroi.config.delivery import check_delivery
from beffroi.config.environment import Overrides
from beffroi.config.load import EMPTY, NOTHING, Invalid, Place, Problem, Reading, Source, dotted, read
from beffroi.config.valkey import check_valkey


@dataclass(frozen=True)
class Examined:
    """A configuration and all that is to be said of it."""

    source: Source
    problems: list[Problem]
    notes: list[Problem]

    def sound(self) -> Source:
        """The source, if nothing is wrong with it.

        Raises:
            Invalid: with every fault.
        """
        if self.problems:
            raise Invalid(self.problems)
        return self.source


def examine(
    path: Path | None,
    environ: Mapping[str, str] = os.environ,
    overrides: Overrides = NOTHING,
    *,
    more: bool = False,
    listening: bool = True,
) -> Examined:
    """Read and judge.

    Args:
        more: engines may join that are not in the file: an unknown one is no fault then, nor is a file without any.
        listening: judge addresses too; who does not open them, and does not know what options said of them, leaves it out.
    """
    try:
        reading = read(path, environ, overrides)
    except Invalid as error:
        return Examined(EMPTY, error.problems, [])
    source = reading.source
    more = more or not source.document.resources.engines
    compiled = compile_all([source], 0, environ, more=more)
    problems = [
        *reading.problems,
        *(check_addresses(source) if listening else []),
        *check_webhooks(source),
        *check_tls(source),
        *check_fleet(source, environ),
        *check_delivery(source),
        *check_valkey(source, environ),
        *compiled.problems,
    ]
    return Examined(
        source, Invalid(problems).problems, [] if problems else [*reading.notes, *_notes(reading, more=more)]
    )


def _notes(reading: Reading, *, more: bool) -> list[Problem]:
    """What looks like an oversight in a configuration without faults."""
    source = reading.source
    engines, models = source.document.resources.engines, source.document.resources.models
    notes: list[tuple[Place, str, str]] = []
    if engines and not models and not more:
        remedy = "name models under resources.models, or leave engines out and name them with `beffroi serve --engine`"
        notes.append((("resources", "engines"), "there are engines, and no model that clients could ask for", remedy))
    used = {target.engine for model in models for target in model.targets}
    all_used = len(engines) == 1 and any(not model.targets for model in models)
    for index, engine in enumerate(engines):
        place: Place = ("resources", "engines", index)
        if models and engine.name not in used and not all_used:
            notes.append(((*place, "name"), f"no model uses the engine `{engine.name}`", "add it to a model's targets"))
        reference = engine.api_key or ""
        path = source.base / reference.removeprefix("file:")
        if reference.startswith("file:") and path.stat().st_mode & stat.S_IROTH:
            notes.append(((*place, "api_key"), f"everybody on this machine can read {path}", f"chmod 600 {path}"))
    return [Problem(source.marks.value(place), dotted(place), message, remedy) for place, message, remedy in notes]
