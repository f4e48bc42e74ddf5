# SPDX-License-Identifier: Apache-2.0
"""The parts of the rig that stand for the world: a loop, sockets, a journal, counters.

In: what the rooms do. Out: lists of what was done, and levers to hold or refuse it.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from beffroi.core.errors import BeffroiError
from beffroi.core.record import Intent, Payload, Settlement
from beffroi.core.snapshot import KeyRecord, QuotaRecord
from beffroi.gateway.quota.port import Needs
from beffroi.gateway.quota.terms import NO_TICKET, Ask, Ticket, Used, is_hard
from tests.gateway.quota.support import HandClock


class Loop:
    """What the rooms ask of an event loop; `turn` runs what was asked to run soon."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        return self._clock.mono / 1e9

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self._soon.append((call, arguments))

    def call_later(self, _: float, call: Callable[..., object], *arguments: Any) -> None:
        self._soon.append((call, arguments))

    def create_task(self, task: Coroutine[Any, Any, None]) -> None:
        task.close()
        raise AssertionError("a connection was dialled behind the rig's back")

    def turn(self) -> None:
        while self._soon:
            call, arguments = self._soon.popleft()
            call(*arguments)


class Transport:
    """A socket that is none: keeps what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.aborted = self.closed = self.paused = False
        self.buffered = 0

    def write(self, data: bytes) -> None:
        assert not self.aborted, "written to after it was aborted"
        self.writes.append(bytes(data))

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Book:
    """A journal in memory. What may follow a record follows it in the next turn, as with the real one.

    Attributes:
        holds: while it is set nothing follows, until `go_on`.
        refuses: the error that the next intents raise.
    """

    healthy = True
    holds = False
    refuses: BeffroiError | None = None

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held: list[Callable[[BeffroiError | None], None]] = []
        self.records: list[Payload] = []

    def _then(self, then: Callable[[BeffroiError | None], None]) -> None:
        if self.holds:
            self._held.append(then)
        else:
            self._loop.call_soon(then, None)

    def go_on(self, error: BeffroiError | None = None) -> None:
        """Say to all who wait that their records are written, or why not."""
        held, self._held = self._held, []
        for then in held:
            then(error)
        self._loop.turn()

    def intent(self, payload: Intent, then: Callable[[BeffroiError | None], None]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.records.append(payload)
        self._then(then)

    def settle(self, payload: Settlement, then: Callable[[BeffroiError | None], None] | None) -> None:
        self.records.append(payload)
        if then is not None:
            self._then(then)

    def append(self, _: int, payload: Payload) -> None:
        self.records.append(payload)

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]


class NoLimits:
    """Counters that admit everything and keep what was asked and used."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.used: list[Used] = []

    def know(self, _: Iterable[QuotaRecord]) -> None:
        pass

    def needs(self, key: KeyRecord, _: str) -> Needs:
        return Needs(is_hard(key.limits), key.limits.soft_budget is not None)

    def reserve(self, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Ticket:
        self.asks.append(ask)
        return NO_TICKET

    def move(self, ticket: Ticket, key: KeyRecord, model: str, end_user: str | None, ask: Ask) -> Ticket:
        return ticket

    def settle(self, _: Ticket, used: Used) -> None:
        self.used.append(used)
