# SPDX-License-Identifier: Apache-2.0
"""The proof that nothing was lost and nothing counted twice: journal and ledger held against each other.

In: the ledger's database and the journal directory, with or without anybody writing. Out: a report of counts and findings.
Reads only. Looks in the order that makes each finding certain: who is dead, then which files, then the ledger.
"""

import os
import time
from collections import Counter
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine, func, select

from beffroi.control import segments as files
from beffroi.control.places import Place, load_open, load_places
from beffroi.control.rows import Key
from beffroi.control.segments import End, Found
from beffroi.core import segment as format_
from beffroi.core.record import Intent, Payload, Settlement
from beffroi.store.engine import reading
from beffroi.store.tables import exchanges

_LOOKS = 20  # at a record that a living writer may be in the middle of writing
_PAUSE = 0.05
_SHOWN = 10


class Report(msgspec.Struct):
    """What was found.

    Attributes:
        ok: no findings.
        segments, records: read here, whole files; unshipped: of these records, those not in the ledger yet.
        exchanges: settled attempts in the ledger; refused: requests without an attempt; recovered: of the exchanges,
            those whose worker died.
        open: intents without a settlement: in flight; orphaned: of these, those whose worker is dead, which shipping
            settles once it has read all that this worker wrote.
        findings: what should not be; notes: what may be, and is worth knowing.
    """

    ok: bool = True
    segments: int = 0
    records: int = 0
    unshipped: int = 0
    exchanges: int = 0
    refused: int = 0
    recovered: int = 0
    open: int = 0
    orphaned: int = 0
    findings: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


def verify(engine: Engine, directory: Path, replica: str = "") -> Report:
    """Check the segments below `directory` and the ledger in `engine`. Blocks; reads every segment and every row.

    Args:
        replica: whose journal it is, where several ship into one ledger; of the others the ledger's counts are checked.
    """
    dead = {boot for boot, found in files.find(directory).items() if not files.is_alive(found)}
    boots = files.find(directory)
    opened = {found.key: fd for segments in boots.values() for found in segments if (fd := _open(found)) is not None}
    try:
        report = Report()
        with reading(engine, patient=True) as connection:
            _Check(connection, report, dead, opened, replica).run(boots)
    finally:
        for fd in opened.values():
            os.close(fd)
    report.ok = not report.findings
    return report


def _open(found: Found) -> int | None:
    try:
        return os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # shipped and deleted since it was listed


class _Check:
    """One run, over one consistent view of the ledger and files that cannot vanish any more."""

    def __init__(
        self, connection: Connection, report: Report, dead: set[str], opened: dict[str, int], replica: str
    ) -> None:
        self._connection = connection
        self._replica = replica
        self._report = report
        self._dead = dead
        self._fds = opened
        self._places = load_places(connection)
        self._open = {key: found.boot for key, found in load_open(connection, replica).items()}
        self._elsewhere = Counter(found.boot for key, found in load_open(connection).items() if key not in self._open)
        self._intents: dict[Key, str] = {}  # not shipped yet: by boot
        self._settlements: Counter[Key] = Counter()  # not shipped yet

    def run(self, boots: dict[str, list[Found]]) -> None:
        """All checks."""
        for place in self._places.values():
            if place.damage:
                self._finding(f"{place.key} is damaged at byte {place.offset}: {place.damage}")
        for boot, segments in boots.items():
            self._boot(boot, segments)
        self._pairs()
        self._counts(boots)

    def _finding(self, text: str) -> None:
        self._report.findings.append(text)

    def _boot(self, boot: str, segments: list[Found]) -> None:
        expected: int | None = None
        begun = [(found, header) for found in segments if (header := self._header(found)) is not None]
        for place, (found, header) in enumerate(begun):
            if (header.worker, header.boot, header.number) != (found.worker, found.boot, found.number):
                self._finding(f"{found.key} holds the segment of another writer or another number")
            if expected is not None and header.base != expected:
                self._finding(f"{found.key} begins at record {header.base}, not {expected}: records are missing")
            final = place + 1 < len(begun) or boot in self._dead
            expected = self._segment(found, header, final, last=place + 1 == len(begun))

    def _header(self, found: Found) -> format_.Header | None:
        fd = self._fds.get(found.key)
        if fd is None:
            return None
        try:
            return format_.unpack(os.pread(fd, format_.SIZE, 0))
        except format_.BadHeader as error:
            self._finding(f"{found.key}: {error}")
            return None

    def _segment(self, found: Found, header: format_.Header, final: bool, *, last: bool) -> int | None:
        """Read one segment; the sequence number that must follow, None when that cannot be known."""
        fd, report = self._fds[found.key], self._report
        report.segments += 1
        shipped = self._places.get(found.key)
        offset, sequence, state, why = format_.SIZE, header.base, End.CLEAN, ""
        for look in range(1 if final else _LOOKS):
            if look:
                time.sleep(_PAUSE)
            for part in files.read(fd, offset, sequence):
                self._take(part.payloads, sequence, shipped, found.boot)
                offset, sequence, state, why = part.end, part.sequence, part.state, part.why
            if state is End.CLEAN:
                break
        if last and final and files.lies_beyond(fd, offset, sequence):
            self._finding(
                f"{found.key} is damaged at byte {offset}: {why or 'a gap'}, and good records stand behind it"
            )
            return None
        if state is not End.CLEAN and last:
            if not final:
                self._finding(f"{found.key} does not read on at byte {offset}: {why}")
                return None
            report.notes.append(
                f"{found.key} ends at byte {offset} in a record that was cut short; nobody was told of it"
            )
        return sequence

    def _take(self, payloads: list[Payload], sequence: int, shipped: Place | None, boot: str) -> None:
        self._report.records += len(payloads)
        reached = shipped.sequence if shipped else 0
        for number, payload in enumerate(payloads, sequence):
            if number < reached:
                continue
            self._report.unshipped += 1
            if isinstance(payload, Intent):
                self._intents[payload.request_id, payload.attempt] = boot
            elif isinstance(payload, Settlement):
                self._settlements[payload.request_id, payload.attempt] += 1

    def _pairs(self) -> None:
        """One settlement per intent among what is not shipped yet."""
        intents = self._open | self._intents
        for (request_id, attempt), count in self._settlements.items():
            if count > 1:
                self._finding(f"{request_id} attempt {attempt} is settled {count} times in the journal")
            if attempt and (request_id, attempt) not in intents:
                self._finding(f"{request_id} attempt {attempt} is settled in the journal without an intent")
        waiting = [boot for key, boot in intents.items() if key not in self._settlements]
        self._report.open = len(waiting)
        # A boot without files is dead as well: a living writer always has one.
        alive = {found.rsplit("/", 1)[1][:32] for found in self._fds} - self._dead
        self._report.orphaned = sum(boot not in alive for boot in waiting)
        if self._report.orphaned:
            self._report.notes.append(
                f"{self._report.orphaned} exchanges of dead workers wait to be settled by shipping, from their last progress"
            )

    def _counts(self, boots: dict[str, list[Found]]) -> None:
        """The ledger against what shipping counted on its way."""
        report, t = self._report, exchanges.c
        query = select(t.boot, t.state, func.count()).group_by(t.boot, t.state)
        rows: dict[str, Counter[str]] = {}
        for boot, state, count in self._connection.execute(query):
            rows.setdefault(boot, Counter())[state] = int(count)
        for states in rows.values():
            report.exchanges += states["settled"] + states["recovered"] + states["unmatched"]
            report.refused += states["refused"]
            report.recovered += states["recovered"]
        self._unmatched()
        open_ = Counter(self._open.values()) + self._elsewhere
        newest: dict[str, Place] = {}
        for place in sorted(self._places.values(), key=lambda place: place.segment):
            newest[place.boot] = place
        mine = {place.boot for place in load_places(self._connection, self._replica).values()}
        for boot, place in newest.items():
            states = rows.get(boot, Counter())
            accounted = states["settled"] + states["recovered"] + open_[boot]
            if accounted != place.intents:
                self._finding(f"boot {boot}: {place.intents} intents were shipped, the ledger accounts for {accounted}")
            settled = states["settled"] + states["unmatched"]
            if settled != place.settlements:
                self._finding(f"boot {boot}: {place.settlements} settlements were shipped, the ledger holds {settled}")
            if boot in mine and boot not in boots and place.finished and open_[boot]:
                self._finding(f"boot {boot} is dead and shipped, and {open_[boot]} of its intents are not settled")
        for boot in rows.keys() - newest.keys():
            self._finding(f"boot {boot} has rows in the ledger, and shipping has no record of it")

    def _unmatched(self) -> None:
        t = exchanges.c
        query = select(t.request_id, t.attempt).where(t.attempt > 0, t.intent_ns.is_(None)).limit(_SHOWN + 1)
        found = self._connection.execute(query).all()
        for request_id, attempt in found[:_SHOWN]:
            self._finding(f"{request_id} attempt {attempt} is settled in the ledger without an intent")
        if len(found) > _SHOWN:
            self._finding("more settlements without an intent follow")
