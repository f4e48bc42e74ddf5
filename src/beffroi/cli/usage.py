# SPDX-License-Identifier: Apache-2.0
"""`beffroi usage`: requests, tokens and money, from the ledger.

In: a span of time and what to group by. Out: a table, or JSON.
"""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.data import data_directory, data_option

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


class Moment(click.ParamType[int]):
    """A point in time: `7d` ago, a day, or a day and time (UTC unless it says otherwise)."""

    name = "moment"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Unix seconds."""
        if isinstance(value, int):
            return value
        if span := _SPAN.fullmatch(value):
            return int(time.time()) - int(span[1]) * _UNITS[span[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment; write 7d, 12h, 2026-01-31 or 2026-01-31T12:00:00", param, ctx)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


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
    help="What to group by; of key, model, project, engine, endpoint, outcome, user, day, class.",
)
@data_option
@show.output_options()
def usage(since: int | None, until: int | None, by: str, data: Path | None, out: show.Output) -> None:
    """Show requests, tokens and money."""
    asked = {"since": since, "until": until, "by": by}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = call(data_directory(data), "GET", f"/api/v1/usage?{query}")
    columns = found["by"]
    rows = [
        [
            *(row[column] for column in columns),
            *(row[count] for count in _COUNTS),
            show.money(row["cost_nano"], row["currency"]),
        ]
        for row in found["usage"]
    ]
    headings = [*(column.upper() for column in columns), "REQUESTS", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST"]
    out.table([show.Column(heading) for heading in headings], rows, document=found)
    if found["shipping_lag_bytes"]:
        click.echo(f"{found['shipping_lag_bytes']} bytes of the journal are not in the ledger yet.", err=True)
