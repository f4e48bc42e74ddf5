# SPDX-License-Identifier: Apache-2.0
"""The everyday verbs on a running Beffroi: sums that are the ledger's, requests that are followed, engines that fail."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from beffroi.control.ledger import GROUPS
from tests.cli.conftest import Lived, beffroi, printed
from tests.client import chat, request
from tests.harness import wait_for

TODAY = datetime.now(ZoneInfo("Europe/Paris")).date()


def asked(lived: Lived, *command: str) -> Any:
    """What a command says to a program."""
    return json.loads(printed(lived, *command, "--json"))


@pytest.mark.parametrize("by", [",".join(two) for two in combinations(GROUPS, 2)])
def test_sums_are_the_ledgers_to_the_last_nano(lived: Lived, by: str) -> None:
    """However they are grouped."""
    rows = asked(lived, "usage", "--by", by)["usage"]
    with closing(sqlite3.connect(lived.data / "beffroi.db")) as ledger:
        total, tokens = ledger.execute(
            "SELECT SUM(input_nano + cached_nano + output_nano + reasoning_nano), SUM(input_tokens + output_tokens)"
            " FROM exchanges"
        ).fetchone()
    assert sum(row["cost_nano"] for row in rows) == total > 0
    assert sum(row["input_tokens"] + row["output_tokens"] for row in rows) == tokens


def test_the_sum_below_a_table_is_that_of_its_rows(lived: Lived) -> None:
    """Exact decimals, not rounded ones."""
    rows = printed(lived, "usage", "--by", "key").splitlines()[1:]
    costs = [int(row.split()[-2].replace(".", "")) for row in rows]
    assert rows[-1].startswith("TOTAL") and costs[-1] == sum(costs[:-1])


def test_usage_is_asked_by_days_of_the_zone_that_budgets_follow(lived: Lived) -> None:
    """A day begins at its midnight; the last one is not included."""
    (row,) = asked(lived, "usage", "--by", "day")["usage"]
    assert row["day"] in (str(TODAY), str(TODAY + timedelta(days=1)))  # midnight may have passed since
    day = datetime.fromisoformat(row["day"]).date()
    assert asked(lived, "usage", "--since", str(day), "--by", "day")["usage"] == [row]
    assert asked(lived, "usage", "--until", str(day))["usage"] == []
    assert asked(lived, "usage", "--since", str(day + timedelta(days=1)))["usage"] == []
    assert asked(lived, "usage", "--since", "1h", "--until", f"{day}T23:59:59+00:00", "--by", "day")["usage"] == [row]
    assert beffroi(lived, "usage", "--since", "yesterday").exit_code == 2


def test_usage_of_one_key_or_model(lived: Lived) -> None:
    """A key by its name, its id or the key itself; a model by an alias."""
    (row,) = asked(lived, "usage", "--key", "billing")["usage"]
    assert asked(lived, "usage", "--key", row["key"])["usage"] == [row]
    assert asked(lived, "usage", "--key", lived.keys["billing"])["usage"] == [row]
    assert asked(lived, "usage", "--model", "chat")["usage"] == asked(lived, "usage", "--model", "small")["usage"]


def test_requests_are_found_by_key_model_and_outcome(lived: Lived) -> None:
    """And together; the newest last."""
    refused = asked(lived, "requests", "tail", "--outcome", "refused", "-n", "1000")
    assert {request["code"] for request in refused} >= {"rate_limit_exceeded", "model_not_allowed"}
    assert all(request["outcome"] == "refused" for request in refused)
    (one,) = asked(lived, "requests", "tail", "--key", "intranet chat", "--model", "chat")
    assert (one["model"], one["key_name"], one["tokens"]["output"]) == ("small", "intranet chat", 12)
    assert len(asked(lived, "requests", "tail", "-n", "2")) == 2
    ids = [request["id"] for request in asked(lived, "requests", "tail", "-n", "1000")]
    assert ids == sorted(ids)


def test_a_request_is_named_by_an_unmistakable_beginning(lived: Lived) -> None:
    """As long as it takes; what fits several says so."""
    for _ in range(2):  # an id begins with its millisecond: these two share some digits, and not that one
        time.sleep(0.01)
        lived.served.chat("once more", key=lived.keys["billing"], model="small")
    newest = asked(lived, "requests", "tail", "-n", "1")[0]["id"]
    assert asked(lived, "requests", "show", newest[:30])["id"] == newest
    assert asked(lived, "requests", "show", newest.removeprefix("req_"))["id"] == newest
    for wrong, said in (
        ("req_0", "at least eight"),
        (newest[:12], "several requests"),
        ("req_" + "f" * 32, "no request"),
    ):
        done = beffroi(lived, "requests", "show", wrong)
        assert done.exit_code == 1 and said in done.stderr, wrong


def test_a_bill_is_worked_out_as_it_was_made(lived: Lived) -> None:
    """Rates of the price line that the record pins; they give what was billed."""
    (one,) = asked(lived, "requests", "tail", "--key", "intranet chat", "--model", "chat")
    found = asked(lived, "requests", "show", one["id"])["attempts"][-1]
    price = found["price"]
    assert (price["version"], price["agrees"]) == ("small@start", True)
    worked = sum(found["tokens"][kind] * rate for kind, rate in price["per_million_nano"].items()) / 1_000_000
    assert worked == found["cost_nano"] == 56_100


def test_a_request_in_progress_is_shown_as_such(lived: Lived) -> None:
    """From its intent, before there is a settlement."""
    lived.gpu1.script("first=3")
    with lived.served.connect() as conn:
        conn.send(request(lived.keys["billing"], chat("slowly", model="small", stream=True)))
        wait_for(lambda: bool(lived.served.ledger("SELECT * FROM open_intents")), 5, "the intent is in the ledger")
        (open_,) = lived.served.ledger("SELECT * FROM open_intents")
        text = printed(lived, "requests", "show", open_["request_id"])
        assert "in progress" in text and "gpu1, attempt 1" in text and "billing" in text
        conn.answer()
    assert asked(lived, "requests", "show", open_["request_id"])["running"] is None


@contextmanager
def following(lived: Lived, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`requests tail -f`, stopped as by Ctrl-C."""
    follow = ("requests", "tail", "-f", *options, "--data", str(lived.data))
    command = [sys.executable, "-m", "beffroi", *follow]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "src", "PYTHONUNBUFFERED": "1"}
    )
    with running:
        try:
            yield running
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == 130
        finally:
            running.kill()


def test_requests_are_followed_as_they_end(lived: Lived) -> None:
    """An object a line, only those that were asked for, and on through a restart of the control process."""
    with following(lived, "--key", "billing", "--json", "-n", "1") as running:
        out = running.stdout
        assert out
        out.readline()  # one from before: from here on it follows
        lived.served.chat("another's", key=lived.served.key, model="small")
        lived.served.chat("ours", key=lived.keys["billing"], model="small")
        first = json.loads(out.readline())
        assert (first["key_name"], first["outcome"]) == ("billing", "complete")
        (control,) = lived.served.children("beffroi.control.process")
        os.kill(control, signal.SIGKILL)
        lived.served.chat("meanwhile", key=lived.keys["billing"], model="small")
        second = json.loads(out.readline())
        assert second["id"] > first["id"] and second["key_name"] == "billing"
    lived.served.wait_ready()


def test_lines_that_are_followed_stand_below_their_heading(lived: Lived) -> None:
    """For people; the widths are settled by what is usual, as nobody knows what will come."""
    with following(lived, "--key", "billing", "-n", "0") as running:
        out = running.stdout
        assert out
        head = out.readline()
        lived.served.chat("ours", key=lived.keys["billing"], model="small")
        line = out.readline()
        assert line[head.index("KEY") :].startswith("billing") and line[head.index("REQUEST") :].startswith("req_")


def test_an_engine_that_fails_is_out_and_its_models_are_down(lived: Lived) -> None:
    """Seen by every worker; and it is up again once it answers."""

    def state() -> tuple[str, str]:
        engine = next(one for one in asked(lived, "engines") if one["name"] == "gpu1")
        model = next(one for one in asked(lived, "models") if one["id"] == "small")
        return engine["state"], model["state"]

    def fail() -> bool:
        lived.served.chat("x", key=lived.keys["billing"], model="small")
        return state() == ("out", "down")

    assert state() == ("up", "ready")
    lived.gpu1.always("close")
    try:
        wait_for(fail, 15, "every worker keeps it out")
        assert next(one for one in asked(lived, "models") if one["id"] == "large")["state"] == "degraded"
        fault = next(one for one in asked(lived, "engines") if one["name"] == "gpu1")["last_fault"]
        assert fault["code"] == "engine_broken"
        assert asked(lived, "requests", "show", fault["request"])["attempts"][-1]["outcome"] == "engine_gone"
    finally:
        lived.gpu1.always()
    wait_for(
        lambda: lived.served.chat("x", key=lived.keys["billing"], model="small").status == 200 and state()[0] == "up",
        20,
        "it is back",
    )


def test_names_are_completed_in_a_shell(lived: Lived) -> None:
    """Commands by the shell's own script; keys and models from control, a name with blanks as the key's first part."""

    def words(*typed: str) -> list[str]:
        script = 'eval "$($0 completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _beffroi_completion $0; echo "${COMPREPLY[@]}"'
        program = str(Path(sys.executable).with_name("beffroi"))
        env = {**os.environ, "BEFFROI_DATA": str(lived.data)}
        done = subprocess.run(
            ["bash", "--norc", "-c", script, program, "beffroi", *typed],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert words("keys", "ro") == ["rotate", "rotations"]
    assert words("keys", "show", "bil") == ["billing"]
    first = lived.keys["intranet chat"][:15]
    assert words("keys", "show", first[:9]) == [first]
    assert words("usage", "--model", "la") == ["large"]
    assert words("requests", "tail", "--fol") == ["--follow"]
    for shell in ("zsh", "fish"):
        assert "_BEFFROI_COMPLETE" in printed_bare("completion", shell)


def printed_bare(*arguments: str) -> str:
    """A command that needs no data directory."""
    done = subprocess.run([sys.executable, "-m", "beffroi", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_where_nobody_answers_there_is_nothing_to_complete(tmp_path: Path) -> None:
    """And no waiting."""
    env = {**os.environ, "_BEFFROI_COMPLETE": "bash_complete", "COMP_WORDS": "beffroi keys show b", "COMP_CWORD": "3"}
    env["BEFFROI_DATA"] = str(tmp_path)
    began = time.monotonic()
    program = str(Path(sys.executable).with_name("beffroi"))
    done = subprocess.run([program], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "" and time.monotonic() - began < 3
