# SPDX-License-Identifier: Apache-2.0
"""Tenants through the whole: a suspended one is refused by every worker as soon as the command has returned."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, wait_for


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Two workers, one engine."""
    with (
        tempfile.TemporaryDirectory(prefix="bf-") as folder,
        ScriptedEngine() as engine,
        Served(Path(folder) / "data", {"e": engine.url}, workers=2) as served,
    ):
        yield served


def outcomes(served: Served, key: str) -> set[tuple[int, str]]:
    """What a key gets, over connections enough to reach both workers."""
    answers = [served.chat(key=key) for _ in range(8)]
    return {(answer.status, "" if answer.status == 200 else answer.json["error"]["code"]) for answer in answers}


def test_a_suspended_project_is_refused_at_once_and_others_are_not(served: Served) -> None:
    """Its keys get 403, those of the rest of the organisation 200; after a restart too, until it is resumed."""
    assert served.run_cli("projects", "create", "lab").returncode == 0
    made = served.cli("keys", "create", "of the lab", "--project", "lab", "--organisation", "default")
    key = str(made["key"])
    assert outcomes(served, key) == {(200, "")}
    assert served.run_cli("projects", "suspend", "lab").returncode == 0
    assert outcomes(served, key) == {(403, "tenant_suspended")}
    assert outcomes(served, served.key) == {(200, "")}
    served.stop()
    served.start()
    assert outcomes(served, key) == {(403, "tenant_suspended")}
    assert served.run_cli("projects", "resume", "lab").returncode == 0
    wait_for(lambda: outcomes(served, key) == {(200, "")}, 5, "it is served again")


def test_a_suspended_organisation_is_refused_whole(served: Served) -> None:
    """Every key of it; and nothing of another organisation, whose project has the same name."""
    assert served.run_cli("orgs", "create", "other").returncode == 0
    assert served.run_cli("projects", "create", "default", "--org", "other").returncode == 0
    made = served.cli("keys", "create", "theirs", "--project", "default", "--organisation", "other")
    assert served.run_cli("orgs", "suspend", "default").returncode == 0
    assert outcomes(served, served.key) == {(403, "tenant_suspended")}
    assert outcomes(served, str(made["key"])) == {(200, "")}
    assert served.run_cli("orgs", "resume", "default").returncode == 0
    wait_for(lambda: outcomes(served, served.key) == {(200, "")}, 5, "it is served again")
