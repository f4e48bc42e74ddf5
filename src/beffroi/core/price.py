# SPDX-License-Identifier: Apache-2.0
"""Token classes, prices with a date, and what a request costs: shared by the gateway's meter and the control plane.

In: token counts and a price list. Out: amounts per class in nano-euro, exact integers.
"""

from collections.abc import Sequence

import msgspec

from beffroi.core.money import amount, upper_bound


class Tokens(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Counts per class; the classes do not overlap: `input` leaves out `cached`, `output` leaves out `reasoning`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def completion(self) -> int:
        """All that the model made."""
        return self.output + self.reasoning


class Price(msgspec.Struct, frozen=True, gc=False):
    """Nano-units per million tokens, from a date on.

    Attributes:
        version: name of this price line; each record pins it.
        effective: Unix seconds from which it holds.
        cached: price of cached input; None: the input price.
    """

    version: str
    effective: int = 0
    currency: str = "EUR"
    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int | None = None

    def dearest_output(self) -> int:
        """The highest price that a token made by the model can have."""
        return max(self.output, self.reasoning)


class Cost(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Nano-units per class; each was rounded half up once."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """The sum, exact."""
        return self.input + self.cached + self.output + self.reasoning


FREE = Price(version="free")
NO_COST = Cost()


def price_at(prices: Sequence[Price], unix_seconds: int) -> Price:
    """The line in force at a time: the latest whose date has come. `FREE` when there is none."""
    best = FREE
    for price in prices:
        if price.effective <= unix_seconds and (best is FREE or price.effective >= best.effective):
            best = price
    return best


def cost_of(tokens: Tokens, price: Price) -> Cost:
    """What `tokens` cost at `price`."""
    cached = tokens.cached
    reasoning = tokens.reasoning
    return Cost(
        amount(tokens.input, price.input),
        amount(cached, price.input if price.cached is None else price.cached) if cached else 0,
        amount(tokens.output, price.output),
        amount(reasoning, price.reasoning) if reasoning else 0,
    )


def bound_of(input_tokens: int, output_tokens: int, price: Price) -> int:
    """An upper bound in nano-units for a request of at most so many tokens (decision D18).

    Input is held at the dearer of the input and cached prices, output at its dearest class. One nano-unit per class
    is added, so that half-up rounding of split classes cannot pass the bound.
    """
    dearest_input = max(price.input, price.cached or 0)
    held = upper_bound(input_tokens, dearest_input) + upper_bound(output_tokens, price.dearest_output())
    return held + 2 if held else 0
