# SPDX-License-Identifier: Apache-2.0
"""Once a second, everything that depends on time: one sweep instead of a timer per request.

In: the worker's connections and exchanges. Out: clients and engines cut that are too slow, comments in long silences,
progress records of running streams, refusals of strangers written down, idle engine connections closed.
"""

from typing import TYPE_CHECKING

from beffroi.core.errors import ClientTimeout, EngineTimeout
from beffroi.core.exchange import Exchange
from beffroi.core.record import REFUSALS, Refusals
from beffroi.gateway.journal import records
from beffroi.gateway.meter.settle import seen_so_far
from beffroi.gateway.server import BODYING, FRESH, HEAD, IDLE, LINGERING, ClientConnection
from beffroi.wire import http

if TYPE_CHECKING:
    from beffroi.gateway.worker import Worker

BODY_PROGRESS = 4 << 10  # bytes that a body must bring within its time-out, or be complete: a drip is no progress
LINGER_SECONDS = 2.0


def sweep(worker: "Worker") -> None:
    """One round."""
    house = worker.house
    clock = house.clock
    now = house.tick = clock.mono_ns() / 1e9
    house.date = http.date_line()
    for connection in list(worker.connections):
        _judge(connection, now)
    for x in list(house.active):
        _watch(x, worker, now)
    for endpoint in house.endpoints.values():
        endpoint.sweep(now)
    if house.refused:
        counts, house.refused = house.refused, {}
        house.journal.append(REFUSALS, Refusals(clock.wall_ns() // 1_000_000_000, counts))


def _judge(connection: ClientConnection, now: float) -> None:
    """A client that is too slow."""
    settings = connection.house.view.settings
    phase, waited = connection.phase, now - connection.since
    if phase in (FRESH, HEAD):
        if waited > settings.head_timeout:
            connection.time_out(
                ClientTimeout(f"The head of the request did not come within {settings.head_timeout:g} s.")
            )
    elif phase == BODYING:
        if waited > settings.body_timeout:
            if connection.reader.body_bytes - connection.reader.noted < BODY_PROGRESS:
                connection.time_out(
                    ClientTimeout(f"The body of the request did not come within {settings.body_timeout:g} s.")
                )
            else:
                connection.reader.noted, connection.since = connection.reader.body_bytes, now
    elif phase == IDLE:
        if waited > settings.keep_alive:
            connection.transport.close()
    elif phase == LINGERING and waited > LINGER_SECONDS and not connection.transport.get_write_buffer_size():
        connection.transport.abort()
    if connection.ended and connection.exchange is not None:
        connection.probe(connection.exchange)
    if _stalled(connection, now) > settings.write_timeout:
        connection.transport.abort()


def _stalled(connection: ClientConnection, now: float) -> float:
    """For how many seconds a client has taken none of the bytes that wait for it.

    What an engine adds meanwhile is no progress, so it counts what has left: bytes handed over, less those that wait.
    """
    waiting = connection.waiting()
    x = connection.exchange
    relay = x.relay if x is not None and x.request is not None and x.request.stream else None
    taken = (relay.sent if relay is not None else 0) - waiting
    if not waiting or relay is not connection.stalled_relay or taken > connection.taken:
        connection.stalled_relay, connection.taken, connection.stalled_at = relay, taken, now
    return now - connection.stalled_at


def _watch(x: Exchange, worker: "Worker", now: float) -> None:
    """An engine that is too slow, and a stream that runs."""
    house, relay = worker.house, x.relay
    if relay is None or relay.connection is None:
        return
    settings, streamed = x.view.settings, x.request.stream
    if relay.moved(now) and x.begun:
        records.progress(x, house, seen_so_far(x, house.estimator, relay.counted))
    if relay.late(now):
        relay.stop()
        seconds = settings.answer_timeout
        if streamed:
            seconds = settings.between_tokens_timeout if relay.counted else settings.first_token_timeout
        relay.lost(EngineTimeout(f"The engine was silent for {seconds:g} s.", retry_after=1))
    elif streamed and now - relay.quiet_since >= settings.comment_interval and not x.client.waiting():
        relay.comment(now)
