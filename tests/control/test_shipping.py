# SPDX-License-Identifier: Apache-2.0
"""Shipping: every record reaches the ledger exactly once, the dead are settled, and damage is said aloud."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from beffroi.control.rows import Recovered
from beffroi.control.segments import find
from beffroi.control.shipping import Shipper
from beffroi.control.verify import Report, verify
from beffroi.core.price import Cost, Tokens
from beffroi.core.record import Refusals
from beffroi.core.segment import SIZE
from beffroi.store.engine import open_engine, reading, upgrade
from beffroi.store.tables import events, exchanges, open_intents, refusals, spool_offsets
from tests.control.journal_files import BOOT, alive, append, framed, segment
from tests.gateway.journal.support import intent, progress, request_id, settlement

OTHER = "0" * 31 + "2"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The journal directory."""
    return tmp_path / "journal"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty ledger."""
    engine = open_engine(tmp_path / "beffroi.db")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def charged() -> list[Recovered]:
    """What quota counters were told."""
    return []


@pytest.fixture
def shipper(engine: Engine, spool: Path, charged: list[Recovered]) -> Shipper:
    """A shipper that is stepped by hand."""
    return Shipper(engine, spool, charge=charged.append)


def rows(engine: Engine, table: Any = exchanges) -> list[dict[str, Any]]:
    """All rows of a table."""
    with reading(engine) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def actions(engine: Engine) -> list[str]:
    """What was noted."""
    return [row["action"] for row in rows(engine, events)]


def later(shipper: Shipper) -> int:
    """One look that calls the roll, whenever the last one was."""
    shipper.living(0, "")
    return shipper.step()


def test_every_field_of_a_settlement_reaches_its_column(shipper: Shipper, spool: Path, engine: Engine) -> None:
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
    )
    path = segment(spool, [begun, done], worker=5)
    with alive(path):
        assert shipper.step() == 2
    assert rows(engine) == [
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
        }
    ]


def test_an_exchange_is_joined_across_looks_restarts_and_progress(spool: Path, engine: Engine) -> None:
    """Intent, progress and settlement may each be read by another control process."""
    path = segment(spool, [intent("req_a", at_ns=5)])
    end = SIZE + len(framed([intent("req_a", at_ns=5)]))
    with alive(path):
        Shipper(engine, spool).step()
        assert [row["request_id"] for row in rows(engine, open_intents)] == ["req_a"]
        end = append(path, [progress("req_a", 3)], 2, end)
        Shipper(engine, spool).step()
        assert [row["output_tokens"] for row in rows(engine, open_intents)] == [3]
        append(path, [settlement("req_a")], 3, end)
        Shipper(engine, spool).step()
        assert Shipper(engine, spool).step() == 0
    assert rows(engine, open_intents) == []
    assert [(row["intent_ns"], row["state"], row["output_tokens"]) for row in rows(engine)] == [(5, "settled", 5)]


def test_a_refused_request_stands_alone_and_refusals_without_key_add_up(
    shipper: Shipper, spool: Path, engine: Engine
) -> None:
    """Attempt 0 needs no intent; counts of several workers for the same second are summed."""
    refused = settlement("req_a", attempt=0, outcome="refused", status=429, tokens=Tokens(), cost=Cost())
    segment(spool, [refused, Refusals(9, {"invalid_api_key 10.0.0.0/24": 2})])
    segment(spool, [Refusals(9, {"invalid_api_key 10.0.0.0/24": 3, "head_too_large -": 1})], boot=OTHER, worker=1)
    shipper.step()
    assert [(row["state"], row["intent_ns"]) for row in rows(engine)] == [("refused", None)]
    assert sorted((row["reason"], row["prefix"], row["count"]) for row in rows(engine, refusals)) == [
        ("head_too_large", "-", 1),
        ("invalid_api_key", "10.0.0.0/24", 5),
    ]


def test_orphans_of_a_dead_boot_are_billed_from_their_last_progress_once(
    shipper: Shipper, spool: Path, engine: Engine, charged: list[Recovered]
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
    found = {row["request_id"]: row for row in rows(engine)}
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
    assert actions(engine) == ["journal:exchange:recover"]
    assert rows(engine, open_intents) == []


def test_a_living_boot_keeps_its_open_exchanges(
    shipper: Shipper, spool: Path, engine: Engine, charged: list[Recovered]
) -> None:
    """However silent a stream is, it is not settled while its worker lives; it is within a look once the worker dies."""
    path = segment(spool, [intent("req_a")])
    with alive(path):
        for _ in range(3):
            later(shipper)
        assert rows(engine) == []
    later(shipper)
    assert [row["state"] for row in rows(engine)] == ["recovered"]
    assert len(charged) == 1


def test_a_dead_boot_is_recovered_only_after_all_it_wrote(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """The settlement may stand segments behind the intent."""
    segment(spool, [intent(request_id(n)) for n in range(50)])
    segment(spool, [settlement(request_id(n)) for n in range(25)], number=2, base=51)
    segment(spool, [settlement(request_id(n)) for n in range(25, 49)], number=3, base=76)
    shipper.step()
    assert sorted(row["state"] for row in rows(engine)) == ["recovered"] + ["settled"] * 49


def test_open_exchanges_whose_segments_are_gone_are_recovered(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """A dead worker's files may have been shipped and deleted before control died as well."""
    path = segment(spool, [intent("req_a")])
    with alive(path):
        shipper.step()
        path.unlink()
    Shipper(engine, spool).step()
    assert [row["state"] for row in rows(engine)] == ["recovered"]


def test_segments_are_deleted_once_shipped_and_their_writer_has_moved_on_or_died(
    shipper: Shipper, spool: Path, engine: Engine
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
    assert len(rows(engine)) == 2
    later(shipper)
    assert verify(engine, spool).ok


def test_places_of_long_gone_segments_are_forgotten(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """One row per boot stays, with the counts that verify needs; not one per segment."""
    base = 1
    for number in range(1, 9):
        segment(spool, [intent(request_id(number)), settlement(request_id(number))], number=number, base=base)
        base += 2
    later(shipper)
    segment(spool, [Refusals(1, {"a -": 1})], boot=OTHER)
    later(shipper)
    kept = [(row["boot"], row["segment"], row["intents"]) for row in rows(engine, spool_offsets)]
    assert sorted(kept) == [(BOOT, 8, 8), (OTHER, 1, 0)]


@pytest.mark.parametrize("cut", [1, 5, 12, 16, 17, 18, 60, -1])
def test_a_torn_last_record_is_ignored_noted_and_never_fatal(
    shipper: Shipper, spool: Path, engine: Engine, cut: int
) -> None:
    """Killed in the middle of a write: nobody was told that this record exists, so it does not."""
    whole = [intent("req_a"), settlement("req_a")]
    torn = framed([intent("req_torn")], base=3)[:cut]
    segment(spool, whole, tail=torn + bytes(500))
    before = verify(engine, spool)
    later(shipper)
    assert before.ok
    assert [row["request_id"] for row in rows(engine)] == ["req_a"]
    assert actions(engine) == ["journal:segment:torn"]
    assert list(spool.glob("w*/*")) == []
    assert verify(engine, spool).ok


def test_damage_in_the_middle_is_said_aloud_and_the_file_kept(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """Good records behind a bad one: somebody was told that those are written. An event, and verify fails, until mended."""
    payloads = [each for n in range(10) for each in (intent(request_id(n)), settlement(request_id(n)))]
    path = segment(spool, payloads)
    data = bytearray(path.read_bytes())
    data[SIZE + len(framed(payloads[:10])) + 40] ^= 1
    path.write_bytes(data)
    report = verify(engine, spool)
    assert not report.ok
    assert "damaged" in report.findings[0]
    later(shipper)
    assert len(rows(engine)) == 5
    assert actions(engine) == ["journal:segment:damaged"]
    assert path.exists()
    assert not verify(engine, spool).ok
    segment(spool, [intent("req_z"), settlement("req_z")], number=2, base=30)
    later(shipper)
    assert len(rows(engine)) == 6, "what its writer wrote into other segments is taken in all the same"


def test_a_gap_of_zeros_before_good_records_is_damage(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """After a power cut the disk may have kept the later page and not the earlier."""
    payloads = [intent(request_id(n)) for n in range(20)]
    path = segment(spool, payloads)
    data = bytearray(path.read_bytes())
    begin = SIZE + len(framed(payloads[:10]))
    data[begin : begin + len(framed(payloads[10:12], 11))] = bytes(len(framed(payloads[10:12], 11)))
    path.write_bytes(data)
    assert not verify(engine, spool).ok
    later(shipper)
    assert actions(engine)[0] == "journal:segment:damaged"


def test_a_lost_segment_is_noticed(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """Sequence numbers run on from segment to segment: a file that somebody deleted leaves a gap."""
    segment(spool, [intent("req_a"), settlement("req_a")])
    segment(spool, [intent("req_b"), settlement("req_b")], number=3, base=9)
    report = verify(engine, spool)
    assert not report.ok
    assert "missing" in report.findings[0]
    later(shipper)
    assert len(rows(engine)) == 2
    assert set(actions(engine)) <= {"journal:segment:missing", "journal:segment:damaged"}
    assert actions(engine)


def test_a_record_that_is_being_written_is_waited_for(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """A reader may see half of a write of a living writer; it takes the rest at its next look."""
    done = framed([intent("req_a"), settlement("req_a")])
    path = segment(spool, [], tail=done[:-20] + bytes(4096))
    with alive(path):
        later(shipper)
        assert len(rows(engine)) == 0
        append(path, [intent("req_a"), settlement("req_a")], 1, SIZE)
        shipper.step()
        assert len(rows(engine)) == 1
    assert actions(engine) == []


def test_a_second_settlement_is_left_out_and_reported(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """Whatever went wrong in the data plane, nobody pays twice."""
    segment(spool, [intent("req_a"), settlement("req_a"), settlement("req_a", tokens=Tokens(99, 0, 99, 0))])
    assert not verify(engine, spool).ok
    later(shipper)
    assert [row["output_tokens"] for row in rows(engine)] == [5]
    assert actions(engine) == ["journal:settlement:duplicate"]
    assert not verify(engine, spool).ok


def test_a_settlement_without_an_intent_is_billed_and_reported(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """It happened, so it counts; that it was not announced is a fault that verify shows."""
    segment(spool, [settlement("req_a")])
    assert not verify(engine, spool).ok
    later(shipper)
    assert [row["state"] for row in rows(engine)] == ["unmatched"]
    assert any("without an intent" in finding for finding in verify(engine, spool).findings)


def test_verify_reports_a_row_that_vanished_or_appeared(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """The counts that shipping keeps are held against the rows."""
    path = segment(spool, [each for n in range(3) for each in (intent(request_id(n)), settlement(request_id(n)))])
    with alive(path):
        later(shipper)
        whole = verify(engine, spool)
        assert whole == Report(ok=True, segments=1, records=6, exchanges=3)
        with engine.begin() as connection:
            connection.execute(exchanges.delete().where(exchanges.c.request_id == request_id(1)))
        assert len(verify(engine, spool).findings) == 2
        with engine.begin() as connection:
            connection.execute(exchanges.update().values(boot=OTHER).where(exchanges.c.request_id == request_id(2)))
        assert any(OTHER in finding for finding in verify(engine, spool).findings)


def test_verify_counts_what_is_not_shipped_and_what_waits_for_recovery(spool: Path, engine: Engine) -> None:
    """Offline after a crash: open exchanges of the dead are a note, since the next start settles them."""
    segment(spool, [intent("req_a"), settlement("req_a"), intent("req_b")])
    report = verify(engine, spool)
    assert (report.ok, report.unshipped, report.open, report.orphaned) == (True, 3, 1, 1)
    assert len(report.notes) == 1


def test_a_batch_bound_splits_large_backlogs_without_losing_their_ends(
    shipper: Shipper, spool: Path, engine: Engine
) -> None:
    """After control was away for long, memory and lock time stay bounded, and the ledger is exact all the same."""
    commits: list[int] = []
    event.listen(engine, "commit", lambda connection: commits.append(1))
    base = 1
    for number in range(1, 4):
        part = range(number * 3000, number * 3000 + 3000)
        payloads = [each for n in part for each in (intent(request_id(n)), settlement(request_id(n)))]
        segment(spool, payloads, number=number, base=base, tail=b"")
        base += len(payloads)
    assert shipper.step() == 18_000
    assert len(commits) >= 3
    assert len(rows(engine)) == 9000
    assert verify(engine, spool).ok
    assert find(spool) == {}


def test_a_locked_database_loses_nothing_and_says_so(tmp_path: Path, spool: Path) -> None:
    """While somebody holds the database, shipping reports why it is behind, and goes on when it can."""
    engine = open_engine(tmp_path / "beffroi.db")
    upgrade(engine)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    engine.dispose()
    segment(spool, [intent("req_a"), settlement("req_a")])
    other = sqlite3.connect(tmp_path / "beffroi.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    shipper = Shipper(engine, spool)
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
    assert len(rows(engine)) == 1
    engine.dispose()


def test_the_thread_ships_without_being_asked_and_takes_a_last_look_when_stopped(
    shipper: Shipper, spool: Path, engine: Engine
) -> None:
    """What was written before `stop` is in the ledger after it."""
    path = segment(spool, [intent("req_a"), settlement("req_a")])
    with alive(path):
        shipper.start()
        deadline = time.monotonic() + 5
        while not rows(engine) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(rows(engine)) == 1
        append(path, [intent("req_b")], 3, path.stat().st_size - 4096)
        shipper.stop()
    assert [row["request_id"] for row in rows(engine, open_intents)] == ["req_b"]


def test_events_are_plain_data(shipper: Shipper, spool: Path, engine: Engine) -> None:
    """What is noted can be printed as JSON."""
    segment(spool, [intent("req_a")])
    later(shipper)
    (row,) = rows(engine, events)
    assert json.dumps(row)
    assert (row["actor"], row["subject"], row["after"]) == ("control", BOOT, {"exchanges": 1})


def test_a_deleted_segment_that_a_power_cut_brings_back_is_not_shipped_again(
    shipper: Shipper, spool: Path, engine: Engine
) -> None:
    """A deletion is not on disk before the folder is; the ledger's places are."""
    first = segment(spool, [intent("req_a"), settlement("req_a")])
    saved = first.read_bytes()
    second = segment(spool, [intent("req_b"), settlement("req_b")], number=2, base=3)
    with alive(second):
        later(shipper)
        append(second, [intent("req_c"), settlement("req_c")], 5, second.stat().st_size - 4096)
        shipper.step()
        assert [row["segment"] for row in rows(engine, spool_offsets)] == [2]
        first.write_bytes(saved)
        Shipper(engine, spool).step()
        assert not first.exists()
    assert len(rows(engine)) == 3
    assert actions(engine) == []
    assert verify(engine, spool).ok
