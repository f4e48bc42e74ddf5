# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: one attempt on the engine that was chosen; the flow sleeps here once for the whole answer.

In: an exchange with an engine and an intent in the journal. Out: the answer relayed, its last bytes in `x.last`;
or `EngineError` while nothing has reached the client, which lets the flow try another engine.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from beffroi.core.clock import Clock
from beffroi.core.errors import EngineError, EngineTimeout
from beffroi.core.exchange import PAUSE, Exchange
from beffroi.core.snapshot import Settings
from beffroi.gateway.upstream.connection import EngineConnection
from beffroi.gateway.upstream.dialect import ONE_TEXT_PER_CALL, PATHS, body_for, inputs_of, single_input
from beffroi.gateway.upstream.endpoint import Endpoint
from beffroi.gateway.upstream.plain import OneEmbedding, PlainAnswer, Ratios, joined_embeddings
from beffroi.gateway.upstream.stream import StreamAnswer

TICK_SECONDS = 1.0  # what `house.tick` may be behind: a time-out may come late, never early


class Relaying(Protocol):
    """What relay needs of the house."""

    endpoints: dict[str, Endpoint]
    clock: Clock
    tick: float

    @property
    def estimator(self) -> Ratios:
        """Learned ratios."""
        ...


H = TypeVar("H", bound=Relaying)


class _Dialing:
    """A connection being opened for an exchange that may leave meanwhile."""

    connection: EngineConnection | None = None

    def __init__(self, x: Exchange) -> None:
        self.x = x

    def done(self, connection: EngineConnection | None, error: EngineError | None) -> None:
        self.connection = connection
        if not self.x.resume(self, error) and connection is not None:
            connection.endpoint.give(connection, connection.endpoint.loop.time())


async def relay(x: Exchange, house: H, head_lines: Callable[[Exchange, H], bytes]) -> None:
    """Send the request and relay the answer; `head_lines` makes the head lines of a stream.

    Raises:
        EngineError: nothing has reached the client; another attempt may be made.
        EngineRejected: the engine found fault with the request.
        ClientGone: thrown in where the flow sleeps.
    """
    endpoint = house.endpoints.get(x.member.name)
    if endpoint is None:
        raise EngineError("The engine has left the configuration.", retry_after=1)
    x.relay = None  # of the attempt before
    calls = _calls(x, house, head_lines)
    for answer, path, body in calls:
        head = endpoint.head(path, x.id, len(body))
        connection = endpoint.take()
        reused = connection is not None
        while True:
            if connection is None:
                connection = await _dial(x, endpoint)
            x.relay = x.awaiting = answer
            connection.send(answer, head, body)
            try:
                await PAUSE
                break
            except EngineError as failure:
                # A kept connection that the engine closed just as we wrote is replaced once by a new one: nothing was
                # heard on it, so nothing was served.
                if not reused or connection.saw_bytes or isinstance(failure, EngineTimeout):
                    raise
                reused, connection = False, None
    if len(calls) > 1:
        x.last = joined_embeddings(x, [answer for answer, _, _ in calls])


def _calls(x: Exchange, house: H, head_lines: Callable[[Exchange, H], bytes]) -> list[tuple[Any, str, bytes]]:
    """What is asked of the engine: one call, or one for each text of an embeddings request."""
    settings: Settings = x.view.settings
    now = house.tick + TICK_SECONDS
    upstream_model, kind = x.model.upstream[x.member.name], x.member.kind
    if x.request.stream:
        first, between = settings.first_token_timeout, settings.between_tokens_timeout
        answer: Any = StreamAnswer(
            x, house.clock, now, house.estimator, first=first, between=between, head_lines=head_lines(x, house)
        )
        return [(answer, PATHS[x.endpoint], body_for(x, upstream_model, kind))]
    overdue = now + settings.answer_timeout
    if x.request.inputs > 1 and kind in ONE_TEXT_PER_CALL:
        inputs = inputs_of(x.request)
        return [
            (
                OneEmbedding(x, house.clock, overdue, house.estimator),
                "embeddings",
                single_input(x.request, upstream_model, one),
            )
            for one in inputs
        ]
    return [
        (PlainAnswer(x, house.clock, overdue, house.estimator), PATHS[x.endpoint], body_for(x, upstream_model, kind))
    ]


async def _dial(x: Exchange, endpoint: Endpoint) -> EngineConnection:
    dialing = _Dialing(x)
    endpoint.dial(dialing.done)
    x.awaiting = dialing
    await PAUSE
    assert dialing.connection is not None  # noqa: S101 - done() raised the error otherwise
    return dialing.connection
