# SPDX-License-Identifier: Apache-2.0
"""`beffroi usage`: requests, tokens and money, from the ledger.

In: a span of time, what to group by, whose. Out: a table with its sum, JSON, or CSV; amounts are exact.
"""

import re
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names, model_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys import reference
from beffroi.cli.keys.common import ANYWHERE
from beffroi.cli.show import Column

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CLASSES = ("input", "cached", "output", "reasoning")


class Moment(click.ParamType[str]):
    """A point in time, as control takes it: Unix seconds, or a day of the zone that budgets follow."""

    name = "moment"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`7d` ago, a day, or a day and time (of the local zone unless it says otherwise)."""
        if span := _SPAN.fullmatch(value):
            return str(int(time.time()) - int(span[1]) * _UNITS[span[2]])
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment; write 7d, 12h, 2026-01-31 or 2026-01-31T12:00:00", param, ctx)
        return value if _DAY.fullmatch(value) else str(int(moment.timestamp()))


@click.command()
@click.option(
    "--since",
    type=Moment(),
    help="From when on: 7d, 12h, 2026-01-31, 2026-01-31T12:00:00. The beginning when left out.",
)
@click.option("--until", type=Moment(), help="Until when, not included. Now when left out.")
@click.option(
    "--by",
    default="key,model",
    show_default=True,
    help="What to group by; of key, model, project, system, organisation, engine, endpoint, outcome, user, day, class.",
)
@click.option("--key", help="Of this key alone; a name takes all that have it.", shell_complete=key_names)
@click.option("--model", help="Of this model alone.", shell_complete=model_names)
@click.option("--organisation", "--org", metavar="ID", default=ANYWHERE, help="Of this organisation alone.")
@data_option
@show.output_options()
def usage(
    since: str | None,
    until: str | None,
    by: str,
    key: str | None,
    model: str | None,
    organisation: str,
    data: Path | None,
    out: show.Output,
) -> None:
    """Show requests, tokens and money.

    Days, in --by and as moments, begin when budgets' days do: at midnight of the setting gateway.time_zone.
    """
    asked = {"since": since, "until": until, "by": by, "key": key and reference(key), "model": model}
    asked["organisation"] = organisation
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = call(data_directory(data), "GET", f"/api/v1/usage?{query}")
    rows, groups = found["usage"], found["by"]
    classes = "class" in groups
    counts = ("tokens",) if classes else tuple(f"{kind}_tokens" for kind in _CLASSES)
    if classes:
        rows = [row | {"tokens": row[f"{row['class']}_tokens"]} for row in rows]
        rows = [row for row in rows if row["tokens"] or out.kind != "people"]
    columns = [
        *_group_columns(groups),
        Column("REQUESTS"),
        *(Column(name.removesuffix("_tokens").upper(), name, drop=_drop(name, rows)) for name in counts),
        Column("COST"),
        Column("", "currency"),
    ]
    places = show.decimals(*(row["cost_nano"] for row in rows))
    cells = [
        [
            *_group_cells(groups, row, rows),
            row["requests"],
            *(row[name] for name in counts),
            show.money(row["cost_nano"], row["currency"], places),
            row["currency"],
        ]
        for row in rows
    ]
    out.table(
        columns,
        cells,
        document=found,
        empty="Nothing was used in that time.",
        totals=_totals(columns, rows, counts, classes=classes) if len(rows) > 1 else (),
    )
    if found["shipping_lag_bytes"]:
        click.echo(f"{found['shipping_lag_bytes']} bytes of the journal are not in the ledger yet.", err=True)


def _drop(name: str, rows: list[dict[str, Any]]) -> int:
    """What most have none of goes first where a terminal is too narrow; before it, what nobody has any of."""
    return {"reasoning_tokens": 2, "cached_tokens": 1}.get(name, 0) * (1 if any(row[name] for row in rows) else 3)


def _group_columns(groups: list[str]) -> list[Column]:
    columns = [Column(group.upper(), "key_name" if group == "key" else group, shrinks=True) for group in groups]
    return columns + ([Column("", "key_id")] if "key" in groups else [])


def _group_cells(groups: list[str], row: dict[str, Any], rows: list[dict[str, Any]]) -> list[show.Value]:
    cells: list[show.Value] = [row[group] or None for group in groups]
    if "key" not in groups:
        return cells
    name = row["key_name"]
    # Two keys of one name (one was rotated, say) are told apart by the end of their ids.
    twins = {other["key"] for other in rows if other["key_name"] == name}
    text = f"{name} (…{row['key'][-6:]})" if len(twins) > 1 else name
    cells[groups.index("key")] = show.Cell(text, name)
    return [*cells, row["key"]]


def _totals(
    columns: list[Column], rows: list[dict[str, Any]], counts: tuple[str, ...], *, classes: bool
) -> list[list[show.Value]]:
    """One row for each currency, with the exact sum."""
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        sums.setdefault(row["currency"], Counter()).update(
            {name: row[name] for name in ("requests", "cost_nano", *counts)}
        )
    groups = len(columns) - len(counts) - 3
    return [
        [
            "TOTAL",
            *([""] * (groups - 1)),
            "" if classes else total["requests"],  # each class has a row of the same requests
            *(total[name] for name in counts),
            show.money(total["cost_nano"], currency, show.decimals(*(row["cost_nano"] for row in rows))),
            currency,
        ]
        for currency, total in sums.items()
    ]
