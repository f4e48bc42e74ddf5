# SPDX-License-Identifier: Apache-2.0
"""Fixtures of this room: a counters file, a clock, worker processes that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.quota.support import Child, HandClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the counters file will be."""
    return tmp_path / "counters.bin"


@pytest.fixture
def clock() -> HandClock:
    """A noon in November, in Paris."""
    return HandClock()


@pytest.fixture
def child(path: Path) -> Iterator[Callable[..., Child]]:
    """A factory of worker processes over the file."""
    made: list[Child] = []

    def start(worker: int, **limits: Any) -> Child:
        made.append(Child(path, worker, **limits))
        return made[-1]

    yield start
    for each in made:
        each.close()
