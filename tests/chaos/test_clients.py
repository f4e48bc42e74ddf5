# SPDX-License-Identifier: Apache-2.0
"""Programs that know nothing of the code: real client libraries, and a probe that speaks HTTP by the letter.

They lie beside the repository (`../shared/suites`); each library has an environment of its own, made at its first run.
In short form only curl; `make chaos` runs all, against the embedded engine and against a scripted one with better wit.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.figures import note
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, scaled, shared

ALL = bool(scaled("clients", 0))
# Checks that the embedded engine's model is too small for: asked for an object, it babbles inside a text of it until the
# client's limit of tokens. They must pass with the scripted engine.
WITTY = {"langchain_standard": "test_structured_output"}


@pytest.fixture(params=["embedded", "scripted"])
def gateway(request: pytest.FixtureRequest, serve: Callable[..., Served], engine: ScriptedEngine) -> Iterator[Served]:
    """One worker in front of either engine."""
    if request.param == "embedded":
        yield serve(bare=True, arguments=("--engine", "embedded"))
    else:
        models = [{"id": "words", "aliases": ["mots"], "targets": [{"engine": "e0"}]}]
        yield serve(engine, models=models)


def environment(served: Served) -> dict[str, str]:
    """How those programs are told where to ask, and as whom."""
    model = "words" if served.document["resources"]["models"] else "beffroi-tiny"
    return os.environ | {
        "BEFFROI_BASE_URL": f"http://127.0.0.1:{served.port}/v1",
        "BEFFROI_API_KEY": served.new_key(requests_per_minute=100_000),
        "BEFFROI_LIMITED_KEY": served.new_key(requests_per_minute=2),
        "BEFFROI_MODEL": model,
        "BEFFROI_EMBED_MODEL": model,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(served: Served, program: Path, *arguments: str, out: Path) -> list[dict[str, Any]]:
    """The rows that a suite writes; its own verdict is looked at row by row."""
    command = [sys.executable, str(program), *arguments, "--json", str(out)]
    done = subprocess.run(
        command, env=environment(served), cwd=out.parent, capture_output=True, text=True, timeout=1500, check=False
    )
    assert out.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(out.read_text())
    return rows


def faults(row: dict[str, Any], witty: str) -> list[str]:
    """What a program says failed, but for the checks whose names begin with `witty`."""
    lines = [line for line in row["output"].splitlines() if line.startswith("FAIL")] or [row["output"][-1500:]]
    return [line for line in lines if not (witty and line.startswith(f"FAIL {witty}"))]


@pytest.mark.chaos
@pytest.mark.timeout(1600)
def test_client_libraries_pass(gateway: Served, folder: Path) -> None:
    """Every check of every program; a program that needs more wit than the embedded model has passes with the other engine."""
    only = () if ALL else ("--only", "curl")
    rows = run(gateway, shared("suites", "clients", "run_clients.py"), *only, out=folder / "clients.json")
    witless = not gateway.document["resources"]["models"]
    failed = {r["client"]: faults(r, WITTY.get(r["client"], "") if witless else "") for r in rows if not r["ok"]}
    assert rows
    assert {client: lines for client, lines in failed.items() if lines} == {}
    passed = sum(row["passed"] for row in rows)
    note("client libraries", engine="embedded" if witless else "scripted", programs=len(rows), checks=passed)


@pytest.mark.chaos
@pytest.mark.skipif(not ALL, reason="takes half a minute of waiting for slow clients to be cut; make chaos runs it")
@pytest.mark.timeout(300)
def test_the_wire_holds_by_the_letter(gateway: Served, folder: Path) -> None:
    """Every `must` and every `should`, but for what this engine or configuration does not have."""
    rows = run(gateway, shared("suites", "wire", "wire_check.py"), "--strict", out=folder / "wire.json")
    assert [row for row in rows if row["result"] == "FAIL"] == []
    skipped = {row["id"] for row in rows if row["result"] == "SKIP"}
    assert skipped <= {"models.alias", "chat.vendor-field"}
    note("wire checks", passed=sum(row["result"] == "PASS" for row in rows), skipped=", ".join(sorted(skipped)))
