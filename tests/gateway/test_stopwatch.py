# SPDX-License-Identifier: Apache-2.0
"""The stopwatch: own time of rooms, asleep time left out, errors and values passed through.

In: a small flow over a scripted clock. Out: what each room is said to have taken.
"""

from typing import Any

import pytest

from beffroi.core.exchange import PAUSE, ClientGone, Exchange
from beffroi.gateway import stopwatch
from beffroi.telemetry.metrics import ROOMS, WorkerMetrics


class Clock:
    """Time goes on only when told."""

    now = 0

    def mono_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now


CLOCK = Clock()
TRACE: list[str] = []


def spend(ns: int) -> None:
    CLOCK.now += ns


def authenticate(x: Exchange, house: Any) -> None:
    spend(5)


async def read(x: Exchange, house: Any) -> str:
    spend(7)
    x.awaiting = "body"
    await PAUSE
    spend(11)
    return "value"


async def admit(x: Exchange, house: Any) -> None:
    spend(1)


async def inspect(x: Exchange, house: Any) -> None:
    spend(1)


def route(x: Exchange, house: Any) -> None:
    spend(1)


async def relay(x: Exchange, house: Any) -> None:
    spend(1)


def settle(x: Exchange, house: Any) -> None:
    spend(3)


def give_back(x: Exchange, house: Any) -> None:
    spend(2)


async def intend(x: Exchange, house: Any) -> None:
    spend(1)


def record(x: Exchange, house: Any) -> None:
    spend(13)


async def flow(x: Exchange, house: Any) -> None:
    try:
        authenticate(x, house)
        TRACE.append(await read(x, house))
    except ClientGone:
        TRACE.append("gone")
    finally:
        settle(x, house)
        give_back(x, house)
        record(x, house)


@pytest.fixture
def walk() -> tuple[Exchange, WorkerMetrics, Any]:
    """An exchange that is about to walk, timed."""
    TRACE.clear()
    metrics = WorkerMetrics(0, "boot")
    x = Exchange(None, "req_1", 0, 0)  # type: ignore[arg-type]
    return x, metrics, stopwatch.timed_flow(flow, metrics, CLOCK)


def taken(metrics: WorkerMetrics) -> dict[str, tuple[int, int]]:
    rooms = zip(ROOMS, metrics.room_ns, metrics.room_calls, strict=True)
    return {room: (ns, calls) for room, ns, calls in rooms if calls}


def test_a_room_s_sleep_is_not_its_own_time(walk: Any) -> None:
    """It counts what a room does before and after it sleeps, once as a call."""
    x, metrics, timed = walk
    x.start(timed(x, None))
    spend(1_000_000)
    assert x.resume("body")
    assert TRACE == ["value"]
    assert taken(metrics) == {"authenticate": (5, 1), "read": (18, 1), "settle": (5, 2), "record": (13, 1)}


def test_an_error_reaches_the_room_that_sleeps(walk: Any) -> None:
    """A client who leaves is thrown into the timed flow as into the plain one, and it settles."""
    x, metrics, timed = walk
    x.start(timed(x, None))
    x.leave()
    assert TRACE == ["gone"]
    assert taken(metrics)["read"] == (7, 1)
    assert taken(metrics)["record"] == (13, 1)
