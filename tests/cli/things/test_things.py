# SPDX-License-Identifier: Apache-2.0
"""Commands over what is administered, against a running Beffroi: one grammar, the same answers from near and from far."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from beffroi.cli.main import main
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served

ACME = ("--organisation", "acme")


class Operator:
    """Types commands in this process, near by (`--data`) or from far away (`--control`)."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.url = f"http://127.0.0.1:{served.control_port}"

    def type(self, *arguments: str, key: str = "") -> Result:
        where = ("--control", self.url) if key else ("--data", str(self.served.data))
        env = {"BEFFROI_ADMIN_KEY": key or None, "BEFFROI_CONTROL": None}
        return CliRunner().invoke(main, [*arguments, *where], env=env)

    def says(self, *arguments: str, key: str = "") -> str:
        done = self.type(*arguments, key=key)
        assert done.exit_code == 0, (arguments, done.output)
        return done.stdout

    def json(self, *arguments: str, key: str = "") -> Any:
        return json.loads(self.says(*arguments, "--json", key=key))

    def fails(self, *arguments: str, key: str = "") -> str:
        done = self.type(*arguments, key=key)
        assert done.exit_code in (1, 2), (arguments, done.output)
        return done.stderr


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with ScriptedEngine() as engine, Served(tmp_path_factory.mktemp("t") / "data", {"gpu": engine.url}) as served:
        found = Operator(served)
        assert found.says("orgs", "create", "acme", "--name", "Acme") == "acme (Acme): made.\n"
        found.says("projects", "create", "chat", *ACME)
        yield found


MAKING = {
    "projects": (("lab", "--name", "Lab"), ("--name", "Laboratory"), "name", "Laboratory"),
    "members": (("bob@acme.example", "--role", "viewer"), ("--role", "developer"), "role", "developer"),
    "service-accounts": (("ci", "--role", "viewer", "--project", "chat"), ("--role", "developer"), "role", "developer"),
    "systems": (("desk", "--purpose", "Answers", "--owner", "Ada", "--model", "words"), ("--owner", "Bob"), "owner", "Bob"),
    "quotas": (("all", "--requests-per-minute", "9"), ("--name", "n"), "", ""),
    "webhooks": (("https://hooks.example/x", "--event", "*:key:*"), ("--event", "*"), "events", ["*"]),
}  # fmt: skip


@pytest.mark.parametrize("things", MAKING)
def test_things_are_made_listed_shown_changed_and_removed_in_one_grammar(operator: Operator, things: str) -> None:
    created, changed, field, value = MAKING[things]
    made = operator.json(things, "create", *created, *ACME)
    named = created[0]
    assert made["id"] in [one["id"] for one in operator.json(things, "list", *ACME)]
    for reference in (made["id"], named):
        assert operator.json(things, "show", reference, *ACME)["id"] == made["id"]
    rows = list(csv.DictReader(io.StringIO(operator.says(things, "list", *ACME, "--csv"))))
    assert made["id"] in [row["id"] for row in rows]
    if field:
        assert operator.json(things, "update", named, *changed, *ACME)[field] == value
    assert operator.says(things, "delete", made["id"], *ACME).endswith("deleted.\n")
    assert made["id"] not in [one["id"] for one in operator.json(things, "list", *ACME)]
    assert f"`{made['id']}`" in operator.fails(things, "show", made["id"], *ACME)


def test_a_secret_is_alone_on_standard_output_and_all_else_beside_it(operator: Operator) -> None:
    done = operator.type("admin-keys", "create", "alone", "--role", "viewer", *ACME)
    assert done.stdout.startswith("bfa-") and done.stdout.count("\n") == 1
    assert "not shown again" in done.stderr
    listed = operator.says("admin-keys", "list", *ACME)
    assert "alone" in listed and done.stdout.strip() not in listed
    assert operator.says("admin-keys", "revoke", "alone", *ACME).endswith("revoked.\n")
    assert operator.fails("projects", "list", key=done.stdout.strip())


def test_the_same_commands_work_from_far_away_within_what_the_key_may(operator: Operator) -> None:
    key = operator.json("admin-keys", "create", "far", "--role", "admin", *ACME)["key"]
    near = operator.json("projects", "list", *ACME)
    assert operator.json("projects", "list", key=key) == near
    assert [one["id"] for one in operator.json("orgs", "list", key=key)] == ["acme"]
    assert {"acme", "default"} <= {one["id"] for one in operator.json("orgs", "list")}
    assert operator.says("members", "create", "c@acme.example", "--role", "viewer", key=key)
    assert "may act in the organisation `acme` alone" in operator.fails(
        "projects", "list", "--organisation", "default", key=key
    )
    assert "needs the permission" in operator.fails("orgs", "create", "other", key=key)
    assert "owner" in operator.fails("members", "create", "d@acme.example", "--role", "owner", key=key)


def test_tiers_have_versions_and_are_given_out(operator: Operator) -> None:
    operator.says("tiers", "create", "gold", "--requests-per-minute", "50", "--monthly-cap", "1000", *ACME)
    assert "version 2 made, coming" in operator.says(
        "tiers", "create", "gold", "--effective", "2199-01-01", "--concurrency", "9", *ACME
    )
    shown = operator.says("tiers", "show", "gold", *ACME)
    assert "requests per minute 50, monthly cap 1000 EUR" in shown and "coming" in shown
    quota = operator.json("tiers", "assign", "gold", "--project", "chat", *ACME)
    (use,) = [row for row in csv.DictReader(io.StringIO(operator.says("quotas", "use", quota["id"], "--csv", *ACME))) if row["limit"] == "requests per minute"]  # fmt: skip
    assert (use["used"], use["allowed"], use["left"]) == ("0", "50", "50")
    assert "taken back" in operator.says("tiers", "delete", "gold", "2", *ACME)
    assert len(operator.json("tiers", "show", "gold", *ACME)) == 1
    changed = operator.json("quotas", "update", quota["id"], "--requests-per-minute", "7", *ACME)
    assert changed["in_force"]["limits"] == {"requests_per_minute": 7}


def test_what_is_suspended_is_refused_and_served_again(operator: Operator) -> None:
    key = operator.served.cli("keys", "create", "stopped", "--project", "chat", "--organisation", "acme")["key"]
    assert operator.served.chat("hello", key=key, model="words").status == 200
    for things, reference, more in (("projects", "chat", ACME), ("orgs", "acme", ())):
        operator.says(things, "suspend", reference, *more)
        assert operator.served.chat("hello", key=key, model="words").status == 403
        assert "suspended" in operator.says(things, "list", *more)
        operator.says(things, "resume", reference, *more)
        assert operator.served.chat("hello", key=key, model="words").status == 200


def test_events_say_who_did_what_and_operations_how_far_work_is(operator: Operator) -> None:
    rows = operator.json("events", "list", "--action", "project:create", *ACME)
    assert {row["action"].partition(":")[2] for row in rows} == {"project:create"} and rows[0]["actor"]
    assert operator.json("operations", "list") == []


def test_what_is_not_there_is_told_with_what_is_near(operator: Operator) -> None:
    assert "did you mean `chat`?" in operator.fails("projects", "show", "chta", *ACME)
    assert "say what is to change" in operator.fails("projects", "update", "chat", *ACME)
    assert "there is no organisation `nowhere`" in operator.fails("projects", "list", "--organisation", "nowhere")
    assert "not both" in operator.fails("orgs", "list", "--control", "http://127.0.0.1:1")
    for url, said in (("gopher://x", "is no address"), ("http://127.0.0.1:1", "$BEFFROI_ADMIN_KEY")):
        done = CliRunner().invoke(main, ["orgs", "list", "--control", url], env={"BEFFROI_ADMIN_KEY": None})
        assert done.exit_code == 2 and said in done.stderr


def test_every_command_of_administration_takes_the_same_ways_to_say_where() -> None:
    """`--data` and `--control` on each, `--json` on each."""
    for things in ("orgs", "projects", "members", "service-accounts", "systems", "admin-keys", "tiers", "quotas", "webhooks",
                   "events", "operations"):  # fmt: skip
        group = main.get_command(click.Context(main), things)
        assert isinstance(group, click.Group)
        for name, command in group.commands.items():
            options = {option for parameter in command.params for option in parameter.opts}
            assert {"--data", "--control", "--json"} <= options, (things, name)
            assert command.help, (things, name)
            assert things == "orgs" or "--organisation" in options, (things, name)
