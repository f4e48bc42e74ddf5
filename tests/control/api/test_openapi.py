# SPDX-License-Identifier: Apache-2.0
"""The description of the admin API, held to a running control process by schemathesis: answers are what it says, none is 5xx."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.control.api.openapi import document
from beffroi.control.api.routes import OPERATIONS, PREFIX
from tests.control.api.fuzz import fuzz
from tests.control.fakes import Control, WorkerThread, control


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process and one worker."""
    with control(tmp_path_factory.mktemp("c")) as process, WorkerThread(process.data):
        yield process


def test_what_is_served_is_what_the_code_says(running: Control) -> None:
    """Also without a key: it holds no secret."""
    served = running.get(f"{PREFIX}/openapi.json", port=True)
    assert served.status == 200
    assert served.json == json.loads(json.dumps(document(OPERATIONS, PREFIX)))
    assert {(method.upper(), path) for path, methods in served.json["paths"].items() for method in methods} == {
        (each.method, PREFIX + each.path) for each in OPERATIONS if each.needs is not None
    }


def test_no_call_whatever_makes_the_api_fail(running: Control, tmp_path: Path) -> None:
    """What is allowed and what is not, with the key of an operator; `make chaos` asks more and longer."""
    fuzz(running, tmp_path, phases="coverage", examples=1, seed=1)
