# SPDX-License-Identifier: Apache-2.0
"""Room 2, admit: what the request may use at most and what it will use probably, reserved over all limits or not at all.

In: a parsed request and its key. Out: `x.ticket`, `x.price`, `x.max_tokens`; or `LimitExceeded`, `BudgetExceeded`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from beffroi.core.clock import Clock
from beffroi.core.errors import CountersUnavailable
from beffroi.core.exchange import PAUSE, TURN, Exchange
from beffroi.core.money import MILLION
from beffroi.core.price import bound_of, price_at
from beffroi.core.snapshot import ModelSpec
from beffroi.gateway.quota.estimate import Estimator
from beffroi.gateway.quota.port import Counters, Held, Needs
from beffroi.gateway.quota.terms import Ask, Busy, Used
from beffroi.wire.openai.request import Request

WAIT_SECONDS = 0.020
TEMPLATE_TOKENS = 512  # what a chat template may add to the bytes of a request
TOOL_TOKENS = 1024
MEDIA_TOKENS = 16384


class Admitting(Protocol):
    """What admit needs of the house."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    counters: Counters
    estimator: Estimator


def input_bound(x: Exchange, spec: ModelSpec) -> int:
    """Most input tokens the request can have: no tokenizer makes more tokens than bytes.

    The context bounds each text of it; completions and embeddings may bring several.
    """
    request: Request = x.request
    bound = len(x.body) + TEMPLATE_TOKENS + TOOL_TOKENS * request.has_tools + MEDIA_TOKENS * request.media
    texts = 1 if request.endpoint == "chat" else max(request.n, request.inputs)
    return min(bound, spec.max_model_len * texts) if spec.max_model_len else bound


def output_limit(x: Exchange, spec: ModelSpec, *, must: bool) -> tuple[int | None, int]:
    """(bound to send per answer, bound to reserve for all answers).

    More than the model can give is clamped, not refused; more than its context holds is left out, so that the engine
    takes what is left of it. A hard limit on money (`must`) needs a bound: the model's default is sent where there is none.
    """
    request = x.request
    if request.endpoint == "embeddings":
        return None, 0
    bound: int | None = request.max_tokens
    most = spec.max_output or spec.max_model_len
    if bound is None and must:
        bound = min(spec.default_max_tokens, most) if most else spec.default_max_tokens
    elif bound is not None and most is not None and bound >= most:
        bound = spec.max_output
    return bound, (bound or most or spec.default_max_tokens) * request.n


async def admit(x: Exchange, house: Admitting) -> None:
    """Reserve what the request needs under every limit of its key and of the quotas that match it.

    Raises:
        LimitExceeded: the error names the limit, what is left, and when it returns.
        CountersUnavailable: the counters stay locked for 20 ms, and there is a hard limit on money.
    """
    key, spec = x.key, x.model.spec
    counters, user = house.counters, x.request.user
    needs = counters.needs(key, spec.id)  # type: ignore[arg-type]  # authenticate has set it
    prices = spec.prices
    always = len(prices) == 1 and not prices[0].effective
    x.price = price = prices[0] if always else price_at(prices, x.wall_ns // 1_000_000_000)
    x.max_tokens, reserve = output_limit(x, spec, must=needs.hard)
    likely_input, likely_output = house.estimator.expect(spec.id, len(x.body), reserve)
    x.input_estimate = likely_input
    bound = bound_of(input_bound(x, spec), reserve, price) if needs.hard else 0
    estimate = (likely_input * price.input + likely_output * price.output) // MILLION if needs.soft else 0
    x.ask = ask = Ask(likely_input + likely_output, likely_output, bound, estimate)
    if x.model.fallbacks:
        x.ask = ask = _with_fallbacks(x, house, ask, needs)
    try:  # the way of nearly every request, without a closure
        x.ticket = counters.reserve(key, spec.id, user, ask)  # type: ignore[arg-type]
    except Busy:
        x.ticket = await _wait(
            x,
            house,
            lambda: counters.reserve(key, spec.id, user, ask),  # type: ignore[arg-type]
            lambda: counters.reserve_alone(key, spec.id, user, ask),  # type: ignore[arg-type]
        )


async def _wait(x: Exchange, house: Admitting, again: Callable[[], Held], alone: Callable[[], Held]) -> Held:
    """Ask again each millisecond while the counters are busy; after 20 ms decide alone."""
    deadline = house.loop.time() + WAIT_SECONDS
    while house.loop.time() < deadline:
        house.loop.call_later(0.001, x.resume, TURN)
        x.awaiting = TURN
        await PAUSE
        try:
            return again()
        except Busy:
            continue
    return alone()


def _with_fallbacks(x: Exchange, house: Admitting, ask: Ask, needs: Needs) -> Ask:
    """What the dearest of the model and its fallbacks may need, and in `x.fallbacks` those that may take this request.

    The key must be permitted a fallback as any other model, and the fallback must serve what is asked for. Quotas of a
    fallback are reserved when it takes over (`take_over`); what they need to know of the request is in the ask already.
    """
    key = x.key
    assert key is not None  # noqa: S101 - authenticate came first
    x.fallbacks = tuple(
        model
        for model in x.model.fallbacks
        if x.endpoint in model.spec.endpoints and (key.models is None or model.spec.id in key.models)
    )
    for model in x.fallbacks:
        spec: ModelSpec = model.spec
        its = house.counters.needs(key, spec.id)
        must, soft = needs.hard or its.hard, needs.soft or its.soft
        price = price_at(spec.prices, x.wall_ns // 1_000_000_000)
        reserve = output_limit(x, spec, must=must)[1]
        likely_input, likely_output = house.estimator.expect(spec.id, len(x.body), reserve)
        ask = Ask(
            max(ask.tokens, likely_input + likely_output),
            max(ask.output, likely_output),
            max(ask.bound, bound_of(input_bound(x, spec), reserve, price)) if must else ask.bound,
            max(ask.estimate, (likely_input * price.input + likely_output * price.output) // MILLION)
            if soft
            else ask.estimate,
        )
    return ask


async def take_over(x: Exchange, house: Admitting, model: Any) -> None:
    """Go on with the next fallback: its price, its bounds and its own quotas, for the rest the reservation that was made.

    Raises:
        LimitExceeded: a quota of the fallback has no room: the request ends here, and the error says which.
        CountersUnavailable: as `admit`.
    """
    key, spec = x.key, model.spec
    counters, user, ask = house.counters, x.request.user, x.ask
    assert key is not None  # noqa: S101 - authenticate came first
    x.fallbacks = x.fallbacks[x.fallbacks.index(model) + 1 :]
    ticket = x.ticket
    try:
        x.ticket = counters.move(ticket, key, spec.id, user, ask)
    except Busy:
        x.ticket = await _wait(
            x,
            house,
            lambda: counters.move(ticket, key, spec.id, user, ask),
            lambda: _stay(ticket, counters.needs(key, spec.id)),
        )
    x.model, x.spent = model, len(x.tried)
    x.price = price_at(spec.prices, x.wall_ns // 1_000_000_000)
    x.max_tokens, reserve = output_limit(x, spec, must=counters.needs(key, spec.id).hard)
    x.input_estimate = house.estimator.expect(spec.id, len(x.body), reserve)[0]


def _stay(ticket: Held, needs: Needs) -> Held:
    """The failure matrix for a fallback's own quotas: rates open, hard limits on money closed."""
    if needs.hard:
        raise CountersUnavailable("the counters of a fallback's budget cannot be reached; try again", retry_after=1.0)
    return ticket


def give_back(x: Exchange, house: Admitting) -> None:
    """Settle the reservation: what was used is counted, the rest can be spent at once."""
    if x.ticket is not None:
        tokens = x.tokens
        made = tokens.completion
        house.counters.settle(x.ticket, Used(tokens.input + tokens.cached + made, made, x.cost.total))
