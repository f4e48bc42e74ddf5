# SPDX-License-Identifier: Apache-2.0
"""One look at the journal: what there is to ship, from where to where, and which segments have ended.

In: segment files and the places shipping has reached. Out: a batch, the new places, and what must be said about them.
The order of looking is what makes it exact: whether a writer is dead or has moved on is asked *before* its segment is
read, so that what the reading finds is all there will ever be.
"""

import os
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from beffroi.control import segments as files
from beffroi.control.places import Place
from beffroi.control.rows import Batch, Key, Open, Recovered
from beffroi.control.segments import End, Found
from beffroi.core import segment as format_

MOST = 8192  # records per transaction: bounds memory and how long the write lock is held


class Note(msgspec.Struct, frozen=True):
    """Something that a person must be able to find later; `action` is that of an event."""

    action: str
    subject: str
    detail: dict[str, str | int]


class Haul(msgspec.Struct):
    """What one transaction takes in."""

    batch: Batch
    places: dict[str, Place]
    notes: list[Note]
    recovered: list[Recovered]
    records: int = 0
    bytes: int = 0
    more: bool = False  # there is more than fits

    def __bool__(self) -> bool:
        return bool(self.places or self.recovered)


class Gatherer:
    """Reads on from the places it is given.

    Args:
        places: by segment; read, never written.
        known: the open intents in the database; read, never written.
    """

    def __init__(self, places: dict[str, Place], known: dict[Key, Open]) -> None:
        self._places = places
        self._known = known
        self.suspects: dict[str, tuple[int, str]] = {}  # segments of living writers that do not read on: offset, why

    def gather(self, boots: dict[str, list[Found]], is_dead: Callable[[str], bool]) -> Haul:
        """All that these segments hold beyond their places, up to a bound; orphans of boots that are read to the end."""
        haul = Haul(Batch(self._known), {}, [], [])
        self.suspects = {}
        for boot, found in boots.items():
            dead = is_dead(boot)
            self._boot(boot, found, dead, haul)
            if haul.records >= MOST:
                haul.more = True
                return haul
        for boot in {one.boot for one in self._known.values()} - boots.keys():
            self._recover(boot, haul)
        return haul

    def _boot(self, boot: str, segments: list[Found], dead: bool, haul: Haul) -> None:
        last = self._last(boot)
        ended = True
        for index, found in enumerate(segments):
            place = self._places.get(found.key)
            if place.finished or place.damage if place else last and found.number < last.segment:
                continue  # done with, or so long ago that its place is forgotten
            place = replace(place) if place else _next_place(found, last)
            moved_on = _begun_after(segments[index + 1 :])
            before = replace(place)
            final = moved_on is not None or dead
            self._segment(found, place, final, moved_on, haul)
            if place != before:
                haul.places[found.key] = place
            last = place
            if not (place.finished or place.damage):
                ended = False
                break
        if dead and ended:
            self._recover(boot, haul)

    def _last(self, boot: str) -> Place | None:
        mine = [place for place in self._places.values() if place.boot == boot]
        return max(mine, key=lambda place: place.segment, default=None)

    def _segment(self, found: Found, place: Place, final: bool, moved_on: format_.Header | None, haul: Haul) -> None:
        try:
            fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            _damage(place, "the segment is gone before it was shipped", haul)
            return
        try:
            if place.offset == 0 and not self._enter(fd, place, final, haul):
                return
            state, why = self._records(fd, place, haul)
            if haul.records >= MOST:
                return
            if final:
                self._end(fd, place, state, why, moved_on, haul)
            elif state is not End.CLEAN:
                self.suspects[found.key] = (place.offset, why)
        finally:
            os.close(fd)

    def _enter(self, fd: int, place: Place, final: bool, haul: Haul) -> bool:
        try:
            header = format_.unpack(os.pread(fd, format_.SIZE, 0))
        except format_.BadHeader as error:
            if final:
                _damage(place, str(error), haul)
            else:
                self.suspects[place.key] = (0, str(error))
            return False
        if header is None:
            place.finished = final
            return False
        if place.sequence and header.base != place.sequence:
            _note_gap(place, place.sequence, header.base, haul)
        place.offset, place.sequence = format_.SIZE, header.base
        return True

    @staticmethod
    def _records(fd: int, place: Place, haul: Haul) -> tuple[End, str]:
        state, why = End.CLEAN, ""
        for part in files.read(fd, place.offset, place.sequence):
            intents, settlements = haul.batch.add(place.worker, place.boot, part.payloads)
            place.intents += intents
            place.settlements += settlements
            haul.records += len(part.payloads)
            haul.bytes += part.end - place.offset
            place.offset, place.sequence = part.end, part.sequence
            state, why = part.state, part.why
            if haul.records >= MOST:
                break
        return state, why

    @staticmethod
    def _end(fd: int, place: Place, state: End, why: str, moved_on: format_.Header | None, haul: Haul) -> None:
        """The segment will never be longer: is what was read all of it?"""
        if moved_on is not None and moved_on.base > place.sequence:
            _damage(place, f"{why or 'records are missing'}; {moved_on.base - place.sequence} records lost", haul)
        elif moved_on is None and files.lies_beyond(fd, place.offset, place.sequence):
            _damage(place, f"{why or 'a gap'}, and good records stand behind it", haul)
        else:
            if state is not End.CLEAN and moved_on is None:
                haul.notes.append(Note("journal:segment:torn", place.key, {"offset": place.offset, "why": why}))
            place.finished = True

    def _recover(self, boot: str, haul: Haul) -> None:
        recovered = haul.batch.recover(boot)
        if recovered:
            haul.recovered.extend(recovered)
            haul.notes.append(Note("journal:exchange:recover", boot, {"exchanges": len(recovered)}))


def _next_place(found: Found, last: Place | None) -> Place:
    if last is None:
        return Place(found.key, found.worker, found.boot, found.number)
    return Place(
        found.key,
        found.worker,
        found.boot,
        found.number,
        sequence=0 if last.damage else last.sequence,  # 0: how many records the damage took is not known
        intents=last.intents,
        settlements=last.settlements,
    )


def _begun_after(later: list[Found]) -> format_.Header | None:
    """The header of the next segment that its writer has begun."""
    for found in later:
        try:
            header = files.read_header(found.path)
        except (format_.BadHeader, FileNotFoundError):
            continue
        if header is not None:
            return header
    return None


def _damage(place: Place, why: str, haul: Haul) -> None:
    place.damage = why
    haul.notes.append(Note("journal:segment:damaged", place.key, {"offset": place.offset, "why": why}))


def _note_gap(place: Place, expected: int, base: int, haul: Haul) -> None:
    detail: dict[str, str | int] = {"expected": expected, "found": base}
    haul.notes.append(Note("journal:segment:missing", place.key, detail))
