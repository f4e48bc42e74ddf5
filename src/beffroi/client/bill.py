# SPDX-License-Identifier: Apache-2.0
"""What an answer cost, and what energy it took, as far as that is known.

In: an answer of the SDK (or the chunk of a stream that has `usage`), and tariffs by model. Out: a `Bill`.
Amounts are computed as the gateway computes them, to the nano-unit, so that they add up to its invoice. Nothing is
guessed: what the tariff does not state is None.
"""

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from beffroi.core.money import parse_nano, to_decimal
from beffroi.core.price import Price, Tokens, cost_of
from beffroi.wire.openai.answer import read_usage

Amount = str | int | float | Decimal


class Tariff(NamedTuple):
    """A model's line in a price list, per million tokens.

    Attributes:
        reasoning: the output price when left out; `cached`: the input price.
        kwh: energy per million tokens, in and out, as the model's data state it.
    """

    input: Amount = 0
    output: Amount = 0
    reasoning: Amount | None = None
    cached: Amount | None = None
    currency: str = "EUR"
    kwh: Amount | None = None


class Bill(NamedTuple):
    """One answer's account.

    Attributes:
        tokens: by class; None: the answer does not count them.
        cost: in whole units of `currency`, exact; None: no tariff for this model, or no tokens.
        energy_wh: watt-hours; None: not stated.
        machine: where it was made, by the gateway's `backend`.
    """

    model: str
    tokens: Tokens | None
    cost: Decimal | None
    currency: str
    energy_wh: Decimal | None
    machine: str | None


def bill(answer: Any, tariffs: Mapping[str, Tariff] | None = None) -> Bill:
    """The bill of an answer.

    Args:
        answer: a chat completion, completion, embeddings answer, or the last chunk of a stream; a dict does as well.
        tariffs: by the public name of the model, which is the one that answers carry.
    """
    content: dict[str, Any] = answer if isinstance(answer, dict) else answer.model_dump()
    model = str(content.get("model") or "")
    usage = read_usage(dict(content.get("usage") or {}))
    backend = content.get("backend")
    machine = backend.get("machine_name") if isinstance(backend, dict) else None
    tokens = None if usage is None else usage.tokens
    tariff = (tariffs or {}).get(model)
    if tokens is None or tariff is None:
        return Bill(model, tokens, None, "" if tariff is None else tariff.currency, None, machine)
    cost = to_decimal(cost_of(tokens, _price(tariff)).total)
    energy = None
    if tariff.kwh is not None:
        energy = Decimal(str(tariff.kwh)) * (tokens.input + tokens.cached + tokens.completion) / 1000
    return Bill(model, tokens, cost, tariff.currency, energy, machine)


def _price(tariff: Tariff) -> Price:
    output = parse_nano(tariff.output)
    return Price(
        version="tariff",
        effective=int(time.time()),
        currency=tariff.currency,
        input=parse_nano(tariff.input),
        output=output,
        reasoning=output if tariff.reasoning is None else parse_nano(tariff.reasoning),
        cached=None if tariff.cached is None else parse_nano(tariff.cached),
    )
