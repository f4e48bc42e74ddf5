# SPDX-License-Identifier: Apache-2.0
"""Two machines over one PostgreSQL are one Beffroi: the same keys, one ledger, revocations that both have confirmed."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from tests.client import Answer, chat, request
from tests.control.fleet.fleets import Fleet
from tests.harness import KEY, Served, wait_for


def asked(served: Served, key: str) -> Answer:
    return served.chat(key=key)


def test_a_key_of_one_machine_is_valid_on_the_other_and_its_revocation_is_confirmed_by_both(pair: Fleet) -> None:
    """Made on one, used on both; revoked on the other, refused by both when the command returns."""
    one, two = pair.machines["one"], pair.machines["two"]
    key = one.new_key()
    assert asked(one, key).status == 200
    wait_for(lambda: asked(two, key).status == 200, 1, "the other machine knows the key")
    said = two.cli("keys", "revoke", key.split("-")[1])
    assert asked(one, key).status == asked(two, key).status == 401
    assert said["replicas"] == 2
    assert said["milliseconds"] < 1000
    assert asked(two, one.key).status == 200


def test_what_both_serve_is_in_one_ledger_once_and_each_sees_it(pair: Fleet) -> None:
    """Places and open intents of one machine are no concern of the other."""
    one, two = pair.machines["one"], pair.machines["two"]
    ids = [asked(served, one.key).get("x-request-id") for served in (one, two) for _ in range(10)]
    sql = f"SELECT request_id FROM exchanges WHERE model = 'words' AND request_id IN {tuple(ids)}"
    wait_for(lambda: sorted(row[0] for row in pair.rows(sql)) == sorted(ids), 10, "all of it is in the ledger, once")
    assert pair.rows("SELECT count(DISTINCT replica) FROM spool_offsets") == [[2]]
    for served in (one, two):
        assert sum(row["requests"] for row in served.cli("usage")["usage"]) >= 20
        assert served.cli("journal", "verify")["ok"]


def test_a_machine_that_does_not_confirm_a_revocation_is_named(pair: Fleet) -> None:
    """Its control is stopped: its workers still honour the key, so nobody may be told that it is refused everywhere."""
    one, two = pair.machines["one"], pair.machines["two"]
    key = one.new_key()
    wait_for(lambda: asked(two, key).status == 200, 1, "the other machine knows the key")
    (control,) = two.children("beffroi.control.process")
    os.kill(control, signal.SIGSTOP)
    try:
        done = one.run_cli("keys", "revoke", key.split("-")[1])
    finally:
        os.kill(control, signal.SIGCONT)
    assert done.returncode != 0
    (replica,) = pair.rows("SELECT id FROM replicas ORDER BY id DESC LIMIT 1")[0]
    assert replica in done.stderr
    assert "1 of 2 replicas" in done.stderr
    wait_for(lambda: asked(two, key).status == 401, 2, "it follows as soon as it can")


def test_machines_that_start_at_once_migrate_once_and_make_one_first_key(fleet: Fleet) -> None:
    """Over a database without tables."""
    names = ("one", "two", "three")
    for name in names:
        fleet.start(name, ready=False)
    for name in names:
        fleet.machines[name].wait_ready(30)
    assert fleet.rows("SELECT count(*) FROM keys") == [[1]]
    assert fleet.rows("SELECT count(*) FROM shared_secrets") == [[1]]
    (key,) = {found[0] for served in fleet.machines.values() if (found := KEY.search(served.output))}
    for served in fleet.machines.values():
        assert asked(served, key).status == 200


def test_a_machine_that_is_gone_is_taken_off_and_what_it_had_open_is_closed(pair: Fleet) -> None:
    """Not while it was heard of a moment ago: it may still serve."""
    one, two = pair.machines["one"], pair.machines["two"]
    pair.engine.always("first=30")
    conn = two.connect()
    conn.send(request(one.key, chat("count to 3", stream=True)))
    wait_for(lambda: pair.rows("SELECT count(*) FROM open_intents") == [[1]], 10, "its intent is in the ledger")
    (replica,) = pair.rows("SELECT replica FROM open_intents")[0]
    two.kill()
    conn.sock.close()
    pair.engine.always()
    early = one.run_cli("fleet", "forget", replica)
    assert early.returncode != 0
    assert "was heard of" in early.stderr
    pair.rows("UPDATE replicas SET seen_ns = seen_ns - 60000000000 WHERE id <> '' RETURNING id")
    assert one.cli("fleet", "forget", replica)["recovered"] == 1
    assert pair.rows("SELECT count(*) FROM open_intents") == [[0]]
    assert pair.rows(f"SELECT count(*) FROM replicas WHERE id = '{replica}'") == [[0]]
    assert one.cli("keys", "revoke", one.new_key().split("-")[1])["replicas"] == 1
    two.start(ready=False)  # its disk was not gone after all
    two.wait_ready()
    assert [each["id"] for each in one.cli("fleet", "list")["data"]].count(replica) == 1


def test_a_backup_of_a_machine_of_a_fleet_says_what_makes_one(pair: Fleet, tmp_path: Path) -> None:
    """Served or not: an archive without the ledger would be taken for a backup."""
    one = pair.machines["one"]
    for served in (True, False):
        if not served:
            assert one.stop() == 0
        done = one.cli_bare("backup", "create", str(tmp_path / "b.tar.gz"), "--data", str(one.data))
        assert done.returncode != 0
        assert "pg_dump" in done.stderr
        assert "fleet_secret" in done.stderr
        assert not (tmp_path / "b.tar.gz").exists()
    one.start(ready=False)
    one.wait_ready()


def test_a_machine_that_is_stopped_is_not_waited_for(pair: Fleet) -> None:
    """It says goodbye once its workers have ended."""
    one, two = pair.machines["one"], pair.machines["two"]
    key = one.new_key()
    assert two.stop() == 0
    begun = time.monotonic()
    assert one.cli("keys", "revoke", key.split("-")[1])["replicas"] == 1
    assert time.monotonic() - begun < 4


def test_what_postgresql_cannot_keep_is_the_mistake_of_who_sends_it(pair: Fleet) -> None:
    """NUL in a path, a query, a verb of LiteLLM: no 5xx, and no alarm about a database that is well."""
    served = pair.machines["one"]
    key = served.cli("admin-keys", "create", "odd", "--org", "*", "--role", "operator")["key"]
    base, headers = (
        f"http://127.0.0.1:{served.control_port}",
        {"Authorization": f"Bearer {key}", "Idempotency-Key": "odd"},
    )
    asks: list[tuple[str, str, Any]] = [
        ("GET", "/api/v1/keys/%00", None), ("GET", "/api/v1/quotas/a%00b", None),
        ("GET", "/api/v1/events?subject=%00", None), ("POST", "/api/v1/keys/%00/rotate", {}),
        ("POST", "/api/v1/keys/%00/rotate", {}), ("POST", "/key/delete", {"keys": ["\0"]}), ("GET", "/key/info?key=%00", None),
    ]  # fmt: skip
    for method, path, body in asks:
        answer = httpx.request(method, base + path, headers=headers, json=body, timeout=15)
        assert answer.status_code in (400, 404), (path, answer.text)
