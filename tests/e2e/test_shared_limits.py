# SPDX-License-Identifier: Apache-2.0
"""Two machines over one PostgreSQL and one Valkey: limits are one, and each machine lives through the loss of Valkey."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from beffroi.core.clock import SystemClock
from beffroi.core.state import load_keys
from beffroi.gateway.quota.fleet import FleetBooks
from beffroi.gateway.quota.scopes import account_of
from tests.control.fleet.fleets import Fleet
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, get, wait_for
from tests.servers import Postgres, Valkey

PASSWORD = "only-of-this-test"
PRICES = [{"input": 10, "output": 10}]


class Two(NamedTuple):
    """The pair, and keys that both know."""

    server: Valkey
    fleet: Fleet
    machines: tuple[Served, Served]
    rated: str
    hard: str


@pytest.fixture(scope="module")
def two(postgres: Postgres) -> Iterator[Two]:
    """One database, one Valkey with a password, two machines."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with ScriptedEngine() as engine, Valkey() as server:
        server.ask("CONFIG", "SET", "requirepass", PASSWORD)
        (folder / "valkey").write_text(f"valkey://:{PASSWORD}@127.0.0.1:{server.port}/0\n")
        models = [{"id": "words", "targets": [{"engine": "e0"}], "prices": PRICES, "max_model_len": 1000}]
        fleet = Fleet(postgres, postgres.empty(), engine, folder)
        try:
            machines = [fleet.start(name, models=models, valkey="file:valkey") for name in ("one", "two")]
            rated = machines[0].new_key(requests_per_minute=6)
            hard = machines[0].new_key(hard_budget="1000")
            wait_for(lambda: machines[1].chat(key=hard).status == 200, 10, "the second machine knows the keys")
            yield Two(server, fleet, (machines[0], machines[1]), rated, hard)
        finally:
            fleet.close()
    shutil.rmtree(folder, ignore_errors=True)


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
        sums = f"SELECT sum(input_nano + cached_nano + output_nano + reasoning_nano) FROM exchanges WHERE key_id = '{record.id}'"
        return found.reserved == 0 and found.spent == int(two.fleet.rows(sums)[0][0] or 0) > 0

    wait_for(agree, 10, "the ledger's sum")
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
