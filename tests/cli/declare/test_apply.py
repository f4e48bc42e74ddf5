# SPDX-License-Identifier: Apache-2.0
"""`beffroi plan`, `apply`, `export` against a running Beffroi: what one sees, exit statuses, keys once, all or nothing."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, scaled

FILE = """\
organisations:
  - id: acme
    name: Acme
    projects: [{id: chat, name: Chat}]
    members: [{email: ada@acme.example, role: owner}]
    systems: [{name: helpdesk, purpose: Answers, owner: Ada, models: [words]}]
    keys:
      - name: intranet
        project: chat
        system: helpdesk
        models: [words]
        limits: {requests_per_minute: 600, hard_budget: "10.50"}
        secret_to: file:intranet.key
    tiers: [{name: small, limits: {requests_per_minute: 3}}]
    quotas:
      - {project: chat, limits: {requests_per_minute: 600}}
"""
PLAN = """\
  + organisation acme
      name  Acme
  + tier acme/small
      limits.requests_per_minute  3
  + project acme/chat
      name  Chat
  + member acme/ada@acme.example
      role  owner
  + AI system acme/helpdesk
      purpose  Answers
      owner    Ada
      models   words
  + key acme/chat/intranet
      models                      words
      system                      helpdesk
      limits.requests_per_minute  600
      limits.hard_budget          10.5
  + quota acme/project chat
      terms  requests_per_minute 600

Plan: 7 to add.
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ScriptedEngine() as engine, Served(tmp_path_factory.mktemp("a") / "data", {"gpu": engine.url}) as running:
        yield running


def run(served: Served, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    where = [] if "--control" in arguments or "BEFFROI_CONTROL" in env else ["--data", str(served.data)]
    return subprocess.run(
        [sys.executable, "-m", "beffroi", *arguments, *where],
        capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | env,
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE)
    return path


def organisation(name: str) -> str:
    """The file with another organisation, so that tests share one server."""
    return FILE.replace("acme", name).replace("Acme", name)


def test_a_plan_shows_what_would_change_and_changes_nothing(served: Served, file: Path) -> None:
    for _ in range(2):
        done = run(served, "plan", str(file))
        assert (done.returncode, done.stdout, done.stderr) == (2, PLAN, "")


def test_applied_once_there_is_nothing_more_to_do_and_the_new_key_works(served: Served, file: Path) -> None:
    file.write_text(organisation("once"))
    asked = run(served, "apply", str(file))
    assert asked.returncode == 1 and "say --yes" in asked.stderr
    done = run(served, "apply", str(file), "--yes")
    secret = file.parent / "intranet.key"
    assert done.returncode == 0 and f"written to {secret}" in done.stdout and "Applied: 7 added." in done.stdout, (
        done.stderr
    )
    assert secret.stat().st_mode & 0o777 == 0o600
    key = secret.read_text().strip()
    assert key not in done.stdout + done.stderr
    assert served.chat("hello", key=key, model="words").status == 200
    again = run(served, "plan", str(file))
    assert (again.returncode, again.stdout) == (0, "Plan: nothing to do; 7 as declared.\n")
    assert run(served, "apply", str(file), "--yes").returncode == 0 and secret.read_text().strip() == key


def test_a_change_is_shown_with_both_values_and_holds_on_the_gateway(served: Served, file: Path) -> None:
    file.write_text(organisation("change"))
    assert run(served, "apply", str(file), "--yes").returncode == 0
    key = (file.parent / "intranet.key").read_text().strip()
    file.write_text(organisation("change").replace("requests_per_minute: 600}}", "requests_per_minute: 2}}"))
    plan = run(served, "plan", str(file))
    assert "terms  requests_per_minute 600 → requests_per_minute 2" in plan.stdout and plan.returncode == 2
    assert run(served, "apply", str(file), "--yes").returncode == 0
    assert [served.chat("hello", key=key, model="words").status for _ in range(3)] == [200, 200, 429]


def test_what_apply_keeps_is_read_only_elsewhere_and_says_so(served: Served, file: Path) -> None:
    file.write_text(organisation("kept"))
    run(served, "apply", str(file), "--yes")
    for arguments in (
        ("projects", "update", "chat", "--name", "x"),
        ("members", "delete", "ada@kept.example"),
        ("systems", "update", "helpdesk", "--purpose", "x"),
        ("quotas", "update", served.cli("quotas", "list", "--org", "kept")[0]["scope"], "--requests-per-minute", "1"),
    ):
        done = run(served, *arguments, "--org", "kept")
        assert done.returncode == 1 and "apply" in done.stderr, (arguments, done)


def test_faults_are_told_with_their_lines_those_too_that_only_the_server_knows(served: Served, file: Path) -> None:
    file.write_text(
        FILE.replace("project: chat\n        system", "project: chta\n        system").replace(
            "role: owner", "role: boss"
        )
    )
    done = run(served, "plan", str(file))
    assert done.returncode == 1 and f"{file}:5:" in done.stderr and "nothing was changed" in done.stderr
    file.write_text(FILE.replace("project: chat\n        system", "project: chta\n        system"))
    done = run(served, "plan", str(file))
    assert f"{file}:9:18: organisations[0].keys[0].project: there is no project `chta`" in done.stderr
    assert "did you mean `chat`?" in done.stderr and done.returncode == 1


def test_a_key_whose_file_cannot_be_written_is_not_made(served: Served, file: Path) -> None:
    file.write_text(organisation("nofile"))
    (file.parent / "intranet.key").write_text("another key")
    done = run(served, "apply", str(file), "--yes")
    assert done.returncode == 1 and "is there already" in done.stderr
    assert run(served, "plan", str(file)).returncode == 2
    file.write_text(organisation("nofile").replace("file:intranet.key", "file:none/x.key"))
    done = run(served, "apply", str(file), "--yes")
    assert done.returncode == 1 and "nothing was changed" in done.stderr


def test_what_is_exported_and_applied_anew_changes_nothing(served: Served, file: Path) -> None:
    file.write_text(organisation("around"))
    run(served, "apply", str(file), "--yes")
    exported = run(served, "export")
    assert exported.returncode == 0 and "bf-" not in exported.stdout
    file.write_text(exported.stdout)
    done = run(served, "plan", str(file), "--prune")
    assert (done.returncode, "nothing to do" in done.stdout) == (0, True), done.stdout + done.stderr
    assert json.loads(run(served, "export", "--org", "around", "--json").stdout)["organisations"][0]["id"] == "around"


def test_programs_get_json_and_the_key_in_it_where_no_file_was_named(served: Served, file: Path) -> None:
    file.write_text(organisation("json").replace("        secret_to: file:intranet.key\n", ""))
    plan = json.loads(run(served, "plan", str(file), "--json").stdout)
    assert [change["act"] for change in plan["changes"]] == ["create"] * 7
    done = json.loads(run(served, "apply", str(file), "--yes", "--json").stdout)
    assert [secret["key"][:3] for secret in done["secrets"]] == ["bf-"]


def test_it_works_from_elsewhere_with_an_admin_key_and_within_its_organisation(served: Served, file: Path) -> None:
    file.write_text(organisation("far"))
    url = f"http://127.0.0.1:{served.control_port}"
    operator = served.cli("admin-keys", "create", "ci", "--org", "*", "--role", "operator")["key"]
    done = run(served, "apply", str(file), "--yes", BEFFROI_CONTROL=url, BEFFROI_ADMIN_KEY=operator)
    assert done.returncode == 0, done.stderr
    owner = served.cli("admin-keys", "create", "own", "--org", "far", "--role", "owner")["key"]
    assert run(served, "plan", str(file), "--control", url, BEFFROI_ADMIN_KEY=owner).returncode == 0
    other = file.parent / "other.yaml"
    other.write_text("organisations: [{id: acme}]\n")
    refused = run(served, "plan", str(other), "--control", url, BEFFROI_ADMIN_KEY=owner)
    assert refused.returncode == 1 and "may act in `far` alone" in refused.stderr
    viewer = served.cli("admin-keys", "create", "see", "--org", "far", "--role", "viewer")["key"]
    assert "needs the permission" in run(served, "plan", str(file), "--control", url, BEFFROI_ADMIN_KEY=viewer).stderr
    nobody = run(served, "plan", str(file), "--control", url)
    assert nobody.returncode == 2 and "$BEFFROI_ADMIN_KEY" in nobody.stderr
    wrong = run(served, "orgs", "list", "--control", url, BEFFROI_ADMIN_KEY="bfa-nothing")
    assert wrong.returncode == 1 and "admin key" in wrong.stderr


def test_an_apply_whose_answer_was_lost_is_asked_for_again_and_gives_the_same_keys(served: Served) -> None:
    """With an Idempotency-Key, as the command sends it: the keys are in the second answer too, and were made once."""
    document = {"organisations": [{"id": "lost", "projects": [{"id": "p"}], "keys": [{"name": "k", "project": "p"}]}]}
    key = served.cli("admin-keys", "create", "lost", "--org", "*", "--role", "operator")["key"]
    answers = [
        httpx.post(
            f"http://127.0.0.1:{served.control_port}/api/v1/apply",
            json={"document": document},
            headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "a-name-of-my-own-making"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    one, other = (answer.json() for answer in answers)
    assert one["secrets"] == other["secrets"] and one["secrets"][0]["key"].startswith("bf-")
    assert len(served.ledger("SELECT 1 FROM keys WHERE organisation = 'lost'")) == 1


def large(name: str, count: int) -> dict[str, Any]:
    """A document that takes a while to apply."""
    projects = [{"id": f"p{number}"} for number in range(count)]
    keys = [{"name": f"k{number}", "project": f"p{number}"} for number in range(count)]
    return {"organisations": [{"id": name, "projects": projects, "keys": keys}]}


def test_an_import_that_is_killed_in_the_middle_changes_nothing(served: Served, file: Path) -> None:
    """Control is killed while it applies; whenever that is, afterwards all is there, or nothing of it. `BEFFROI_APPLY_KILLS` times."""
    for number, delay in enumerate(random.Random(5).uniform(0, 0.4) for _ in range(scaled("apply_kills", 2))):
        name = f"killed{number}"
        file.write_text(json.dumps(large(name, 60)))
        (control,) = served.children("beffroi.control.process")
        timer = threading.Timer(delay, os.kill, (control, signal.SIGKILL))
        process = subprocess.Popen(
            [sys.executable, "-m", "beffroi", "apply", str(file), "--yes", "--json", "--data", str(served.data)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        time.sleep(0.55)  # of the command's own start
        timer.start()
        process.communicate(timeout=60)
        timer.join()
        served.wait_ready()
        counts = {
            table: len(served.ledger(f"SELECT 1 FROM {table} WHERE organisation = '{name}'"))
            for table in ("projects", "keys")
        }
        events = served.ledger(f"SELECT 1 FROM events WHERE organisation = '{name}' AND action LIKE 'apply:%'")
        assert counts in ({"projects": 0, "keys": 0}, {"projects": 60, "keys": 60}), (delay, counts)
        assert len(events) == (0 if not counts["keys"] else 121)
        assert run(served, "apply", str(file), "--yes").returncode == 0
        assert run(served, "plan", str(file)).returncode == 0


def test_a_plan_of_a_faulty_file_needs_no_server(served: Served, file: Path, tmp_path: Path) -> None:
    file.write_text("organisations: [{id: A}]\n")
    done = run(served, "plan", str(file), "--control", "http://127.0.0.1:1", BEFFROI_ADMIN_KEY="bfa-x")
    assert done.returncode == 1 and re.search(r":1:22: .*is no id", done.stderr)
