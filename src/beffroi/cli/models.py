# SPDX-License-Identifier: Apache-2.0
"""`beffroi models`: what is served, by which engines, for how much, and whether it can be.

In: the configuration in force and what the workers find. Out: a table, JSON, or CSV.
"""

from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.show import Column

_CLASSES = ("input", "cached", "output", "reasoning")


@click.command()
@data_option
@show.output_options()
def models(data: Path | None, out: show.Output) -> None:
    """List the models that are served. Prices are for a million tokens.

    A model is ready, degraded (an engine of its pool is out), or down.
    """
    found = call(data_directory(data), "GET", "/api/v1/models")["models"]
    columns = [
        Column("MODEL", "id"),
        Column("STATE"),
        Column("INPUT", "input_price"),
        Column("OUTPUT", "output_price"),
        Column("CACHED", "cached_price", drop=3),
        Column("REASONING", "reasoning_price", drop=2),
        Column("", "currency"),
        Column("CONTEXT"),
        Column("ENGINES", shrinks=True),
        Column("ALIASES", shrinks=True, drop=4),
        Column("ENDPOINTS", shrinks=True, drop=5),
    ]
    rows = [_row(model) for model in found]
    empty = "No model is served: name an engine with `beffroi serve --engine URL`, or write one in the configuration."
    out.table(columns, rows, document=found, empty=empty)
    for model in found if out.kind == "people" else ():
        if (to_come := model["next_price"]) is not None:
            amounts = ", ".join(f"{kind} {_amount(to_come, kind).text}" for kind in ("input", "output"))
            click.echo(f"{model['id']}: from {to_come['effective']} on {amounts}")


def _row(model: dict[str, Any]) -> list[show.Value]:
    price = model["price"]
    return [
        model["id"],
        show.state(model["state"]),
        *(_amount(price, kind) for kind in ("input", "output", "cached", "reasoning")),
        price["currency"],
        model["max_model_len"],
        ", ".join(_engine(engine) for engine in model["engines"]) or "none",
        ", ".join(model["aliases"]) or None,
        ", ".join(model["endpoints"]),
    ]


def _amount(price: dict[str, Any], kind: str) -> show.Cell:
    nano = price[f"{kind}_nano"]
    return show.money(nano, price["currency"], 2) if nano else show.Cell("free", "0", right=True)


def _engine(engine: dict[str, Any]) -> str:
    return engine["name"] if engine["state"] in ("up", "untried") else f"{engine['name']} ({engine['state']})"
