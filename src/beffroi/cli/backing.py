# SPDX-License-Identifier: Apache-2.0
"""Which engines stand behind a start: those that are named, those of the file, those found here, else our own.

In: `--engine` options, the configuration file, the data directory. Out: a `Backing`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beffroi.config.load import Source

OWN = "embedded"


@dataclass(frozen=True)
class Backing:
    """What is served beside the file's own engines and models.

    Attributes:
        resources: in the shape of a configuration file; None: nothing.
        engine: what the embedded engine is told; None: it is not started.
        line: says it to the person at the terminal.
    """

    resources: dict[str, Any] | None
    engine: dict[str, Any] | None
    line: str


def choose(urls: tuple[str, ...], source: Source, data: Path) -> Backing:
    """The engines of a start. `urls` may hold `embedded`, for our own.

    Raises:
        StartError: one that is named does not answer.
    """
    if not urls and source.document.resources.engines:
        return Backing(None, None, ", ".join(engine.name for engine in source.document.resources.engines))
    # Loaded only here: a start whose engines stand in its file does without.
    from beffroi.embedded import settings as embedded  # noqa: PLC0415
    from beffroi.supervisor import engines  # noqa: PLC0415

    found = engines.named(tuple(url for url in urls if url != OWN)) if urls else engines.on_loopback()
    resources = engines.resources(found)
    said = [f"{engine.name} at {engine.url}" for engine in found]
    told = embedded.arguments(data) if OWN in urls or not found else None
    if told is not None:
        own = embedded.resources(told)
        resources = {part: own[part] + resources[part] for part in own}
        said.insert(0, OWN)
    if not urls:
        said[-1] += " (found on this machine)" if found else f" (llama.cpp; none was found on {_looked(engines.USUAL)})"
    written = {name for model in source.document.resources.models for name in (model.id, *model.aliases)}
    resources["models"] = [model for model in resources["models"] if model["id"] not in written]
    return Backing(resources, told, ", ".join(said))


def _looked(usual: dict[str, int]) -> str:
    return ", ".join(f"{port} ({name})" for name, port in usual.items())
