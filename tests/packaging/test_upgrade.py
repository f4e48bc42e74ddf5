# SPDX-License-Identifier: Apache-2.0
"""From one release to the next and back: nothing is lost, nothing is changed without a backup, and every refusal says why.

The way back is the command of docs/how-to/upgrade.md.
"""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from beffroi import __version__
from beffroi.core.layout import FORMAT
from beffroi.store.engine import HEAD
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, wait_for
from tests.packaging.make_data import MODELS
from tests.packaging.pages import commands
from tests.packaging.releases import NEXT, next_release, unpack

Start = Callable[..., Served]


@pytest.fixture
def old(folder: Path) -> dict[str, Any]:
    """The data directory of 0.1.0, killed with part of its journal not shipped; what its clients were told."""
    return unpack(folder / "data")


def backups(served: Served) -> list[Path]:
    """What upgrades left beside the data."""
    return sorted((served.data / "backups").glob("*")) if (served.data / "backups").exists() else []


def refused(served: Served) -> str:
    """What a start that ends prints."""
    assert served.popen is not None
    assert served.popen.wait(30) == 1
    served.popen = None
    assert not re.search(r"^Traceback", served.output, re.MULTILINE)
    return served.output


def holds(served: Served, told: dict[str, Any]) -> None:
    """Every answer of the old release once, with its tokens; its keys as they were."""
    rows = served.settled((answer["request_id"] for answer in told["answers"]), within=20)
    for answer in told["answers"]:
        (row,) = rows[answer["request_id"]]
        classes = ("input", "cached", "output", "reasoning")
        assert [row[f"{kind}_tokens"] for kind in classes] == [answer[kind] for kind in classes]
    assert served.chat(key=told["keys"]["budget"]).status == 200
    assert served.chat(key=told["keys"]["day"]).status == 200
    assert served.chat(key=told["keys"]["revoked"]).status == 401
    assert served.run_cli("journal", "verify", "--json").returncode == 0


def spent(served: Served, name: str) -> tuple[int, int]:
    """What the counters say that a key spent, and what the ledger says."""
    (key,) = [key for key in served.cli("keys", "list") if key["name"] == name]
    cost = "SUM(input_nano + cached_nano + output_nano + reasoning_nano) AS cost"
    (row,) = served.ledger(f"SELECT {cost} FROM exchanges WHERE key_id = '{key['id']}'")
    return int(key["spent"]), int(row["cost"])


def test_a_data_directory_of_0_1_0_opens_and_all_of_it_is_there(
    old: dict[str, Any], serve: Start, engine: ScriptedEngine
) -> None:
    """Keys, ledger, what was not shipped when it was killed, and what budgets had spent."""
    served = serve(engine, models=MODELS, workers=2)
    holds(served, old)
    wait_for(lambda: len(set(spent(served, "budget"))) == 1, 10, "counters and ledger agree on what the budget spent")
    assert (served.data / "version").read_text() == f"{__version__}\n"
    assert (served.data / "format").read_text() == f"{FORMAT}\n"
    assert len(backups(served)) == (HEAD != "0001")  # one was made if there was something to migrate


def test_the_next_release_migrates_after_a_backup_and_this_one_then_refuses_until_it_is_restored(
    old: dict[str, Any], folder: Path, serve: Start, engine: ScriptedEngine
) -> None:
    """Up, and back: the backup made on the way holds what was there before, and what is revoked stays so."""
    env = next_release(folder)
    served = serve(engine, models=MODELS, env=env)
    holds(served, old)
    assert served.ledger("SELECT DISTINCT note FROM keys") == [{"note": "none"}]
    (made,) = [path for path in backups(served) if NEXT in path.name]
    assert made.stat().st_mode & 0o777 == 0o600
    checked = served.cli_bare("backup", "verify", str(made), "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (event,) = served.ledger("SELECT * FROM events WHERE action = 'control:data:upgrade' AND subject = '9999'")
    assert made.name in event["after"]
    served.cli("keys", "revoke", "day")
    assert served.stop() == 0

    served.env["PYTHONPATH"] = str(ROOT / "src")  # this release
    served.log.unlink()
    said = refused(served.start(ready=False))
    assert f"was written by Beffroi {NEXT} (format 9999); this is Beffroi {__version__}" in said
    assert "beffroi backup restore" in said
    (served.data / "format").write_text(f"{FORMAT}\n")  # as a crash between the two would leave it
    served.log.unlink()
    said = refused(served.start(ready=False))
    assert f"was written by Beffroi {NEXT} (ledger revision 9999); this is Beffroi {__version__}" in said

    stop, restore = commands("how-to/upgrade.md", "systemctl stop").splitlines()
    assert stop == "systemctl stop beffroi"  # which it is
    words = restore.replace("before-0.2.0-….tar.gz", made.name).replace(
        "/var/lib/beffroi-before", str(folder / "before")
    )
    done = served.cli_bare(*words.replace("/var/lib/beffroi", str(served.data)).split()[1:])
    assert done.returncode == 0, done.stderr
    assert re.search(r"revoked again: key_\w+ .* day$", done.stdout, re.MULTILINE)
    back = serve(engine, data="before", models=MODELS)
    assert back.chat(key=old["keys"]["budget"]).status == 200
    assert back.chat(key=old["keys"]["day"]).status == 401  # revoked after the upgrade
    assert back.chat(key=old["keys"]["revoked"]).status == 401
    back.settled(answer["request_id"] for answer in old["answers"])
    assert back.run_cli("journal", "verify", "--json").returncode == 0


def test_a_migration_that_fails_half_way_changes_nothing_and_says_how_to_go_back(
    old: dict[str, Any], folder: Path, serve: Start, engine: ScriptedEngine
) -> None:
    """The column and the table it had made are gone again, the backup is named, and this release goes on."""
    env = next_release(folder, then="raise LookupError('a row that no one thought of')")
    served = serve(engine, models=MODELS, env=env, ready=False)
    said = refused(served)
    assert "could not be brought from revision" in said
    assert "a row that no one thought of" in said
    assert "The ledger was left as it was." in said
    (made,) = backups(served)
    assert f"beffroi backup restore {made}" in said
    with closing(sqlite3.connect(served.data / "beffroi.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        columns = {row[1] for row in database.execute("PRAGMA table_info(keys)")}
    assert "half" not in names
    assert "note" not in columns
    served.env["PYTHONPATH"] = str(ROOT / "src")
    holds(served.start(), old)


def test_each_migration_has_a_format_of_its_own() -> None:
    """Else an earlier release would not refuse with words what it cannot read."""
    assert int(HEAD) == FORMAT
