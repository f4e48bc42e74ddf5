# SPDX-License-Identifier: Apache-2.0
"""Each room's own time, measured on one exchange in sixteen so that the others pay nothing for it.

In: the flow. Out: a twin of it whose rooms are timed, adding to `WorkerMetrics.room_ns` and `room_calls`. Own time is
exclusive: what a room spends asleep, or in another room that it wakes, is not its own.
"""

from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from types import FunctionType
from typing import Any, cast

from beffroi.core.clock import Clock
from beffroi.core.exchange import Exchange
from beffroi.telemetry.metrics import ROOMS, WorkerMetrics

ONE_IN = 16
_ROOM_OF = {
    "authenticate": "authenticate", "read": "read", "admit": "admit", "inspect": "inspect", "route": "route", "relay": "relay",
    "settle": "settle", "give_back": "settle", "intend": "record", "record": "record",
}  # fmt: skip
_ASLEEP = ("read", "admit", "inspect", "relay", "intend")  # the rooms that may sleep

Flow = Callable[[Exchange, Any], Coroutine[Any, Any, None]]


class Stopwatch:
    """One clock for all timed exchanges of a worker: they run one at a time, nested at most."""

    __slots__ = ("_at", "_calls", "_now", "_ns", "_stack")

    def __init__(self, metrics: WorkerMetrics, clock: Clock) -> None:
        self._ns, self._calls = metrics.room_ns, metrics.room_calls
        self._now = clock.mono_ns
        self._stack: list[int] = []
        self._at = 0

    def enter(self, room: int, *, again: bool = False) -> None:
        """Time runs for `room` from now; `again`: it goes on after a sleep."""
        now = self._now()
        if self._stack:
            self._ns[self._stack[-1]] += now - self._at
        self._stack.append(room)
        self._calls[room] += not again
        self._at = now

    def leave(self) -> None:
        """Time runs for whoever was interrupted."""
        now = self._now()
        self._ns[self._stack.pop()] += now - self._at
        self._at = now


class _Stepped:
    """A room that may sleep: timed while it is awake."""

    def __init__(self, room: Coroutine[Any, Any, Any], watch: Stopwatch, number: int, x: Exchange) -> None:
        self._room, self._watch, self._number, self._x = room, watch, number, x

    def __await__(self) -> Generator[Any, Any, Any]:
        room, watch, again = self._room, self._watch, False
        step: Callable[[], Any] = lambda: room.send(None)  # noqa: E731 - replaced where an error is thrown in
        while True:
            watch.enter(self._number, again=again)
            try:
                waits = step()
            except StopIteration as end:
                return end.value
            finally:
                watch.leave()
            relay = self._x.relay
            if relay is not None and not again:
                relay.data = _timed(relay.data, watch, self._number, again=True)  # what comes in while the room sleeps
            again = True
            try:
                yield waits
            except BaseException as error:  # noqa: BLE001 - handed on to the room, as `await` itself does
                step = lambda error=error: room.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                step = lambda: room.send(None)  # noqa: E731


def _timed(room: Callable[..., Any], watch: Stopwatch, number: int, *, again: bool = False) -> Callable[..., Any]:
    @wraps(room)
    def timed(*args: Any, **options: Any) -> Any:
        watch.enter(number, again=again)
        try:
            return room(*args, **options)
        finally:
            watch.leave()

    return timed


def timed_flow(flow: Callable[..., Any], metrics: WorkerMetrics, clock: Clock) -> Flow:
    """The same function over the same names, but those of the rooms stand for timed ones."""
    watch = Stopwatch(metrics, clock)
    plain_flow = cast("FunctionType", flow)
    names = dict(plain_flow.__globals__)
    for name, room in _ROOM_OF.items():
        number, plain = ROOMS.index(room), names[name]
        if name in _ASLEEP:
            names[name] = lambda x, *rest, plain=plain, number=number: _Stepped(plain(x, *rest), watch, number, x)
        else:
            names[name] = _timed(plain, watch, number)
    return FunctionType(plain_flow.__code__, names, plain_flow.__name__)
