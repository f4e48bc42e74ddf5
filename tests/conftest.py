# SPDX-License-Identifier: Apache-2.0
"""Fixtures of tests that run the whole: a scripted engine and `beffroi serve` in front of it.

In: nothing. Out: `engine`, `folder`, `serve` (a factory whose processes end with the test) and `beffroi`, one of them;
`tiny`, which lives as long as the session.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import tiny as own
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served
from tests.servers import postgres, valkey

__all__ = ["postgres", "valkey"]  # fixtures of every test

UMASK = 0o022


def pytest_configure(config: pytest.Config) -> None:
    """Marks of ours; no verdict of Hypothesis on how busy the machine is; the umask of most machines."""
    os.umask(UMASK)
    settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("house")
    config.addinivalue_line(
        "markers", "slow: takes more than a few seconds; a count in the environment makes it longer"
    )
    config.addinivalue_line("markers", "alone: times a loop; what runs beside it would be measured with it")
    config.addinivalue_line("markers", "chaos: kills, cuts and floods a whole running Beffroi")
    config.addinivalue_line("markers", "mutants: breaks a copy of the source line by line; some minutes")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A start in this process makes files for its user alone; those of the next test are as others make them."""
    yield
    os.umask(UMASK)


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """A sound scripted engine with its own port."""
    with ScriptedEngine() as engine:
        yield engine


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: Unix sockets must fit in 108 bytes, which pytest's own folders exceed."""
    path = Path(tempfile.mkdtemp(prefix="bf-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Served]]:
    """Starts `Served` instances; those still running at the end of the test are stopped."""
    started: list[Served] = []

    def start(*engines: ScriptedEngine, data: str = "data", ready: bool = True, **options: Any) -> Served:
        urls = {f"e{place}": engine.url for place, engine in enumerate(engines)}
        served = Served(folder / data, urls, **options)
        started.append(served)
        return served.start(ready=ready)

    yield start
    for served in started:
        served.kill()


@pytest.fixture
def beffroi(serve: Callable[..., Served], engine: ScriptedEngine) -> Served:
    """One worker in front of the scripted engine, model `words`."""
    return serve(engine)


@pytest.fixture(scope="session")
def tiny() -> Iterator[Served]:
    """Beffroi over its own engine, shared by every test that only asks it something."""
    path = Path(tempfile.mkdtemp(prefix="bf-"))
    served = own.start(path)
    yield served
    served.kill()
    shutil.rmtree(path, ignore_errors=True)
