# SPDX-License-Identifier: Apache-2.0
"""Room 4, route: the verb, and whether a failed attempt may be followed by another.

In: an admitted exchange. Out: `x.member`; or `NoEngine`.
There are at most three attempts, within the retry budget, never once a byte has reached the client, never after a whole
answer was waited for in vain. Then the fallbacks of the model have their turn, each with as many.
"""

from typing import Any, Protocol

from beffroi.core.errors import EngineError, EngineRejected, EngineTimeout
from beffroi.core.exchange import Exchange
from beffroi.gateway.routing.pool import MAX_ATTEMPTS, RetryBudget
from beffroi.telemetry.metrics import EngineMetrics, WorkerMetrics


class Routing(Protocol):
    """What route needs of the house."""

    retries: RetryBudget
    metrics: WorkerMetrics
    tick: float


def route(x: Exchange, house: Routing) -> None:
    """Choose the engine for the next attempt.

    Raises:
        NoEngine: the model's pool is empty.
    """
    member = x.model.pool.choose(x.tried, house.tick)
    if not x.tried:
        house.retries.request(house.tick)
    x.member = member
    x.tried = (*x.tried, member.name)
    member.in_flight += 1
    noted = house.metrics.engines.get(member.name)
    if noted is not None:
        noted.requests += 1


def release(x: Exchange, house: Routing) -> None:
    """The attempt is over: what is in hand goes down, and the engine's health hears how it ended."""
    member = x.member
    if member is None:
        return
    x.member_name, x.member_kind = member.name, member.kind
    x.member = None
    member.in_flight -= 1
    if x.outcome == "complete":
        member.succeeded()
    elif x.outcome in ("engine_gone", "engine_timeout") or _is_fault(x.refusal):
        _failed(member.name, house)
        member.failed(house.tick)
    elif isinstance(x.refusal, EngineRejected):
        member.succeeded()  # it answered; the request was at fault
    else:
        member.left()


def while_closed(x: Exchange, house: Routing) -> Any:
    """The first fallback with an engine to ask, where the model has none: who waits for engines that are known to be dead?

    One request at a time still tries whether they are back. None: stay with the model, for better or worse.
    """
    now = house.tick
    if x.model.pool.open(now):
        return None
    return _first_open(x, now)


def _first_open(x: Exchange, now: float) -> Any:
    return next((model for model in x.fallbacks if model.pool.open(now)), None)


def another_try(x: Exchange, house: Routing, failure: EngineError) -> Any:
    """Return when the exchange may try again: None, or the model that takes it over; otherwise raise what it failed of.

    Another model's first attempt is not taken from the retry budget: that protects the engines which fail, and these are
    others. There are as many as fallbacks, no more.

    Raises:
        EngineError: `failure`, when no further attempt may be made.
    """
    late_answer = isinstance(failure, EngineTimeout) and not x.request.stream and x.relay is not None
    if x.begun or late_answer:
        raise failure
    stand_in = None
    if len(x.tried) - x.spent >= MAX_ATTEMPTS or not house.retries.allow(house.tick):
        if not x.fallbacks:
            raise failure
        stand_in = _first_open(x, house.tick) or x.fallbacks[0]
    member, x.member = x.member, None
    member.in_flight -= 1
    member.failed(house.tick)
    x.member_name, x.member_kind = member.name, member.kind
    _failed(member.name, house).retries += 1
    x.first_ns = 0
    return stand_in


def _is_fault(error: BaseException | None) -> bool:
    return isinstance(error, EngineError)


def _failed(name: str, house: Routing) -> EngineMetrics:
    noted = house.metrics.engines.setdefault(name, EngineMetrics())
    noted.failures += 1
    return noted
