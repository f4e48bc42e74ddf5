# SPDX-License-Identifier: Apache-2.0
"""Scripts as guides of LiteLLM show them, against a running Beffroi: onboarding, budgets, rotation, reports, off-boarding."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, program

MODELS = [{"id": "small", "targets": [{"engine": "gpu", "model": "words"}], "prices": [{"input": 10, "output": 100}]}]


class Proxy:
    """A client of the admin verbs, as scripts have one: a base URL, a master key, JSON."""

    def __init__(self, served: Served, key: str) -> None:
        self.served = served
        self.base = f"http://127.0.0.1:{served.control_port}"
        self.key = key

    def ask(self, method: str, path: str, **extra: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        while True:  # 25 calls a second are more than enough for a person, and less than a test asks
            answer = httpx.request(method, self.base + path, headers=headers, timeout=15, **extra)
            if answer.status_code != 429:
                return answer
            time.sleep(0.1)

    def post(self, path: str, **body: Any) -> Any:
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, **params: Any) -> Any:
        answer = self.ask("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, status: int, method: str, path: str, **extra: Any) -> dict[str, Any]:
        answer = self.ask(method, path, **extra)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["code"] == str(status)
        return error

    def chat(self, key: str, model: str = "small", **more: Any) -> int:
        return self.served.chat("hello", key=key, model=model, **more).status


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A running Beffroi, and an operator's admin key in the place of the master key."""
    with (
        ScriptedEngine() as engine,
        Served(tmp_path_factory.mktemp("l") / "data", {"gpu": engine.url}, models=MODELS) as served,
    ):
        made = served.cli("admin-keys", "create", "scripts", "--org", "*", "--role", "operator")
        yield Proxy(served, made["key"])


def test_a_team_is_onboarded_as_the_guides_do_it(proxy: Proxy) -> None:
    """Team, user, membership, key; the key works, within its limits, and for its models alone."""
    team = proxy.post(
        "/team/new", team_alias="Search", team_id="search", max_budget=100, budget_duration="30d", rpm_limit=1000
    )
    assert (team["team_id"], team["team_alias"], team["max_budget"], team["rpm_limit"]) == (
        "search",
        "Search",
        100.0,
        1000,
    )
    user = proxy.post("/user/new", user_email="Jo@acme.example", user_role="internal_user", auto_create_key=False)
    assert user["user_role"] == "internal_user"
    added = proxy.post("/team/member_add", team_id="search", member={"role": "user", "user_id": user["user_id"]})
    assert [one["user_email"] for one in added["members_with_roles"]] == ["jo@acme.example"]
    key = proxy.post(
        "/key/generate", key_alias="search-prod", team_id="search", user_id=user["user_id"], models=["small"], duration="30d",
        rpm_limit=60, tpm_limit=100_000, max_parallel_requests=4, max_budget=5.0, budget_duration="1d",
        metadata={"squad": "one"}, tags=["prod"],
    )  # fmt: skip
    assert key["key"].startswith("bf-") and key["team_id"] == "search" and key["user_id"] == user["user_id"]
    assert key["models"] == ["small"] and key["max_budget"] == 5.0 and key["budget_duration"] == "1d"
    ends = datetime.fromisoformat(key["expires"])
    assert abs(ends - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    told = " ".join(key["beffroi"]["told"])
    assert "`metadata`" in told and "`tags`" in told
    assert proxy.chat(key["key"]) == 200
    info = proxy.get("/team/info", team_id="search")
    assert info["team_info"]["max_budget"] == 100.0 and [one["key_alias"] for one in info["keys"]] == ["search-prod"]
    mine = proxy.get("/user/info", user_id="jo@acme.example")
    assert mine["teams"] == ["search"] and [one["token"] for one in mine["keys"]] == [key["token"]]


def test_the_spend_of_a_key_is_that_of_the_ledger(proxy: Proxy) -> None:
    key = proxy.post("/key/generate", key_alias="spender")
    assert "twelve months" in " ".join(key["beffroi"]["told"])
    for _ in range(3):
        assert proxy.chat(key["key"]) == 200
    info = proxy.get("/key/info", key=key["key"])
    rows = proxy.served.ledger(f"SELECT * FROM exchanges WHERE key_id = '{key['token']}'")
    nano = sum(row["input_nano"] + row["output_nano"] + row["cached_nano"] + row["reasoning_nano"] for row in rows)
    assert nano > 0 and info["info"]["spend"] == pytest.approx(nano / 1e9, abs=1e-12)
    assert "key" not in info["info"] and key["key"] not in json.dumps(info)
    today = datetime.now(UTC).date()
    logs = proxy.get(
        "/spend/logs",
        api_key=key["key"],
        start_date=str(today - timedelta(days=1)),
        end_date=str(today + timedelta(days=1)),
    )
    assert sum(day["spend"] for day in logs) == pytest.approx(nano / 1e9)
    assert sum(day["models"]["small"] for day in logs) == pytest.approx(nano / 1e9)
    one_by_one = proxy.get("/spend/logs", api_key=key["key"])
    assert len(one_by_one) == 3 and {row["model"] for row in one_by_one} == {"small"}
    assert proxy.get("/spend/logs", request_id=one_by_one[0]["request_id"]) == one_by_one[:1]
    report = proxy.get(
        "/global/spend/report",
        start_date=str(today - timedelta(days=1)),
        end_date=str(today + timedelta(days=1)),
        group_by="api_key",
    )
    (mine,) = [one for one in report if one["api_key"] == key["token"]]
    assert mine["total_cost"] == pytest.approx(nano / 1e9)
    teams = [team for day in proxy.get("/global/spend/report") for team in day["teams"]]
    assert sum(team["total_spend"] for team in teams if team["team_id"] == "default") >= nano / 1e9


def test_a_key_is_changed_blocked_unblocked_regenerated_and_deleted(proxy: Proxy) -> None:
    made = proxy.post("/key/generate", key_alias="life", allowed_routes=["/chat/completions"], rpm_limit=60)
    key = made["key"]
    changed = proxy.post("/key/update", key=key, rpm_limit=None, max_budget=3, key_alias="life-2")
    assert changed["rpm_limit"] is None and changed["max_budget"] == 3.0 and changed["key_alias"] == "life-2"
    assert changed["allowed_routes"] == ["/chat/completions"]
    assert proxy.post("/key/block", key=made["token"])["blocked"] is True
    assert proxy.chat(key) == 403
    unblocked = proxy.post("/key/unblock", key=made["token"])
    assert unblocked["blocked"] is False and unblocked["allowed_routes"] == ["/chat/completions"]
    assert proxy.chat(key) == 200
    fresh = proxy.post("/key/regenerate", key=key)
    assert fresh["key"] != key and (proxy.chat(key), proxy.chat(fresh["key"])) == (401, 200)
    later = proxy.post(f"/key/{fresh['token']}/regenerate", grace_period="1h")
    assert (proxy.chat(fresh["key"]), proxy.chat(later["key"])) == (200, 200)
    listed = proxy.get("/key/list", key_alias="life-2", return_full_object="true", size=100)
    assert later["token"] in [one["token"] for one in listed["keys"]]
    assert proxy.post("/key/delete", keys=[later["key"]])["deleted_keys"] == [later["token"]]
    assert (proxy.chat(fresh["key"]), proxy.chat(later["key"])) == (401, 401)


def test_deleting_several_keys_deletes_all_or_none(proxy: Proxy) -> None:
    made = proxy.post("/key/generate", key_alias="stays")
    proxy.refused(404, "POST", "/key/delete", json={"keys": [made["token"], "key_none"]})
    assert proxy.chat(made["key"]) == 200


def test_the_limits_of_a_team_hold_for_all_its_keys_together(proxy: Proxy) -> None:
    proxy.post("/team/new", team_alias="Tight", team_id="tight", rpm_limit=2)
    keys = [proxy.post("/key/generate", team_id="tight")["key"] for _ in range(2)]
    assert [proxy.chat(keys[0]), proxy.chat(keys[1]), proxy.chat(keys[0]), proxy.chat(keys[1])] == [200, 200, 429, 429]
    assert proxy.post("/team/update", team_id="tight", rpm_limit=1000)["data"]["rpm_limit"] == 1000
    assert proxy.chat(keys[1]) == 200
    assert proxy.post("/team/block", team_id="tight")["blocked"] is True
    assert proxy.chat(keys[0]) == 403
    proxy.post("/team/unblock", team_id="tight")
    assert proxy.chat(keys[0]) == 200
    assert proxy.post("/team/delete", team_ids=["tight"])["deleted_teams"] == ["tight"]
    assert proxy.chat(keys[0]) == 401


def test_a_budget_with_an_id_limits_every_key_that_has_it(proxy: Proxy) -> None:
    budget = proxy.post("/budget/new", budget_id="free-tier", rpm_limit=1, max_budget=2, budget_duration="30d")
    assert budget["budget_id"] == "free-tier"
    assert proxy.post("/budget/info", budgets=["free-tier"]) == [budget]
    key = proxy.post("/key/generate", budget_id="free-tier")["key"]
    assert (proxy.chat(key), proxy.chat(key)) == (200, 429)
    proxy.refused(404, "POST", "/budget/info", json={"budgets": ["none"]})


def test_what_cannot_be_honoured_is_refused_by_name_and_nothing_is_made(proxy: Proxy) -> None:
    before = proxy.get("/key/list", size=100)["total_count"]
    for body in ({"guardrails": ["pii"]}, {"model_max_budget": {"a": 1}}, {"colour": 1}, {"allowed_routes": ["/v1/files"]},
                 {"budget_duration": "7d", "max_budget": 1}, {"key": "sk-mine"}, {"models": ["none"]}, {"team_id": "nowhere"},
                 {"user_id": "nobody"}, {"duration": "400d"}, {"max_budget": "much"}):  # fmt: skip
        error = proxy.refused(404 if "user_id" in body else 400, "POST", "/key/generate", json=body)
        assert error["type"] in ("bad_request_error", "not_found_error") and error["message"]
    assert proxy.get("/key/list", size=100)["total_count"] == before
    assert "models" in proxy.refused(400, "POST", "/team/new", json={"team_alias": "x", "models": ["small"]})["message"]


def test_a_field_of_another_type_is_the_mistake_of_who_asks(proxy: Proxy) -> None:
    """A list or an object where a text belongs reaches neither a table of ours nor the database."""
    for path, body in (("/key/generate", {"key_alias": ["a"]}), ("/key/generate", {"allowed_routes": [{}]}),
                       ("/key/generate", {"key_type": {"a": 1}}), ("/key/generate", {"organization_id": ["a"]}),
                       ("/user/new", {"user_email": "a@b.example", "user_role": [1]}),
                       ("/budget/new", {"budget_id": {"a": 1}, "tpm_limit": 1})):  # fmt: skip
        assert proxy.refused(400, "POST", path, json=body)["message"]


def test_models_are_shown_with_prices_and_without_engines(proxy: Proxy) -> None:
    for path in ("/model/info", "/v1/model/info"):
        (model,) = proxy.get(path)["data"]
        assert model["model_name"] == "small"
        assert model["model_info"]["input_cost_per_token"] == pytest.approx(10e-6)
        assert "127.0.0.1" not in json.dumps(model)


def test_without_an_admin_key_nothing_is_answered_and_a_role_does_what_it_may(proxy: Proxy) -> None:
    anonymous = Proxy(proxy.served, "sk-1234")
    assert anonymous.refused(401, "GET", "/key/list")["type"] == "auth_error"
    assert Proxy(proxy.served, proxy.post("/key/generate")["key"]).refused(401, "GET", "/key/list")
    viewer = Proxy(proxy.served, proxy.served.cli("admin-keys", "create", "look", "--role", "viewer")["key"])
    assert viewer.get("/team/list") and viewer.refused(403, "POST", "/key/generate", json={})
    elsewhere = viewer.refused(403, "GET", "/key/list", params={"organization_id": "acme"})
    assert elsewhere["type"] == "auth_error"


def test_another_organisation_is_neither_seen_nor_touched(proxy: Proxy) -> None:
    proxy.served.cli("orgs", "create", "acme")
    proxy.served.cli("projects", "create", "p", "--org", "acme")
    theirs = Proxy(
        proxy.served, proxy.served.cli("admin-keys", "create", "a", "--org", "acme", "--role", "owner")["key"]
    )
    ours = proxy.post("/key/generate", key_alias="ours", team_id="default")
    mine = theirs.post("/key/generate", key_alias="mine", team_id="p")
    assert theirs.get("/key/list")["keys"] == [mine["token"]]
    assert [team["team_id"] for team in theirs.get("/team/list")] == ["p"]
    for path, body in (("/key/delete", {"keys": [ours["token"]]}), ("/key/block", {"key": ours["key"]}),
                       ("/key/update", {"key": "ours", "rpm_limit": 1}), ("/team/block", {"team_id": "default"})):  # fmt: skip
        theirs.refused(404, "POST", path, json=body)
    theirs.refused(404, "GET", "/key/info", params={"key": ours["token"]})
    assert theirs.get("/spend/logs") == [] and proxy.chat(ours["key"]) == 200


def test_curl_as_the_guides_write_it(proxy: Proxy, tmp_path: Path) -> None:
    """A shell script with curl and a master key in a variable."""
    script = """
set -eu
KEY=$(curl -sf -X POST "$BASE/key/generate" -H "Authorization: Bearer $MASTER" -H 'Content-Type: application/json' \\
  -d '{"models": ["small"], "duration": "24h", "metadata": {"user": "ishaan@acme.example"}}' | sed 's/.*"key":"\\([^"]*\\)".*/\\1/')
curl -sf "$BASE/key/info?key=$KEY" -H "Authorization: Bearer $MASTER" > info.json
curl -sf -X POST "$BASE/key/delete" -H "Authorization: Bearer $MASTER" -H 'Content-Type: application/json' \\
  -d "{\\"keys\\": [\\"$KEY\\"]}"
"""
    program("curl")
    done = subprocess.run(
        ["sh", "-c", script], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env={"BASE": proxy.base, "MASTER": proxy.key, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "info.json").read_text())
    assert json.loads(done.stdout)["deleted_keys"] == [info["key"]]
