# SPDX-License-Identifier: Apache-2.0
"""Shipping: every record reaches the ledger exactly once, and what the dead left open is settled."""

import asyncio
import json
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Engine, event

from beffroi.control.rows import Recovered
from beffroi.control.segments import find
from beffroi.control.shipping import Shipper
from beffroi.control.verify import verify
from beffroi.core.price import Cost, Tokens
from beffroi.core.record import Refusals
from beffroi.core.segment import SIZE
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.tables import events, open_intents, refusals, spool_offsets
from tests.control.journal_files import BOOT, OTHER, actions, alive, append, framed, later, rows, segment
from tests.gateway.journal.support import intent, progress, request_id, settlement


def test_every_field_of_a_settlement_reaches_its_column(shipper: Shipper, spool: Path, database: Engine) -> None:
    """All values differ, so that no two columns can be swapped unseen."""
    begun = intent("req_a", at_ns=100)
    done = settlement(
        "req_a",
        started_ns=101,
        ended_ns=102,
        key_id="key_x",
        key_slot=9,
        organisation="acme",
        project="lab",
        model="llama",
        endpoint="completions",
        stream=True,
        engine="gpu1",
        engine_kind="sglang",
        status=206,
        code="odd",
        outcome="client_gone",
        source="relayed",
        tokens=Tokens(11, 12, 13, 14),
        price_version="v7",
        currency="CHF",
        cost=Cost(21, 22, 23, 24),
        attempts=3,
        finish_reason="length",
        verdict="annotate",
        findings=("one", "two"),
        bytes_in=31,
        bytes_out=32,
        first_us=33,
        total_us=34,
        address="10.1.2.3",
        user="u1",
        system="sys_1",
    )
    path = segment(spool, [begun, done], worker=5)
    with alive(path):
        assert shipper.step() == 2
    assert rows(database) == [
        {
            "request_id": "req_a",
            "attempt": 1,
            "intent_ns": 100,
            "started_ns": 101,
            "ended_ns": 102,
            "state": "settled",
            "key_id": "key_x",
            "key_slot": 9,
            "organisation": "acme",
            "project": "lab",
            "model": "llama",
            "endpoint": "completions",
            "stream": True,
            "engine": "gpu1",
            "engine_kind": "sglang",
            "status": 206,
            "code": "odd",
            "outcome": "client_gone",
            "source": "relayed",
            "input_tokens": 11,
            "cached_tokens": 12,
            "output_tokens": 13,
            "reasoning_tokens": 14,
            "price_version": "v7",
            "currency": "CHF",
            "input_nano": 21,
            "cached_nano": 22,
            "output_nano": 23,
            "reasoning_nano": 24,
            "attempts": 3,
            "finish_reason": "length",
            "verdict": "annotate",
            "findings": ["one", "two"],
            "bytes_in": 31,
            "bytes_out": 32,
            "first_us": 33,
            "total_us": 34,
            "address": "10.1.2.3",
            "end_user": "u1",
            "worker": 5,
            "boot": BOOT,
            "system": "sys_1",
        }
    ]


def test_an_exchange_is_joined_across_looks_restarts_and_progress(spool: Path, database: Engine) -> None:
    """Intent, progress and settlement may each be read by another control process."""
    path = segment(spool, [intent("req_a", at_ns=5)])
    end = SIZE + len(framed([intent("req_a", at_ns=5)]))
    with alive(path):
        Shipper(database, spool).step()
        assert [row["request_id"] for row in rows(database, open_intents)] == ["req_a"]
        end = append(path, [progress("req_a", 3)], 2, end)
        Shipper(database, spool).step()
        assert [row["output_tokens"] for row in rows(database, open_intents)] == [3]
        append(path, [settlement("req_a")], 3, end)
        Shipper(database, spool).step()
        assert Shipper(database, spool).step() == 0
    assert rows(database, open_intents) == []
    assert [(row["intent_ns"], row["state"], row["output_tokens"]) for row in rows(database)] == [(5, "settled", 5)]


def test_a_refused_request_stands_alone_and_refusals_without_key_add_up(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """Attempt 0 needs no intent; counts of several workers for the same second are summed."""
    refused = settlement("req_a", attempt=0, outcome="refused", status=429, tokens=Tokens(), cost=Cost())
    segment(spool, [refused, Refusals(9, {"invalid_api_key 10.0.0.0/24": 2})])
    segment(spool, [Refusals(9, {"invalid_api_key 10.0.0.0/24": 3, "head_too_large -": 1})], boot=OTHER, worker=1)
    shipper.step()
    assert [(row["state"], row["intent_ns"]) for row in rows(database)] == [("refused", None)]
    assert sorted((row["reason"], row["prefix"], row["count"]) for row in rows(database, refusals)) == [
        ("head_too_large", "-", 1),
        ("invalid_api_key", "10.0.0.0/24", 5),
    ]


def test_orphans_of_a_dead_boot_are_billed_from_their_last_progress_once(
    shipper: Shipper, spool: Path, database: Engine, charged: list[Recovered]
) -> None:
    """D19: from the last progress, else zero; marked; quota counters are told; looking again changes nothing."""
    segment(
        spool,
        [
            intent("req_a", at_ns=1, key_slot=4),
            intent("req_b", at_ns=2, currency="CHF"),
            progress("req_a", 3),
            intent("req_c"),
            settlement("req_c"),
            progress("req_a", 8),
        ],
    )
    for _ in range(3):
        later(shipper)
    found = {row["request_id"]: row for row in rows(database)}
    assert {name: (row["state"], row["source"], row["outcome"]) for name, row in found.items()} == {
        "req_a": ("recovered", "recovered", "lost"),
        "req_b": ("recovered", "recovered", "lost"),
        "req_c": ("settled", "engine", "complete"),
    }
    assert (found["req_a"]["output_tokens"], found["req_a"]["output_nano"], found["req_a"]["input_nano"]) == (8, 32, 9)
    assert (found["req_b"]["output_tokens"], found["req_b"]["output_nano"], found["req_b"]["ended_ns"]) == (0, 0, 2)
    assert found["req_b"]["currency"] == "CHF"
    assert sorted((each.request_id, each.key_slot, each.cost.total) for each in charged) == [
        ("req_a", 4, 41),
        ("req_b", 7, 0),
    ]
    assert actions(database) == ["journal:exchange:recover"]
    assert rows(database, open_intents) == []


def test_a_living_boot_keeps_its_open_exchanges(
    shipper: Shipper, spool: Path, database: Engine, charged: list[Recovered]
) -> None:
    """However silent a stream is, it is not settled while its worker lives; it is within a look once the worker dies."""
    path = segment(spool, [intent("req_a")])
    with alive(path):
        for _ in range(3):
            later(shipper)
        assert rows(database) == []
    for _ in range(3):
        later(shipper)
    assert [row["state"] for row in rows(database)] == ["recovered"]
    assert len(charged) == 1
    assert rows(database, open_intents) == []


def test_a_dead_boot_is_recovered_only_after_all_it_wrote(shipper: Shipper, spool: Path, database: Engine) -> None:
    """The settlement may stand segments behind the intent."""
    segment(spool, [intent(request_id(n)) for n in range(50)])
    segment(spool, [settlement(request_id(n)) for n in range(25)], number=2, base=51)
    segment(spool, [settlement(request_id(n)) for n in range(25, 49)], number=3, base=76)
    shipper.step()
    assert sorted(row["state"] for row in rows(database)) == ["recovered"] + ["settled"] * 49


def test_open_exchanges_whose_segments_are_gone_are_recovered(shipper: Shipper, spool: Path, database: Engine) -> None:
    """A dead worker's files may have been shipped and deleted before control died as well."""
    path = segment(spool, [intent("req_a")])
    with alive(path):
        shipper.step()
        path.unlink()
    Shipper(database, spool).step()
    assert [row["state"] for row in rows(database)] == ["recovered"]


def test_segments_are_deleted_once_shipped_and_their_writer_has_moved_on_or_died(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """Disk use is what is not shipped, and the segments that are being written."""
    first = segment(spool, [intent("req_a"), settlement("req_a")])
    second = segment(spool, [intent("req_b"), settlement("req_b")], number=2, base=3)
    ahead = spool / "w00" / f"{BOOT}-00000003.seg"
    ahead.write_bytes(bytes(4096))
    with alive(second):
        later(shipper)
        assert [path.exists() for path in (first, second, ahead)] == [False, True, True]
    later(shipper)
    assert list(spool.glob("w*/*")) == []
    assert len(rows(database)) == 2
    later(shipper)
    assert verify(database, spool).ok


def test_places_of_long_gone_segments_are_forgotten(shipper: Shipper, spool: Path, database: Engine) -> None:
    """One row per boot stays, with the counts that verify needs; not one per segment."""
    base = 1
    for number in range(1, 9):
        segment(spool, [intent(request_id(number)), settlement(request_id(number))], number=number, base=base)
        base += 2
    later(shipper)
    segment(spool, [Refusals(1, {"a -": 1})], boot=OTHER)
    later(shipper)
    kept = [(row["boot"], row["segment"], row["intents"]) for row in rows(database, spool_offsets)]
    assert sorted(kept) == [(BOOT, 8, 8), (OTHER, 1, 0)]


def test_a_batch_bound_splits_large_backlogs_without_losing_their_ends(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """After control was away for long, memory and lock time stay bounded, and the ledger is exact all the same."""
    commits: list[int] = []
    event.listen(database, "commit", lambda connection: commits.append(1))
    base = 1
    for number in range(1, 4):
        part = range(number * 3000, number * 3000 + 3000)
        payloads = [each for n in part for each in (intent(request_id(n)), settlement(request_id(n)))]
        segment(spool, payloads, number=number, base=base, tail=b"")
        base += len(payloads)
    assert shipper.step() == 18_000
    assert len(commits) >= 3
    assert len(rows(database)) == 9000
    assert verify(database, spool).ok
    assert find(spool) == {}


def test_a_locked_database_loses_nothing_and_says_so(tmp_path: Path, spool: Path) -> None:
    """While somebody holds the database, shipping reports why it is behind, and goes on when it can."""
    database = open_engine(tmp_path / "beffroi.db")
    upgrade(database)
    event.listen(database, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    database.dispose()
    segment(spool, [intent("req_a"), settlement("req_a")])
    other = sqlite3.connect(tmp_path / "beffroi.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    shipper = Shipper(database, spool)
    shipper.start()
    deadline = time.monotonic() + 5
    while not shipper.progress().fault and time.monotonic() < deadline:
        time.sleep(0.01)
    state = shipper.progress()
    assert "locked" in state.fault
    assert state.lag_bytes > 0
    other.execute("ROLLBACK")
    other.close()
    asyncio.run(shipper.caught_up(5.0))
    state = shipper.progress()
    assert (state.fault, state.lag_bytes, state.records) == ("", 0, 2)
    shipper.stop()
    assert len(rows(database)) == 1
    database.dispose()


def test_the_thread_ships_without_being_asked_and_takes_a_last_look_when_stopped(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """What was written before `stop` is in the ledger after it."""
    path = segment(spool, [intent("req_a"), settlement("req_a")])
    with alive(path):
        shipper.start()
        deadline = time.monotonic() + 5
        while not rows(database) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(rows(database)) == 1
        append(path, [intent("req_b")], 3, path.stat().st_size - 4096)
        shipper.stop()
    assert [row["request_id"] for row in rows(database, open_intents)] == ["req_b"]


def test_what_clients_name_themselves_cannot_hold_up_the_ledger(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """Texts that a database has a meaning for, or no room for, are texts."""
    odd = ["nan", "", "\\N", 'a"b,c', "line\nend", "tab\t", "NULL", "é 🏛", "\0", "x" * 200]
    payloads = [
        each
        for n, name in enumerate(odd)
        for each in (intent(f"req_{n}"), settlement(f"req_{n}", user=name, finish_reason=None, code=name))
    ]
    segment(spool, payloads)
    later(shipper)
    server = database.dialect.name == "postgresql"
    kept = [name.replace("\0", "\ufffd") if server else name for name in odd]
    found = sorted(rows(database), key=lambda row: int(row["request_id"][4:]))
    assert [row["end_user"] for row in found] == kept
    assert [row["code"] for row in found] == kept
    assert {row["finish_reason"] for row in found} == {None}


def test_two_machines_ship_into_one_ledger_and_leave_each_other_s_open_exchanges_alone(
    tmp_path: Path, database: Engine
) -> None:
    """What one has open is not an orphan to the other, though the other has no file of it."""
    path = segment(tmp_path / "one", [intent("req_a")], boot=BOOT)
    segment(tmp_path / "two", [intent("req_b"), settlement("req_b")], boot=OTHER)
    one = Shipper(database, tmp_path / "one", replica="rep_1")
    with alive(path):
        one.step()
        later(Shipper(database, tmp_path / "two", replica="rep_2"))
        assert [row["request_id"] for row in rows(database, open_intents)] == ["req_a"]
        assert verify(database, tmp_path / "one", "rep_1").ok
        assert verify(database, tmp_path / "two", "rep_2").open == 0
    later(one)
    assert {row["request_id"]: row["state"] for row in rows(database)} == {"req_a": "recovered", "req_b": "settled"}


def test_events_are_plain_data(shipper: Shipper, spool: Path, database: Engine) -> None:
    """What is noted can be printed as JSON."""
    segment(spool, [intent("req_a")])
    later(shipper)
    (row,) = rows(database, events)
    assert json.dumps(row)
    assert (row["actor"], row["subject"], row["after"]) == ("control", BOOT, {"exchanges": 1})
