# SPDX-License-Identifier: Apache-2.0
"""One Beffroi for all clients, in front of two engines: the embedded one, and a scripted one with better wit.

The scripted engine (model `words`) obeys `tool_choice` and `response_format`, counts to N, and misbehaves when told to.
In: nothing. Out: `gateway`, for all tests of this folder; `engine`, the scripted one, sound again for each test.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engines.scripted import ScriptedEngine
from tests.harness import Served

MODELS = ("words", "beffroi-tiny")


class Gateway(NamedTuple):
    """A running Beffroi and the engine that can be told what to do."""

    served: Served
    scripted: ScriptedEngine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.served.port}/v1"

    @property
    def key(self) -> str:
        return self.served.key


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    """One for all: starting costs more than asking."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with ScriptedEngine() as scripted:
        models = [{"id": "words", "aliases": ["mots"], "targets": [{"engine": "e0"}]}]
        arguments = ("--engine", "embedded")
        with Served(folder / "data", {"e0": scripted.url}, models=models, arguments=arguments) as served:
            yield Gateway(served, scripted)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(gateway: Gateway) -> Iterator[ScriptedEngine]:
    """The scripted engine; what a test told it is forgotten afterwards."""
    yield gateway.scripted
    gateway.scripted.reset_script()
    gateway.scripted.always()
