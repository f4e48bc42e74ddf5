# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: one attempt on the engine that was chosen; the flow sleeps here once for the whole answer.

In: an exchange with an engine and an intent in the journal. Out: the answer relayed, its last bytes in `x.last`;
or `EngineError` while nothing has reached the client, which lets the flow try another engine.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from beffroi.core.clock import Clock
from beffroi.core.errors import EngineError
from beffroi.core.exchange import PAUSE, Exchange
from beffroi.core.snapshot import Settings
from beffroi.gateway.upstream.connection import EngineConnection
from beffroi.gateway.upstream.dialect import ONE_TEXT_PER_CALL, PATHS, body_for, inputs_of, single_input
from beffroi.gateway.upstream.endpoint import Endpoint
from beffroi.gateway.upstream.plain import OneEmbedding, PlainAnswer, joined_embeddings
from beffroi.gateway.upstream.stream import StreamAnswer


class Relaying(Protocol):
    """What relay needs of the house."""

    endpoints: dict[str, Endpoint]
    clock: Clock
    tick: float


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
    settings: Settings = x.view.settings
    endpoint = house.endpoints.get(x.member.name)
    if endpoint is None:
        raise EngineError("The engine has left the configuration.", retry_after=1)
    upstream_model = x.model.upstream[x.member.name]
    overdue = house.tick + settings.answer_timeout
    if x.endpoint == "embeddings" and x.request.inputs > 1 and x.member.kind in ONE_TEXT_PER_CALL:
        answers: list[OneEmbedding] = []
        for one in inputs_of(x.request):
            single = OneEmbedding(x, house.clock, overdue)
            await _exchange(x, endpoint, single, "embeddings", single_input(x.request, upstream_model, one))
            answers.append(single)
        x.last = joined_embeddings(x, answers)
        return
    body = body_for(x, upstream_model, x.member.kind)
    answer: Any
    if x.request.stream:
        first, between = settings.first_token_timeout, settings.between_tokens_timeout
        answer = StreamAnswer(x, house.clock, house.tick, first=first, between=between, head_lines=head_lines(x, house))
    else:
        answer = PlainAnswer(x, house.clock, overdue)
    await _exchange(x, endpoint, answer, PATHS[x.endpoint], body)


async def _exchange(x: Exchange, endpoint: Endpoint, answer: Any, path: str, body: bytes) -> None:
    """One request and its answer on a connection.

    A kept connection that the engine closed just as we wrote is replaced once by a new one: nothing was heard on it, so
    nothing was served.
    """
    head = endpoint.head(path, x.id, len(body))
    connection = endpoint.take()
    reused = connection is not None
    if connection is None:
        connection = await _dial(x, endpoint)
    while True:
        x.relay = x.awaiting = answer
        connection.send(answer, head, body)
        try:
            await PAUSE
        except EngineError:
            if not reused or connection.saw_bytes or not connection.closing:
                raise
            reused = False
            connection = await _dial(x, endpoint)
        else:
            return


async def _dial(x: Exchange, endpoint: Endpoint) -> EngineConnection:
    dialing = _Dialing(x)
    endpoint.dial(dialing.done)
    x.awaiting = dialing
    await PAUSE
    assert dialing.connection is not None  # noqa: S101 - done() raised the error otherwise
    return dialing.connection
