# SPDX-License-Identifier: Apache-2.0
"""Room 6, settle: what was used, by class, and what it costs; the reservation's rest goes back.

In: an exchange that has ended, in whatever way. Out: `x.tokens`, `x.cost`, `x.source`; counters and estimates told.
Usage comes from the engine. Where it could not (client gone, engine gone) it is what was seen: a token per event that
passed, and for the prompt the lowest tokens-per-byte ratio of the model's recent answers, so that nobody pays for more
than the engine made; `source` says which.
"""

from typing import Protocol

from beffroi.core.exchange import Exchange
from beffroi.core.price import Tokens, cost_of


class Estimates(Protocol):
    """What the meter asks of the learned ratios."""

    def lowest_input(self, model: str, body_bytes: int) -> int:
        """A low estimate of a body's input tokens."""
        ...

    def learn(self, model: str, body_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """An engine's own counts of one answer."""
        ...


def seen_so_far(x: Exchange, estimator: Estimates, counted: int) -> Tokens:
    """Tokens of a stream that is under way or was cut, as seen here: `counted` events with text have passed."""
    if counted <= 0:
        return x.tokens
    return Tokens(estimator.lowest_input(x.model.spec.id, len(x.body)), 0, counted, 0)


def settle(x: Exchange, estimator: Estimates, counted: int) -> None:
    """Close the account of an exchange; `counted` is what its relay counted.

    An engine's usage teaches the estimates. Of an answer that came whole without usage the relay has set tokens and source,
    as it has shown them.
    """
    if x.source == "engine":
        if x.outcome == "complete":
            tokens = x.tokens
            estimator.learn(x.model.spec.id, len(x.body), tokens.input + tokens.cached, tokens.completion)
    elif counted > 0:
        x.tokens, x.source = seen_so_far(x, estimator, counted), "relayed"
    x.cost = cost_of(x.tokens, x.price)
