# SPDX-License-Identifier: Apache-2.0
"""`beffroi requests`: the last requests, those that end now, and all that is known of one. Never their content.

In: the ledger, through the control process. Out: lines, JSON, or CSV; for one request its way through the seven rooms.
"""

import sys
import time
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from beffroi.cli import show, timeline
from beffroi.cli.client import call
from beffroi.cli.completion import key_names, model_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys import reference
from beffroi.cli.keys.common import ANYWHERE
from beffroi.cli.show import Column
from beffroi.cli.tables import Lines

EVERY = 0.5  # seconds between two looks of `-f`
_SEEN = 5_000  # requests of which `-f` remembers that it has shown them
_CLASSES = ("input", "cached", "output", "reasoning")
_COLUMNS = (
    Column("TIME", "ended_at"),
    Column("KEY", "key_name", shrinks=True),
    Column("MODEL", shrinks=True),
    Column("OUTCOME", shrinks=True),
    Column("", "status"),
    Column("", "code"),
    Column("ENGINE", shrinks=True, drop=2),
    Column("TRY", "attempt", drop=3),
    Column("IN", "-"),
    Column("OUT", "-"),
    *(Column("", f"{kind}_tokens") for kind in _CLASSES),
    Column("FIRST", "first_byte_us", drop=4),
    Column("TOOK", "total_us"),
    Column("COST", drop=1),
    Column("", "currency"),
    Column("REQUEST", "id"),
    Column("", "arrived_at"),
    Column("", "key_id"),
    Column("", "endpoint"),
    Column("", "stream"),
    Column("", "verdict"),
)

# What `-f` leaves room for when the first requests are small.
_TYPICAL: list[show.Value] = [
    *("00:00:00", "a key's name", "a model's name", "complete", "", "", "engine", 1),
    *(show.Cell("0" * 6, right=True) for _ in ("in", "out")),
    *("" for _ in _CLASSES),
    *(show.Cell("999.9 ms", right=True) for _ in ("first", "took")),
    *(show.Cell("0.0000000 EUR", right=True), "", "req_000000000000"),
    *("" for _ in range(5)),
]


@click.group()
def requests() -> None:
    """Follow requests, or look at one."""


@requests.command()
@click.option("-n", "--lines", "count", type=click.IntRange(0, 1000), default=20, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on and print each request as it ends, until Ctrl-C.")
@click.option("--key", help="Of this key alone; a name takes all that have it.", shell_complete=key_names)
@click.option("--model", help="Of this model alone.", shell_complete=model_names)
@click.option(
    "--outcome",
    help="With this outcome alone: complete, client_gone, engine_gone, engine_timeout, engine_refused, refused, drained, "
    "journal_failed, lost.",
)
@click.option("--organisation", "--org", metavar="ID", default=ANYWHERE, help="Of this organisation alone.")
@data_option
@show.output_options()
def tail(
    count: int,
    follow: bool,
    key: str | None,
    model: str | None,
    outcome: str | None,
    organisation: str,
    data: Path | None,
    out: show.Output,
) -> None:
    """Print the last requests, a line for each attempt on an engine. With filters, those of the last seven days.

    TIME is when it ended, IN what was sent to the engine and OUT what the model made, both in tokens. With --follow,
    --json prints one object a line. `beffroi requests show` takes what stands under REQUEST.
    """
    directory = data_directory(data)
    asked: dict[str, Any] = {"key": key and reference(key), "model": model, "outcome": outcome}
    asked["organisation"] = organisation
    asked = {name: value for name, value in asked.items() if value is not None}
    found = call(directory, "GET", f"/api/v1/requests?{urlencode({**asked, 'limit': count})}")
    places = show.decimals(*(request["cost_nano"] for request in found["requests"]))
    rows = [_row(request, places) for request in found["requests"]]
    if not follow:
        out.table(_COLUMNS, rows, document=found["requests"], empty="There were no such requests.")
        return
    lines = Lines(out.kind, _COLUMNS, [*rows, _TYPICAL])
    seen: OrderedDict[tuple[str, int], None] = OrderedDict()
    try:
        while True:
            for request in found["requests"]:
                mark = (request["id"], request["attempt"])
                if mark not in seen:
                    lines.print(_row(request, places), request)
                    seen[mark] = None
            while len(seen) > _SEEN:
                seen.popitem(last=False)
            if found["missed"]:
                click.echo(f"({found['missed']} more came too fast to be shown; they are in the ledger)", err=True)
            time.sleep(EVERY)
            found = call(directory, "GET", f"/api/v1/requests?{urlencode({**asked, 'after': found['next']})}")
    except KeyboardInterrupt:
        sys.exit(130)


@requests.command("show")
@click.argument("request")
@click.option("--organisation", "--org", metavar="ID", default=ANYWHERE, help="Of this organisation alone.")
@data_option
@show.output_options(csv=False)
def show_request(request: str, organisation: str, data: Path | None, out: show.Output) -> None:
    """Show one request in full. REQUEST is its id (the header x-request-id of its answer) or the beginning of it.

    What each of the seven rooms did with it, every attempt on an engine, its tokens, and its price worked out.
    """
    found = call(
        data_directory(data),
        "GET",
        f"/api/v1/requests/{quote(request, safe='')}?{urlencode({'organisation': organisation})}",
    )
    if out.kind == "json":
        show.as_json(found)
    else:
        timeline.tell(found)


def _row(request: dict[str, Any], places: int) -> list[show.Value]:
    tokens = request["tokens"]
    nothing = request["status"] >= 400 and not any(tokens.values()) and not request["cost_nano"]
    return [
        _time(request["ended_at"]),
        request["key_name"],
        request["model"] or None,
        _outcome(request),
        request["status"],
        request["code"],
        request["engine"] or None,
        request["attempt"],
        None if nothing else tokens["input"] + tokens["cached"],
        None if nothing else tokens["output"] + tokens["reasoning"],
        *(tokens[kind] for kind in _CLASSES),
        show.span(request["first_us"] or None),
        show.span(request["total_us"]),
        show.Cell("-", 0, right=True) if nothing else show.money(request["cost_nano"], request["currency"], places),
        request["currency"],
        show.Cell(_short(request["id"]), request["id"]),
        request["arrived_at"],
        request["key_id"],
        request["endpoint"],
        "true" if request["stream"] else "false",
        request["verdict"],
    ]


def _outcome(request: dict[str, Any]) -> show.Cell:
    """What became of it; of what went wrong the code says more than the outcome."""
    outcome = request["outcome"]
    if outcome == "complete":
        return show.Cell("complete", outcome, show.GOOD)
    style = show.WARN if outcome in ("client_gone", "drained") else show.BAD
    status = f"{request['status']} " if request["status"] and outcome not in ("client_gone", "lost") else ""
    return show.Cell(f"{status}{request['code'] or outcome}", outcome, style)


def _time(at: str) -> show.Cell:
    """Today's by the clock alone."""
    local = datetime.fromisoformat(at).astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return show.Cell(f"{local:%H:%M:%S}" if today else f"{local:%m-%d %H:%M}", at)


def _short(request_id: str) -> str:
    """An id begins with its millisecond: that is enough to name it, and fits beside the rest."""
    return request_id[:16] if sys.stdout.isatty() and show.width() < 130 else request_id
