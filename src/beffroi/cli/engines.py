# SPDX-License-Identifier: Apache-2.0
"""`beffroi engines`: who runs the models, how the workers find them, and what went wrong last.

In: what the workers count, and the last hour of the ledger. Out: a table, JSON, or CSV.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.show import Column


@click.command(short_help="List the engines, how they are, and what failed last.")
@data_option
@show.output_options()
def engines(data: Path | None, out: show.Output) -> None:
    """List the engines: state, work in hand, attempts and failures, latency, and the last fault.

    An engine is up; untried, when no worker has sent it anything yet; out, when every worker keeps it out of its pools after
    failures; degraded, when some do. Attempts and failures are counted since the workers started; FIRST (the median
    time to the first byte of streams), TOOK (the median of whole answers) and the last fault are of the last hour.
    """
    found = call(data_directory(data), "GET", "/api/v1/engines")["engines"]
    columns = [
        Column("ENGINE", "name"),
        Column("STATE"),
        Column("KIND", drop=2),
        Column("URL", shrinks=True, drop=3),
        Column("BUSY", "in_flight"),
        Column("ATTEMPTS"),
        Column("FAILED"),
        Column("FIRST", "first_byte_us", drop=1),
        Column("TOOK", "total_us"),
        Column("LAST FAULT", "last_fault_at", shrinks=True),
        Column("", "last_fault"),
        Column("MODELS", shrinks=True),
    ]
    out.table(
        columns,
        [_row(engine) for engine in found],
        document=found,
        empty="There are no engines: name one with `beffroi serve --engine URL`, or write it in the configuration.",
    )


def _row(engine: dict[str, Any]) -> list[show.Value]:
    hour, fault = engine["last_hour"], engine["last_fault"]
    return [
        engine["name"],
        show.state(_state(engine)),
        engine["kind"],
        engine["url"],
        engine["in_flight"],
        engine["requests"],
        show.Cell(str(engine["failures"]), engine["failures"], show.BAD if engine["failures"] else "", right=True),
        show.span(hour["first_byte_us"]),
        show.span(hour["total_us"]),
        _fault(fault),
        None if fault is None else fault["code"] or fault["outcome"],
        ", ".join(model["id"] for model in engine["models"]) or "none",
    ]


def _state(engine: dict[str, Any]) -> str:
    if engine["state"] != "degraded":
        return str(engine["state"])
    return f"degraded ({len(engine['ejected_by'])} of {engine['workers']} workers)"


def _fault(fault: dict[str, Any] | None) -> show.Cell:
    if fault is None:
        return show.Cell("none", "")
    ago = max(0.0, datetime.now().astimezone().timestamp() - datetime.fromisoformat(fault["at"]).timestamp())
    return show.Cell(f"{fault['code'] or fault['outcome']}, {show.duration(round(ago))} ago", fault["at"], show.WARN)
