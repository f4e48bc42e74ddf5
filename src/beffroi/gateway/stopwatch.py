# SPDX-License-Identifier: Apache-2.0
"""Each room's own time, measured on one exchange in 256 so that the others pay nothing for it.

In: the flow. Out: a twin of it whose rooms are timed, adding to `WorkerMetrics.room_ns` and `room_calls`. Own time is
exclusive: what a room spends asleep, or in another room that it wakes, is not its own.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from types import FunctionType
from typing import Any, cast

from beffroi.core.clock import Clock
from beffroi.core.exchange import Exchange
from beffroi.telemetry.metrics import ROOMS, WorkerMetrics

ONE_IN = 256
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
    """A room that may sleep: timed while it is awake. It is its own iterator, as `await` asks for one."""

    def __init__(self, room: Coroutine[Any, Any, Any], watch: Stopwatch, number: int, x: Exchange) -> None:
        self._room, self._watch, self._number, self._x = room, watch, number, x
        self._again = False

    def __await__(self) -> "_Stepped":
        return self

    def __iter__(self) -> "_Stepped":
        return self

    def __next__(self) -> Any:
        return self._step(self._room.send, None)

    def throw(self, *error: Any) -> Any:
        """An error reaches the room where it sleeps."""
        return self._step(self._room.throw, *error)

    def _step(self, go: Callable[..., Any], *what: Any) -> Any:
        self._watch.enter(self._number, again=self._again)
        ended = True
        try:
            waits = go(*what)
            ended = False
        finally:
            self._watch.leave()
            relay = self._x.relay
            if relay is not None and ended:
                vars(relay).pop("data", None)  # it would hold itself, and be kept until the next collection
        if relay is not None and not self._again:  # what comes in while the room sleeps is its work too
            relay.data = _timed(relay.data, self._watch, self._number, again=True)
        self._again = True
        return waits


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
