# SPDX-License-Identifier: Apache-2.0
"""The pages of the control process: what the port shows, what only the socket does, and readiness part by part."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from beffroi.control.api.app import DESCRIPTION, port_app, socket_app
from beffroi.control.api.pages import OPEN
from beffroi.control.api.routes import OPERATIONS, PREFIX
from beffroi.control.house import House
from beffroi.control.litellm.verbs import VERBS
from beffroi.control.metrics import METRICS
from beffroi.telemetry.metrics import observe
from tests.control.fakes import Control, Worker, control, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process that wants one worker."""
    with control(tmp_path_factory.mktemp("c")) as process:
        yield process


def paths(app: Any) -> set[str]:
    """Every path that an application has a route for, but for the end of the road."""
    return {cast("Route", route).path for route in app.routes} - {"/api/{rest:path}"}


def test_the_port_has_what_is_open_or_names_a_permission_and_no_other() -> None:
    """Default deny: a new operation is closed until it says what it needs."""
    nobody = cast("House", SimpleNamespace())
    assert {"/livez", "/readyz", "/metrics"} <= set(OPEN)
    both = {*OPEN, DESCRIPTION, *(verb.path for verb in VERBS)}
    assert paths(port_app(nobody)) == both | {PREFIX + each.path for each in OPERATIONS if each.needs is not None}
    assert paths(socket_app(nobody)) == both | {PREFIX + each.path for each in OPERATIONS}
    assert all(type(route) is Route for route in [*port_app(nobody).routes, *socket_app(nobody).routes])


def test_nothing_is_shown_on_the_port_without_a_key(running: Control) -> None:
    """Every operation, asked one by one without one: 401, whether it is there or not; and what is not below /api is 404."""
    assert running.get("/api/v1/nothing", port=True).status == running.get("/api/v1/keys", port=True).status == 401
    for each in OPERATIONS:
        path = PREFIX + re.sub(r"\{\w+\}", "x", each.path)
        answer = running.ask(each.method, path, port=True, key="none")
        assert (answer.status, answer.headers.get("www-authenticate")) == (401, "Bearer"), f"{each.method} {path}"
    assert running.get("/nowhere", port=True).status == 404


def test_errors_are_problem_details(running: Control) -> None:
    """Unknown page, wrong method with Allow, a parameter that is none."""
    missing = running.get("/nowhere")
    assert (missing.status, missing.json["code"], missing.json["status"]) == (404, "not_found", 404)
    assert missing.headers["content-type"] == "application/problem+json"
    wrong = running.ask("DELETE", "/api/v1/keys")
    assert (wrong.status, wrong.json["code"]) == (405, "method_not_allowed")
    assert set(wrong.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}
    assert running.get("/api/v1/usage?since=yesterday").json["param"] == "since"
    assert running.get("/api/v1/usage?by=colour").json["param"] == "by"


@pytest.mark.parametrize("value", ["99999999999999999999999", "9999-12-31", "0001-01-01", "253402300800", "1" * 5000])
def test_numbers_and_days_beyond_reason_are_the_fault_of_who_asks(running: Control, value: str) -> None:
    """A moment that a database cannot count, a day without a midnight, a number that Python does not read."""
    for name in ("since", "until"):
        answer = running.get(f"/api/v1/usage?{name}={value}")
        assert (answer.status, answer.json["param"]) == (400, name)
    assert running.get(f"/api/v1/requests?limit={value}").status == 400
    born = running.get("/api/v1/requests").json["next"].partition(".")[0]
    assert running.get(f"/api/v1/requests?after={born}.{value}").status == 200


def test_nothing_of_an_answer_is_kept_by_a_cache(running: Control) -> None:
    """A new key is in one of them."""
    assert running.get("/api/v1/keys").headers["cache-control"] == "no-store"


async def test_readiness_names_each_part_and_its_reason(running: Control) -> None:
    """Without a worker not ready; with one ready; with its journal broken or every engine out not ready."""
    answer = running.get("/readyz", port=True)
    assert answer.status == 503
    assert answer.json["parts"]["workers"] == {
        "ready": False,
        "reason": "0 of 1 connected; not at the current revision: w00",
    }
    assert answer.json["parts"]["database"]["ready"] and answer.json["parts"]["disk"]["ready"]
    with Worker(running.data) as worker:

        async def parts(status: int) -> Any:
            await asyncio.sleep(0.25)  # longer than pulled metrics are shown again
            answer = await asyncio.to_thread(running.get, "/readyz", port=True)
            assert answer.status == status, answer.text
            return answer.json["parts"]

        await until(lambda: worker.link.connected)
        assert set(await parts(200)) == {
            "workers",
            "configuration",
            "database",
            "journal",
            "shipping",
            "engines",
            "disk",
        }
        worker.counted.journal_healthy = False
        assert "w00" in (await parts(503))["journal"]["reason"]
        worker.counted.journal_healthy = True
        worker.counted.engines["a"].ejected = True
        assert (await parts(503))["engines"]["reason"] == "0 of 1 reachable; out: a"
        worker.counted.engines["a"].ejected = False
        await parts(200)


async def test_metrics_show_what_the_workers_counted(running: Control) -> None:
    """Every metric of the list and no other, in the format that Prometheus reads, in seconds and whole units."""
    with Worker(running.data) as worker:
        counts = worker.count()
        counts.requests = {"complete": 3, "client_gone": 1}
        counts.input_tokens, counts.cost_nano = 42, 805_400
        for micros in (900, 1500, 70_000):
            observe(counts.first_us, micros)
        worker.counted.room_ns[0] = 2_000_000_000
        worker.counted.refusals["invalid_api_key"] = 7
        await until(lambda: worker.link.connected)
        await asyncio.sleep(0.25)
        answer = await asyncio.to_thread(running.get, "/metrics", port=True)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) == {kind.name.removesuffix("_total") for kind in METRICS}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    slot, model = ("worker", "0"), ("model", "m")
    assert samples["beffroi_requests_total", model, ("outcome", "complete"), slot] == 3
    assert samples["beffroi_tokens_total", ("class", "input"), model, slot] == 42
    assert samples["beffroi_cost_total", ("currency", "EUR"), model, slot] == pytest.approx(0.0008054)
    assert samples["beffroi_room_seconds_total", ("room", "authenticate"), slot] == 2
    assert samples["beffroi_refusals_total", ("code", "invalid_api_key"), slot] == 7
    assert samples["beffroi_worker_up", slot] == samples["beffroi_worker_current", slot] == 1
    first = "beffroi_time_to_first_token_seconds"
    assert samples[f"{first}_bucket", ("le", "0.001024"), model, slot] == 1
    assert samples[f"{first}_bucket", ("le", "0.002048"), model, slot] == 2
    assert samples[f"{first}_bucket", ("le", "+Inf"), model, slot] == samples[f"{first}_count", model, slot] == 3
    assert samples[f"{first}_sum", model, slot] == pytest.approx(0.0724)


async def test_metrics_answer_when_no_worker_does(running: Control) -> None:
    """A monitor must see a dead gateway, not a dead page."""
    await asyncio.sleep(0.25)
    answer = running.get("/metrics", port=True)
    assert answer.status == 200 and 'beffroi_worker_up{worker="0"} 0.0' in answer.text


def test_the_journal_can_be_verified_and_usage_asked_for(running: Control, tmp_path: Path) -> None:
    """Both answer on an empty house."""
    assert running.get("/api/v1/journal/verify").json["ok"] is True
    usage = running.get("/api/v1/usage?by=key,day&since=0").json
    assert usage == {"by": ["key", "day"], "zone": "Europe/Paris", "usage": [], "shipping_lag_bytes": 0}
