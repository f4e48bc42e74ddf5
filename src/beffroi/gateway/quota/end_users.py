# SPDX-License-Identifier: Apache-2.0
"""Counters of end users: a bounded table of places, which is shared by all processes and in which idle places are reused.

In: a quota's slot and an end user's name. Out: the slot of a place in `end-users.bin`, or None when there is none to have.
A name hashes to one set of 64 places; its word in the directory says whose a place is. A quota has half of a set at most,
so that one whose users are many (or made up) takes nobody else's. A place is reused when its user has nothing in progress
and nothing left in any window or budget that its quota has. Whoever finds no place counts with all others of the quota
who found none, under the limits of one (`counters` does it): nobody is refused for want of a place, and nobody gets more.
"""

from contextlib import suppress
from hashlib import blake2b

from beffroi.gateway.quota import layout
from beffroi.gateway.quota.calendar import MONTH as MONTHLY
from beffroi.gateway.quota.ground import Ground
from beffroi.gateway.quota.layout import FIRST_PLACE, HEADER_WORDS, MOST_OF_SET, PLACES, SET, WORD
from beffroi.gateway.quota.terms import Busy
from beffroi.gateway.quota.windows import CAP_BIT, MONEY_BIT, WANTED, WINDOWS

NAME_CHARS = 128  # of an end user's name, as the ledger keeps it
_SETS = PLACES // SET
_OWNER_SHIFT = 40
_HASH = (1 << _OWNER_SHIFT) - 1
FULL_TICKS = 2  # for so long a set that had no room is not searched again
FULL_SETS = 4096


class EndUsers:
    """The places of one process's view of the file."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        ground.cover(FIRST_PLACE + PLACES - 1)
        ground.file.allocate_directory()
        self._full: dict[tuple[int, int], int] = {}

    @staticmethod
    def tag_of(quota_slot: int, user: str) -> tuple[int, int]:
        """First place of the user's set, and the word that marks a place as the user's."""
        number = int.from_bytes(blake2b(user[:NAME_CHARS].encode("utf-8", "replace"), digest_size=8).digest())
        return number % _SETS * SET, (quota_slot + 1) << _OWNER_SHIFT | number >> 24 & _HASH

    @staticmethod
    def word_of(slot: int) -> int:
        """Where the directory says whose a place is."""
        return HEADER_WORDS + slot - FIRST_PLACE

    def find(self, quota_slot: int, user: str) -> tuple[int, int] | None:
        """The slot of a user who has a place, and the tag that it has."""
        first, tag = self.tag_of(quota_slot, user)
        at = HEADER_WORDS + first
        tags = self._ground.table.words[at : at + SET].tolist()
        return (FIRST_PLACE + first + tags.index(tag), tag) if tag in tags else None

    def claim(self, quota_slot: int, user: str, patience: float) -> tuple[int, int] | None:
        """As `find`, and a place is given to a user who has none; None: there is none to give.

        Raises:
            Busy: another process is at this set.
        """
        found = self.find(quota_slot, user)
        if found is not None:
            return found
        first, tag = self.tag_of(quota_slot, user)
        tick = self._ground.table.time.tick()
        if self._full.get((first, quota_slot), 0) > tick:
            return None
        with self._ground.file.held((HEADER_WORDS + first) * WORD, patience):
            found = self.find(quota_slot, user)
            place = self._room(first, quota_slot, tick) if found is None else -1
            if place >= 0:
                slot = FIRST_PLACE + first + place
                self._ground.prepare(slot)
                self._ground.blank(slot)
                self._ground.table.words[self.word_of(slot)] = tag
                found = slot, tag
        if found is None:
            if len(self._full) >= FULL_SETS:
                self._full.clear()
            self._full[first, quota_slot] = tick + FULL_TICKS
        return found

    def forget(self, quota_slot: int) -> None:
        """Give back all places of a quota: its slot is given to another one.

        Raises:
            Busy: a process is at one of the sets.
        """
        words = self._ground.table.words
        tags = words[HEADER_WORDS : HEADER_WORDS + PLACES].tolist()
        for place, tag in enumerate(tags):
            if tag >> _OWNER_SHIFT == quota_slot + 1:
                with self._ground.file.held((HEADER_WORDS + place // SET * SET) * WORD, 1.0):
                    words[HEADER_WORDS + place] = 0

    def count(self, quota_slot: int) -> int:
        """How many places a quota's users have."""
        tags = self._ground.table.words[HEADER_WORDS : HEADER_WORDS + PLACES].tolist()
        return sum(tag >> _OWNER_SHIFT == quota_slot + 1 for tag in tags)

    def _room(self, first: int, quota_slot: int, tick: int) -> int:
        """The place in a set that a new user of the quota may have; -1: none. The set's lock is held."""
        words = self._ground.table.words
        at = HEADER_WORDS + first
        tags = words[at : at + SET].tolist()
        mine = [tag >> _OWNER_SHIFT == quota_slot + 1 for tag in tags]
        crowded = sum(mine) >= MOST_OF_SET
        if not crowded and 0 in tags:
            return tags.index(0)
        for place, tag in enumerate(tags):
            if mine[place] or (not crowded and tag):
                slot = FIRST_PLACE + first + place
                with suppress(Busy), self._ground.file.held(self._ground.lock(slot), 0.0):
                    if self._idle(slot, tick):
                        words[at + place] = 0  # whoever still has it in mind sees that it is gone
                        return place
        return -1

    def _idle(self, slot: int, tick: int) -> bool:
        table, base = self._ground.table, layout.region_of(slot)
        words = table.words
        if not words[base + layout.READY]:
            return True
        if words[base + layout.ORPHAN_UNTIL] > tick:
            return False
        if any(any(words[start:end:step].tolist()) for start, end, step in layout.columns_at(base)):
            return False
        mask = words[base + layout.MASK]
        for number, window in enumerate(WINDOWS):
            if mask & 1 << WANTED + number and table.window(base, window, tick):
                return False
        period = table.time.period(table.kind(base), tick)
        if mask & MONEY_BIT and words[base + layout.SPENT] and words[base + layout.PERIOD] >= period.number:
            return False
        month = table.time.period(MONTHLY, tick)
        return not (mask & CAP_BIT and words[base + layout.MONTH_SPENT] and words[base + layout.MONTH] >= month.number)
