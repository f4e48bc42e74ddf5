# SPDX-License-Identifier: Apache-2.0
"""Fixtures of fleets: several `beffroi serve` on this machine, each with its data directory, over one PostgreSQL."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.fleet.fleets import Fleet
from tests.engines.scripted import ScriptedEngine
from tests.servers import Postgres


@pytest.fixture
def fleet(postgres: Postgres, engine: ScriptedEngine, folder: Path) -> Iterator[Fleet]:
    """Over a database of its own in the cluster of the session."""
    fleet = Fleet(postgres, postgres.empty(), engine, folder)
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def pair(postgres: Postgres) -> Iterator[Fleet]:
    """Machines `one`, with two workers, and `two`, for all tests of a module: each makes keys of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with ScriptedEngine() as engine:
        fleet = Fleet(postgres, postgres.empty(), engine, folder)
        fleet.start("one", workers=2)
        fleet.start("two")
        yield fleet
        fleet.close()
    shutil.rmtree(folder, ignore_errors=True)
