# SPDX-License-Identifier: Apache-2.0
"""Webhooks from end to end, with the commands of docs/how-to/webhooks.md, against a running control process."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.fakes import Control, WorkerThread, control
from tests.control.webhooks.receiver import Got, Receiver, receiver
from tests.docs.blocks import of
from tests.harness import program

PAGES = ("docs/how-to/webhooks.md", "docs/how-to/webhooks.fr.md")
CONFIG = """
server: {webhook_networks: [127.0.0.0/8]}
resources:
  engines: [{name: a, url: "http://127.0.0.1:9"}]
  models: [{id: m, targets: [{engine: a}]}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process that may call this machine, and one worker."""
    folder = tmp_path_factory.mktemp("w")
    (folder / "beffroi.yaml").write_text(CONFIG)
    (folder / "d").mkdir()
    with control(folder / "d", config=folder / "beffroi.yaml") as process, WorkerThread(process.data):
        yield process


@pytest.fixture
def told(running: Control) -> Iterator[Receiver]:
    """A program that is told, and no webhook left behind."""
    with receiver() as found:
        yield found
        for hook in running.get("/api/v1/webhooks?limit=200").json["data"]:
            assert running.ask("DELETE", f"/api/v1/webhooks/{hook['id']}").status == 204


def verifies(page: str, secret: str, got: Got) -> bool:
    """What the page's own program says of a delivery."""
    (block,) = of(page, "python")
    scope: dict[str, Any] = {}
    exec(compile(block.text, page, "exec"), scope)
    return bool(scope["verify"](secret, got.headers, got.body))


@pytest.mark.parametrize("page", PAGES)
def test_the_page_makes_one_tries_it_and_believes_what_comes(running: Control, told: Receiver, page: str) -> None:
    """Its commands, its program, and a key whose making is told; a changed body is not believed."""
    program("curl")
    admin = running.ask("POST", "/api/v1/admin-keys", {"name": "hooks", "role": "admin"}).json["key"]
    make, try_ = of(page, "sh")
    environ = {**os.environ, "BEFFROI_ADMIN_KEY": admin}

    def run(text: str, **more: str) -> Any:
        text = text.replace("http://127.0.0.1:8401", f"http://127.0.0.1:{running.port}").replace(
            "https://hooks.example.org/beffroi", f"{told.url}/in"
        )
        done = subprocess.run(
            ["bash", "-ec", text], env={**environ, **more}, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    made = run(make.text)
    assert made["events"] == ["key:*", "rotation:*"] and made["secret"].startswith("whsec_")
    tested = run(try_.text, WEBHOOK=made["id"])
    assert (tested["delivered"], tested["status"], tested["fault"]) == (True, 204, "")
    running.ask("POST", "/api/v1/keys", {"name": "told"})
    test, got = told.await_(2)[:2]
    assert [json.loads(each.body)["type"] for each in (test, got)] == ["control:webhook:test", "cli:key:create"]
    assert all(verifies(page, made["secret"], each) for each in (test, got))
    assert not verifies(page, made["secret"], got._replace(body=got.body + b" "))
    assert not verifies(page, made["secret"], got._replace(headers={**got.headers, "webhook-id": "dlv_other"}))
    old = {**got.headers, "webhook-timestamp": str(int(time.time()) - 301)}
    assert not verifies(page, made["secret"], got._replace(headers=old))
    assert running.ask("DELETE", f"/api/v1/webhooks/{made['id']}").status == 204


def test_the_secret_is_shown_once_and_another_takes_its_place(running: Control, told: Receiver) -> None:
    """No answer, event or delivery has it again; after a renewal the old one signs nothing."""
    made = running.ask("POST", "/api/v1/webhooks", {"url": told.url, "events": ["webhook:*"]}).json
    path = f"/api/v1/webhooks/{made['id']}"
    assert "secret" not in running.get(path).json
    renewed = running.ask("POST", f"{path}/secret").json
    assert renewed["secret"] != made["secret"] and renewed["revision"] == made["revision"] + 1
    # Two events, told in either order.
    (got,) = [each for each in told.await_(2) if each.headers["beffroi-event"] == "cli:webhook:renew"]
    assert verifies(PAGES[0], renewed["secret"], got) and not verifies(PAGES[0], made["secret"], got)
    everything = running.get("/api/v1/events?limit=200").text + running.get("/api/v1/webhooks").text
    assert made["secret"] not in everything and renewed["secret"] not in everything
    assert made["secret"] not in running.log()


def test_what_was_done_before_a_crash_is_told_after_it(running: Control, told: Receiver) -> None:
    """Control is killed while the program is away: nothing is forgotten."""
    running.ask("POST", "/api/v1/webhooks", {"url": told.url, "events": ["project:create"]})
    told.status = 503
    for name in ("one", "two", "three"):
        assert running.ask("POST", "/api/v1/projects", {"name": name, "id": name}).status == 201
    running.process.kill()
    running.process.wait()
    running.start()
    told.status = 200
    until = time.monotonic() + 20
    taken: set[str] = set()
    waits: list[Any] = []
    while time.monotonic() < until:
        taken = {json.loads(got.body)["subject"] for got in told.got}
        waits = [
            each
            for hook in running.get("/api/v1/webhooks?limit=200").json["data"]
            for each in running.get(f"/api/v1/webhooks/{hook['id']}/deliveries").json["data"]
        ]
        if not waits:
            break
        time.sleep(0.2)
    assert taken == {"one", "two", "three"} and not waits
    by_subject: dict[str, set[str]] = {}
    for got in told.got:
        by_subject.setdefault(json.loads(got.body)["subject"], set()).add(got.headers["webhook-id"])
    assert all(len(ids) == 1 for ids in by_subject.values()), "a delivery that is repeated keeps its id"


def test_a_webhook_into_the_house_is_refused_where_no_network_is_allowed(
    tmp_path_factory: pytest.TempPathFactory, told: Receiver
) -> None:
    """The default: a test says why, and nothing reaches it."""
    folder: Path = tmp_path_factory.mktemp("n")
    with control(folder) as closed, WorkerThread(closed.data):
        made = closed.ask("POST", "/api/v1/webhooks", {"url": told.url}).json
        tested = closed.ask("POST", f"/api/v1/webhooks/{made['id']}/test").json
    assert not tested["delivered"] and "server.webhook_networks" in tested["fault"]
    assert not told.got
