# SPDX-License-Identifier: Apache-2.0
"""The database goes away, for long or in the middle of a commit: what was served is in the ledger afterwards, once.

An hour is some seconds here: `server.trust_keys` and `server.hold_journal` are short.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beffroi.control.shipping import Shipper
from beffroi.control.verify import verify
from beffroi.store.engine import open_engine
from tests.control.fleet.fleets import Fleet
from tests.control.journal_files import segment
from tests.engines.scripted import ScriptedEngine
from tests.gateway.journal.support import intent, settlement
from tests.harness import Served, get, scaled, wait_for
from tests.servers import Postgres

TRUST = scaled("trust_keys", 4)  # seconds


@pytest.fixture(scope="module")
def alone() -> Iterator[Fleet]:
    """One machine over a cluster that may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    with Postgres() as cluster, ScriptedEngine() as engine:
        fleet = Fleet(cluster, cluster.empty(), engine, folder)
        fleet.start("one", trust_keys=TRUST, hold_journal=600)
        yield fleet
        fleet.close()
    shutil.rmtree(folder, ignore_errors=True)


def counted(fleet: Fleet) -> int:
    return int(fleet.rows("SELECT count(*) FROM exchanges WHERE attempt > 0")[0][0])


def whole(fleet: Fleet, served: Served, answers: int) -> None:
    """The ledger has every answer, once, and nothing is open."""
    wait_for(lambda: counted(fleet) == answers, 60, f"{answers} rows")
    assert fleet.rows("SELECT count(*) FROM open_intents") == [[0]]
    report = served.cli("journal", "verify")
    assert report["ok"], report


def test_the_database_is_killed_and_comes_back_after_keys_were_closed(alone: Fleet) -> None:
    """Served on, then closed when keys may be too old, then open again; acts are refused with words meanwhile."""
    served, answers = alone.machines["one"], 0
    for _ in range(5):
        answers += served.chat().status == 200
    alone.cluster.kill()
    down = time.monotonic()
    while time.monotonic() - down < TRUST / 2:
        assert served.chat().status == 200
        answers += 1
        time.sleep(0.05)
    done = served.run_cli("keys", "create", "during")
    assert done.returncode != 0
    assert "database" in done.stderr
    status, body = get(served.control_port, "/readyz", timeout=10)
    assert status == 503
    assert b"database" in body

    def closed() -> bool:
        answer = served.chat()
        nonlocal answers
        answers += answer.status == 200
        return answer.status == 503 and answer.json["error"]["code"] == "keys_stale"

    took = wait_for(closed, TRUST + 5, "keys are closed")
    assert time.monotonic() - down > TRUST - 2, f"too early: {took}"
    alone.cluster.start()
    wait_for(lambda: served.chat().status == 200, 15, "open again")
    answers += 1
    whole(alone, served, answers)


def test_a_machine_starts_without_its_database_and_serves_at_once(alone: Fleet) -> None:
    """From the key table on its disk; control waits, says so, and takes up when the database is there."""
    served, before = alone.machines["one"], counted(alone)
    key = served.new_key()
    answers = 0
    for _ in range(5):  # in the journal, and the machine is killed before it can be shipped
        answers += served.chat(key=key).status == 200
    alone.cluster.kill()
    served.kill()
    served.start(ready=False)
    wait_for(lambda: get(served.port, "/readyz")[0] == 200, 15, "workers serve")
    for _ in range(5):
        answers += served.chat(key=key).status == 200
    assert answers == 10
    wait_for(
        lambda: b"control waits for it" in get(served.control_port, "/readyz", timeout=10)[1], 15, "control says so"
    )
    alone.cluster.start()
    served.wait_ready(20)
    whole(alone, served, before + answers)


def test_a_journal_that_is_not_taken_in_closes_the_machine_in_time(alone: Fleet) -> None:
    """What is not in the ledger is bounded in time; what was answered is in it in the end."""
    one = alone.machines["one"]
    served = alone.start("two", trust_keys=600, hold_journal=3)
    served.key = one.key
    before = counted(alone)
    alone.cluster.kill()
    answers = 0

    def closed() -> bool:
        nonlocal answers
        answer = served.chat()
        answers += answer.status == 200
        return answer.status == 503 and answer.json["error"]["code"] == "journal_unavailable"

    wait_for(closed, 12, "the journal is closed")
    assert answers > 0
    alone.cluster.start()
    wait_for(lambda: served.chat().status == 200, 15, "open again")
    whole(alone, served, before + answers + 1)


def test_commits_whose_acknowledgement_is_lost_are_shipped_once(tmp_path: Path, postgres: Postgres) -> None:
    """Connections are terminated all the time, before, within and after commits; a fail-over looks like that."""
    url = postgres.database()
    exchanges, base = scaled("cut_exchanges", 6000), 1
    for number in range(1, exchanges // 300 + 1):
        payloads = []
        for each in range(number * 300, number * 300 + 300):
            payloads += [intent(f"req_{each:08d}"), settlement(f"req_{each:08d}")]
        segment(tmp_path / "journal", payloads, number=number, base=base, tail=b"")
        base += len(payloads)
    database = open_engine(url)
    shipper = Shipper(database, tmp_path / "journal", replica="rep_1")
    done = threading.Event()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        while not done.wait(0.03):
            cuts += postgres.cut(url)

    thread = threading.Thread(target=cut)
    thread.start()
    shipper.start()
    name = url.rpartition("/")[2]
    wait_for(lambda: cuts > 3, 30, "connections were cut")
    done.set()
    thread.join()
    wait_for(lambda: postgres.ask("SELECT count(*) FROM exchanges", name) == [[exchanges]], 60, "all is shipped")
    shipper.stop()
    report = verify(database, tmp_path / "journal", "rep_1")
    assert report.ok, report.findings
    assert postgres.ask("SELECT count(*) FROM events WHERE action = 'journal:settlement:duplicate'", name) == [[0]]
    database.dispose()
