# SPDX-License-Identifier: Apache-2.0
"""Quotas through the whole: made over the admin API, held by workers, charged after crashes, told when they near their end."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from beffroi.cli import client
from tests.client import Answer, call, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, wait_for

PRICE = 1_000_000  # nano-euro for an output token
MODELS = [
    {"id": "words", "targets": [{"engine": "e0"}], "prices": [{"input": 0, "output": 1000}]},
    {"id": "broken", "targets": [{"engine": "e1"}], "fallbacks": ["words"]},
]


class House:
    """A running Beffroi of four workers, and its admin API."""

    def __init__(self, folder: Path, engine: ScriptedEngine, bad: ScriptedEngine) -> None:
        self.engine = engine
        self.served = Served(folder / "data", {"e0": engine.url, "e1": bad.url}, workers=4, models=MODELS).start()

    def api(self, method: str, path: str, **body: Any) -> Any:
        """One call on `control.sock`."""
        return client.call(self.served.data, method, f"/api/v1{path}", body or None)

    def quota(self, **ask: Any) -> str:
        """A quota; its id."""
        made = self.api("POST", "/quotas", **ask)
        assert made["waiting"] == []
        return str(made["id"])

    def drop(self, *quotas: str) -> None:
        """Remove them."""
        for quota in quotas:
            self.api("DELETE", f"/quotas/{quota}")

    def uses(self, quota: str, query: str = "") -> dict[str, int]:
        """What is used of each limit."""
        return {use["limit"]: use["used"] for use in self.api("GET", f"/quotas/{quota}/standing{query}")["uses"]}

    def ask(self, key: str, **more: Any) -> Answer:
        """One request."""
        return call(
            self.served.address, request(key, chat("count to 7", **{"model": "words", "max_tokens": 10} | more))
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all tests of this file."""
    with ExitStack() as stack:
        engine, bad = stack.enter_context(ScriptedEngine()), stack.enter_context(ScriptedEngine())
        bad.always("status=500")
        made = House(tmp_path_factory.mktemp("q"), engine, bad)
        stack.callback(made.served.kill)
        yield made


@pytest.fixture
def keys(house: House) -> list[str]:
    """Four keys without limits of their own."""
    return [house.served.new_key() for _ in range(4)]


def test_four_keys_on_four_workers_share_ten_requests_of_their_organisation(house: House, keys: list[str]) -> None:
    """Forty at once: ten. The others are told whose limit it is, what is left and when it returns."""
    quota = house.quota(limits={"requests_per_minute": 10})
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(house.ask, keys * 10))
    refused = [answer for answer in answers if answer.status != 200]
    assert len(answers) - len(refused) == 10
    assert {answer.status for answer in refused} == {429}
    assert all("of organisation default" in answer.json["error"]["message"] for answer in refused)
    assert all("0 of 10 requests per minute are left; room returns in" in a.json["error"]["message"] for a in refused)
    assert all(0 < int(answer.get("retry-after") or 0) <= 61 for answer in refused)
    assert {answer.get("x-ratelimit-limit-requests") for answer in answers} == {"10"}
    assert house.uses(quota) == {"requests_per_minute": 10}
    house.drop(quota)
    assert house.ask(keys[0]).status == 200


def test_end_users_are_counted_apart_by_the_user_that_a_request_names(house: House, keys: list[str]) -> None:
    """Whatever key they come with; those without a name are one."""
    quota = house.quota(each_end_user=True, limits={"requests_per_minute": 2})
    for more in ({"user": "ann"}, {"user": "bob"}, {}):
        assert [house.ask(keys[n], **more).status for n in range(4)] == [200, 200, 429, 429]
    assert house.uses(quota, "?end_user=ann") == {"requests_per_minute": 2}
    assert house.uses(quota, "?end_user=eve") == {"requests_per_minute": 0}
    assert house.api("GET", f"/quotas/{quota}/standing")["end_users"] == 3
    house.drop(quota)


def test_a_fallback_is_held_by_its_own_quota(house: House, keys: list[str]) -> None:
    """The model that was asked for has none."""
    quota = house.quota(model="words", limits={"requests_per_minute": 2})
    answers = [house.ask(keys[0], model="broken") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert "of model words in organisation default" in answers[2].json["error"]["message"]
    house.drop(quota)


def test_a_term_begins_by_the_worker_s_own_clock(house: House, keys: list[str]) -> None:
    """Control is not asked: it stands still meanwhile."""
    soon = int(time.time()) + 3
    quota = house.quota(
        terms=[
            {"limits": {"requests_per_minute": 1000}},
            {"since": soon, "limits": {"concurrency": 1, "requests_per_minute": 0 + 1}},
        ]
    )
    control = house.served.children("beffroi.control.process")[0]
    os.kill(control, signal.SIGSTOP)
    try:
        assert [house.ask(keys[0]).status for _ in range(3)] == [200] * 3
        time.sleep(max(0.0, soon + 0.6 - time.time()))
        assert house.ask(keys[0]).status == 429
    finally:
        os.kill(control, signal.SIGCONT)
    house.drop(quota)


def test_a_tier_of_the_house_holds_an_organisation_and_its_cap_is_told(house: House) -> None:
    """tier-1, its cap lowered to something that a test can spend."""
    tier = house.api("POST", "/tiers", name="small", limits={"monthly_cap": "0.02", "output_tokens_per_day": 1000})
    assert (tier["version"], tier["state"]) == (1, "in force")
    house.api("POST", "/projects", id="lab", name="Lab")
    made = house.api("POST", "/tiers/small/assign", project="lab")
    key = house.api("POST", "/keys", name="lab", project="lab")["key"]
    assert house.ask(key, max_tokens=7).status == 200
    assert house.uses(made["id"])["monthly_cap"] == 7 * PRICE

    def alerts() -> list[int]:
        found = house.api("GET", f"/events?subject={made['id']}")["data"]
        return sorted(event["after"]["percent"] for event in found if event["action"] == "control:budget:alert")

    assert house.ask(key, max_tokens=7).status == 200  # 70 %
    wait_for(lambda: alerts() == [50], 10, "an alert at half of the cap")
    refused = house.ask(key, max_tokens=7)
    assert refused.status == 429
    assert refused.json["error"]["code"] == "insufficient_quota"
    assert (
        "monthly_cap of project lab in organisation default: 0.006 EUR of 0.02 EUR are left"
        in refused.json["error"]["message"]
    )
    assert house.ask(key, max_tokens=5).status == 200
    wait_for(lambda: alerts() == [50, 80], 10, "an alert at four fifths of it")
    house.drop(made["id"])


def test_what_a_killed_worker_had_in_progress_is_charged_to_every_scope_and_holds_nothing(
    house: House, keys: list[str]
) -> None:
    """Within seconds; the sum is the ledger's."""
    wide = house.quota(limits={"hard_budget": "50", "concurrency": 100})
    users = house.quota(each_end_user=True, limits={"hard_budget": "50"})
    house.engine.always("gap=0.6")
    with ThreadPoolExecutor(12) as pool:
        flight = [pool.submit(house.ask, keys[n % 4], stream=True, user="ann", max_tokens=300) for n in range(12)]
        wait_for(lambda: house.uses(wide)["concurrency"] == 12, 10, "all are in progress")
        time.sleep(1.2)  # a stream's progress is written once a second
        for pid in house.served.worker_pids:
            os.kill(pid, signal.SIGKILL)
        for each in flight:
            assert each.exception() is not None or b"[DONE]" not in each.result().body
    house.engine.always()

    def settled() -> bool:
        ledger = house.served.ledger
        lost = ledger("SELECT 1 FROM exchanges WHERE source = 'recovered' AND output_nano > 0")
        spent = ledger("SELECT SUM(output_nano) AS nano FROM exchanges")[0]["nano"]
        anns = ledger("SELECT SUM(output_nano) AS nano FROM exchanges WHERE end_user = 'ann'")[0]["nano"]
        mine = house.uses(users, "?end_user=ann")
        return (
            len(lost) == 12
            and house.uses(wide) == {"hard_budget": spent, "concurrency": 0}
            and mine == {"hard_budget": anns}
        )

    wait_for(settled, 30, "orphans are charged and nothing is held")
    assert house.ask(keys[0]).status == 200
    house.drop(wide, users)


def test_a_quota_made_in_a_month_that_has_begun_finds_what_was_spent(house: House, keys: list[str]) -> None:
    """And one whose counters were lost is restored at the next start, each end user too."""
    assert house.ask(keys[0], user="dan").status == 200
    wide = house.quota(limits={"hard_budget": "1000"})
    users = house.quota(each_end_user=True, limits={"soft_budget": "1000"})

    def restored() -> bool:
        spent = house.served.ledger("SELECT SUM(output_nano) AS nano FROM exchanges")[0]["nano"]
        mine = house.served.ledger("SELECT SUM(output_nano) AS nano FROM exchanges WHERE end_user = 'dan'")[0]["nano"]
        return (
            house.uses(wide)["hard_budget"] == spent and house.uses(users, "?end_user=dan")["soft_budget"] == mine > 0
        )

    wait_for(restored, 10, "the new quotas have the ledger's sums")
    house.served.stop()
    for name in ("counters.bin", "end-users.bin"):
        (house.served.data / name).unlink()
    house.served.start()
    wait_for(restored, 15, "the budgets are the ledger's again")
    house.drop(wide, users)
