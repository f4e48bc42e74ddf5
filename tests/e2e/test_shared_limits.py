# SPDX-License-Identifier: Apache-2.0
"""Two machines that know the same keys, over one Valkey: limits are one, and each machine lives through its loss."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from beffroi.core.clock import SystemClock
from beffroi.core.state import load_keys
from beffroi.gateway.quota.fleet import FleetBooks
from beffroi.gateway.quota.scopes import account_of
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, get, wait_for
from tests.servers import Valkey

PASSWORD = "only-of-this-test"
PRICES = [{"input": 10, "output": 10}]


class Two(NamedTuple):
    """The pair, and keys that both know."""

    server: Valkey
    machines: tuple[Served, Served]
    rated: str
    hard: str


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The second machine begins with what the first has in its data directory."""
    folder = Path(tmp_path_factory.mktemp("two"))
    with ScriptedEngine() as engine, Valkey() as server:
        server.ask("CONFIG", "SET", "requirepass", PASSWORD)
        models = [{"id": "words", "targets": [{"engine": "e"}], "prices": PRICES, "max_model_len": 1000}]
        env = {"SHARED_LIMITS": f"valkey://:{PASSWORD}@127.0.0.1:{server.port}/0"}
        made = [
            Served(folder / name, {"e": engine.url}, models=models, server={"valkey": "env:SHARED_LIMITS"}, env=env)
            for name in ("one", "two")
        ]
        try:
            made[0].start()
            rated = made[0].new_key(requests_per_minute=6)
            hard = made[0].new_key(hard_budget="1000")
            made[0].stop()
            shutil.copytree(made[0].data, made[1].data)
            for each in made:
                each.key = made[0].key
                each.start()
            yield Two(server, (made[0], made[1]), rated, hard)
        finally:
            for each in made:
                each.stop()


def _spent_on(machine: Served, key_id: str) -> int:
    with sqlite3.connect(machine.data / "beffroi.db") as ledger:
        (total,) = ledger.execute(
            "SELECT coalesce(sum(input_nano + cached_nano + output_nano + reasoning_nano), 0) FROM exchanges WHERE key_id = ?",
            (key_id,),
        ).fetchone()
    ledger.close()
    return int(total)


def _limits(machine: Served) -> str:
    status, body = get(machine.control_port, "/readyz")
    assert status == 200
    return str(json.loads(body)["parts"]["limits"])


def test_a_limit_is_one_over_both(two: Two) -> None:
    """Six of ten, whoever is asked."""
    answers = [two.machines[number % 2].chat(key=two.rated) for number in range(10)]
    assert [answer.status for answer in answers] == [200] * 6 + [429] * 4
    assert (
        "requests_per_minute of this key: 0 of 6 requests per minute are left" in answers[-1].json["error"]["message"]
    )
    assert two.machines[0].metric("beffroi_limits_up") == 1
    assert "shared by 2 workers" in _limits(two.machines[1])


def test_what_one_spends_the_other_knows(two: Two) -> None:
    """The centre has the sum of both."""
    wait_for(lambda: two.machines[0].chat(key=two.hard).status == 200, 5, "the budgets are compared with the ledger")
    assert two.machines[1].chat(key=two.hard).status == 200
    public = two.hard.split("-")[1]
    record = next(key for key in load_keys(two.machines[0].data).keys if key.public == public)
    url = f"redis://:{PASSWORD}@127.0.0.1:{two.server.port}/0"
    books = FleetBooks(url, prefix="beffroi", clock=SystemClock(), zone="Europe/Paris")

    def agree() -> bool:
        found = books.spent(account_of(record))
        return found.reserved == 0 and found.spent == sum(_spent_on(machine, record.id) for machine in two.machines) > 0

    wait_for(agree, 10, "the sum of both ledgers")
    books.close()


def test_without_the_centre_each_has_its_part_and_hard_budgets_are_closed_until_it_is_back(two: Two) -> None:
    """Both stay ready, say so, and go on by themselves."""
    two.server.kill()
    try:
        answers = [two.machines[number % 2].chat(key=two.machines[0].key).status for number in range(4)]
        assert answers == [200] * 4
        wait_for(lambda: two.machines[0].chat(key=two.hard).status == 503, 5, "what was lent is used up")
        refused = two.machines[0].chat(key=two.hard).json["error"]
        assert refused["code"] == "limits_unavailable"
        wait_for(lambda: "own part" in _limits(two.machines[0]), 5, "it says so")
    finally:
        two.server.start()
        two.server.ask("CONFIG", "SET", "requirepass", PASSWORD)
    wait_for(lambda: two.machines[1].chat(key=two.hard).status == 200, 10, "the ledger's sums are there again")
    wait_for(lambda: two.machines[0].metric("beffroi_limits_lost_total") == 1, 5, "the loss was noticed")


def test_no_password_is_in_a_log_or_on_a_page(two: Two) -> None:
    """Not in what was printed, and not in what commands show."""
    for machine in two.machines:
        assert PASSWORD not in machine.output
        assert PASSWORD not in machine.run_cli("config", "show", "--config", str(machine.config)).stdout
