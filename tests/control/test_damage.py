# SPDX-License-Identifier: Apache-2.0
"""What kills, power cuts and bad disks leave behind: the ledger takes what is sound, and verify says what is not."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from beffroi.control.shipping import Shipper
from beffroi.control.verify import Report, verify
from beffroi.core.price import Tokens
from beffroi.core.segment import SIZE
from beffroi.store.tables import exchanges, spool_offsets
from tests.control.journal_files import OTHER, actions, alive, append, framed, later, rows, segment
from tests.gateway.journal.support import intent, request_id, settlement


@pytest.mark.parametrize("cut", [1, 5, 12, 16, 17, 18, 60, -1])
def test_a_torn_last_record_is_ignored_noted_and_never_fatal(
    shipper: Shipper, spool: Path, database: Engine, cut: int
) -> None:
    """Killed in the middle of a write: nobody was told that this record exists, so it does not."""
    whole = [intent("req_a"), settlement("req_a")]
    torn = framed([intent("req_torn")], base=3)[:cut]
    segment(spool, whole, tail=torn + bytes(500))
    before = verify(database, spool)
    later(shipper)
    assert before.ok
    assert [row["request_id"] for row in rows(database)] == ["req_a"]
    assert actions(database) == ["journal:segment:torn"]
    assert list(spool.glob("w*/*")) == []
    assert verify(database, spool).ok


def test_damage_in_the_middle_is_said_aloud_and_the_file_kept(shipper: Shipper, spool: Path, database: Engine) -> None:
    """Good records behind a bad one: somebody was told that those are written. An event, and verify fails, until mended."""
    payloads = [each for n in range(10) for each in (intent(request_id(n)), settlement(request_id(n)))]
    path = segment(spool, payloads)
    data = bytearray(path.read_bytes())
    data[SIZE + len(framed(payloads[:10])) + 40] ^= 1
    path.write_bytes(data)
    report = verify(database, spool)
    assert not report.ok
    assert "damaged" in report.findings[0]
    later(shipper)
    assert len(rows(database)) == 5
    assert actions(database) == ["journal:segment:damaged"]
    assert path.exists()
    assert not verify(database, spool).ok
    segment(spool, [intent("req_z"), settlement("req_z")], number=2, base=30)
    later(shipper)
    assert len(rows(database)) == 6, "what its writer wrote into other segments is taken in all the same"


def test_a_gap_of_zeros_before_good_records_is_damage(shipper: Shipper, spool: Path, database: Engine) -> None:
    """After a power cut the disk may have kept the later page and not the earlier."""
    payloads = [intent(request_id(n)) for n in range(20)]
    path = segment(spool, payloads)
    data = bytearray(path.read_bytes())
    begin = SIZE + len(framed(payloads[:10]))
    data[begin : begin + len(framed(payloads[10:12], 11))] = bytes(len(framed(payloads[10:12], 11)))
    path.write_bytes(data)
    assert not verify(database, spool).ok
    later(shipper)
    assert actions(database)[0] == "journal:segment:damaged"


def test_a_lost_segment_is_noticed(shipper: Shipper, spool: Path, database: Engine) -> None:
    """Sequence numbers run on from segment to segment: a file that somebody deleted leaves a gap."""
    segment(spool, [intent("req_a"), settlement("req_a")])
    segment(spool, [intent("req_b"), settlement("req_b")], number=3, base=9)
    report = verify(database, spool)
    assert not report.ok
    assert "missing" in report.findings[0]
    later(shipper)
    assert len(rows(database)) == 2
    assert set(actions(database)) <= {"journal:segment:missing", "journal:segment:damaged"}
    assert actions(database)


def test_a_record_that_is_being_written_is_waited_for(shipper: Shipper, spool: Path, database: Engine) -> None:
    """A reader may see half of a write of a living writer; it takes the rest at its next look."""
    done = framed([intent("req_a"), settlement("req_a")])
    path = segment(spool, [], tail=done[:-20] + bytes(4096))
    with alive(path):
        later(shipper)
        assert len(rows(database)) == 0
        append(path, [intent("req_a"), settlement("req_a")], 1, SIZE)
        shipper.step()
        assert len(rows(database)) == 1
    assert actions(database) == []


def test_a_second_settlement_is_left_out_and_reported(shipper: Shipper, spool: Path, database: Engine) -> None:
    """Whatever went wrong in the data plane, nobody pays twice."""
    segment(spool, [intent("req_a"), settlement("req_a"), settlement("req_a", tokens=Tokens(99, 0, 99, 0))])
    assert not verify(database, spool).ok
    later(shipper)
    assert [row["output_tokens"] for row in rows(database)] == [5]
    assert actions(database) == ["journal:settlement:duplicate"]
    assert not verify(database, spool).ok


def test_a_settlement_without_an_intent_is_billed_and_reported(shipper: Shipper, spool: Path, database: Engine) -> None:
    """It happened, so it counts; that it was not announced is a fault that verify shows."""
    segment(spool, [settlement("req_a")])
    assert not verify(database, spool).ok
    later(shipper)
    assert [row["state"] for row in rows(database)] == ["unmatched"]
    assert any("without an intent" in finding for finding in verify(database, spool).findings)


def test_verify_reports_a_row_that_vanished_or_appeared(shipper: Shipper, spool: Path, database: Engine) -> None:
    """The counts that shipping keeps are held against the rows."""
    path = segment(spool, [each for n in range(3) for each in (intent(request_id(n)), settlement(request_id(n)))])
    with alive(path):
        later(shipper)
        whole = verify(database, spool)
        assert whole == Report(ok=True, segments=1, records=6, exchanges=3)
        with database.begin() as connection:
            connection.execute(exchanges.delete().where(exchanges.c.request_id == request_id(1)))
        assert len(verify(database, spool).findings) == 2
        with database.begin() as connection:
            connection.execute(exchanges.update().values(boot=OTHER).where(exchanges.c.request_id == request_id(2)))
        assert any(OTHER in finding for finding in verify(database, spool).findings)


def test_verify_counts_what_is_not_shipped_and_what_waits_for_recovery(spool: Path, database: Engine) -> None:
    """Offline after a crash: open exchanges of the dead are a note, since the next start settles them."""
    segment(spool, [intent("req_a"), settlement("req_a"), intent("req_b")])
    report = verify(database, spool)
    assert (report.ok, report.unshipped, report.open, report.orphaned) == (True, 3, 1, 1)
    assert len(report.notes) == 1


def test_a_deleted_segment_that_a_power_cut_brings_back_is_not_shipped_again(
    shipper: Shipper, spool: Path, database: Engine
) -> None:
    """A deletion is not on disk before the folder is; the ledger's places are."""
    first = segment(spool, [intent("req_a"), settlement("req_a")])
    saved = first.read_bytes()
    second = segment(spool, [intent("req_b"), settlement("req_b")], number=2, base=3)
    with alive(second):
        later(shipper)
        append(second, [intent("req_c"), settlement("req_c")], 5, second.stat().st_size - 4096)
        shipper.step()
        assert [row["segment"] for row in rows(database, spool_offsets)] == [2]
        first.write_bytes(saved)
        Shipper(database, spool).step()
        assert not first.exists()
    assert len(rows(database)) == 3
    assert actions(database) == []
    assert verify(database, spool).ok
