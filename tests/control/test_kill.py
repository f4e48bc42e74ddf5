# SPDX-License-Identifier: Apache-2.0
"""kill -9, again and again, of the writer and of the shipper: what was acknowledged is in the ledger, once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import Engine, select

from beffroi.control.shipping import Shipper
from beffroi.control.verify import verify
from beffroi.store.engine import reading
from beffroi.store.tables import exchanges, open_intents
from tests.control.journal_files import segment
from tests.gateway.journal.support import intent, settlement

ROUNDS = int(os.environ.get("BEFFROI_KILLS", "8"))

# Tells of each record only after it is written, as the gateway tells its client. Every tenth exchange is left open.
WRITER = """
import asyncio, os, sys, uuid
from pathlib import Path
import uvloop
from beffroi.gateway.journal import Journal
from tests.gateway.journal.support import intent, settlement, progress
from beffroi.core.record import PROGRESS

async def main(directory, name):
    loop = asyncio.get_running_loop()
    spool = Journal(directory, worker=0, boot=uuid.uuid4().hex, loop=loop, segment_bytes=128 << 10)
    def said(word, request):
        return lambda error: os.write(1, f"{word} {request}\\n".encode())
    number = 0
    while True:
        for _ in range(number % 7 + 1):
            number += 1
            request = f"req_{name}_{number:08d}"
            if not spool.healthy:
                break
            spool.intent(intent(request), said("intent", request))
            if number % 10:
                spool.settle(settlement(request), said("settled", request))
            else:
                spool.append(PROGRESS, progress(request, number))
                spool.settle(settlement(request + "x", attempt=0), None)
                spool.open -= 1  # or held-back space would stop this loop, which never settles these
        await asyncio.sleep(0)

uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
"""

SHIPPER = """
import sys
from pathlib import Path
from beffroi.control import gather
from beffroi.control.shipping import Shipper
from beffroi.store.engine import open_engine

gather.MOST = 40
where = sys.argv[2]
database = open_engine(where if "://" in where else Path(where))
shipper = Shipper(database, Path(sys.argv[1]) / "journal")
print("on", flush=True)
while True:
    shipper.living(0, "")
    shipper.step()
"""


def start(code: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """A child that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": f"src{os.pathsep}."},
        stdout=subprocess.PIPE,
    )


def kill(child: "subprocess.Popen[bytes]", after: float) -> list[str]:
    """SIGKILL, `after` seconds from its first line; all lines it had said."""
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    lines = (first + rest).decode().split("\n")
    return lines[:-1]  # the last may be cut; what was not said whole was not said


def ledger(database: Engine) -> dict[str, str]:
    """State of every attempt; there can be one row only, by the primary key."""
    with reading(database) as connection:
        assert connection.execute(select(open_intents)).all() == []
        return {row[0]: row[1] for row in connection.execute(select(exchanges.c.request_id, exchanges.c.state))}


def test_a_writer_killed_again_and_again_loses_nothing_it_acknowledged(tmp_path: Path, database: Engine) -> None:
    """Every acknowledged settlement is in the ledger, every acknowledged intent settled, and the journal verifies."""
    chance = random.Random(20)
    said: list[str] = []
    shipper = Shipper(database, tmp_path / "journal")
    for number in range(ROUNDS):
        child = start(WRITER, str(tmp_path / "journal"), str(number))
        said += kill(child, chance.uniform(0.0, 0.25))
        if number % 2:
            shipper.living(0, "")
            shipper.step()
    shipper.living(0, "")
    shipper.step()
    found = ledger(database)
    settled = [line.split()[1] for line in said if line.startswith("settled")]
    begun = [line.split()[1] for line in said if line.startswith("intent")]
    assert len(settled) > 50 * ROUNDS, "the children must have been at work"
    assert [each for each in settled if found.get(each) != "settled"] == []
    assert [each for each in begun if each not in found] == []
    left_open = [each for each in begun if each[-1] == "0"]
    assert {found[each] for each in left_open} == {"recovered"}
    report = verify(database, tmp_path / "journal")
    assert report.ok, report.findings
    assert report.open == 0


def test_a_shipper_killed_between_and_within_transactions_ships_exactly_once(
    tmp_path: Path, database: Engine, place: Path | str
) -> None:
    """The rows and the place reached are one transaction: wherever it dies, the next one goes on from there."""
    chance = random.Random(21)
    expected: dict[str, str] = {}
    base = 1
    total = 0
    for number in range(1, 21):
        payloads = []
        for _ in range(150):
            total += 1
            request = f"req_{total:08d}"
            payloads.append(intent(request))
            if total % 50:
                payloads.append(settlement(request))
            expected[request] = "settled" if total % 50 else "recovered"
        segment(tmp_path / "journal", payloads, number=number, base=base)
        base += len(payloads)
    counts = []
    longest = 0.02 if isinstance(place, Path) else 0.5  # it connects first
    for _ in range(ROUNDS):
        child = start(SHIPPER, str(tmp_path), str(place))
        kill(child, chance.uniform(0.0, longest))
        with reading(database) as connection:
            counts.append(len(connection.execute(select(exchanges.c.request_id)).all()))
    shipper = Shipper(database, tmp_path / "journal")
    shipper.step()
    assert ledger(database) == expected
    assert any(0 < count < len(expected) for count in counts), counts
    report = verify(database, tmp_path / "journal")
    assert report.ok, report.findings
    assert list((tmp_path / "journal").glob("w*/*")) == []
