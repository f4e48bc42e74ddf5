# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys`: make, list, show, rotate and revoke API keys.

In: the command line. Out: acts of the control process, printed; a key's text once, on standard output alone.
"""

import math
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names, model_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.show import Column
from beffroi.core.key import PREFIX, PUBLIC

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LIMITS = {
    "requests_per_minute": "requests/min",
    "tokens_per_minute": "tokens/min",
    "output_tokens_per_hour": "output/h",
    "output_tokens_per_day": "output/day",
    "concurrency": "at once",
}
_BUDGETS = ("hard_budget", "soft_budget")


class Overlap(click.ParamType[int]):
    """A span of time such as `24h`, in seconds."""

    name = "span"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,7})([smhd]?)", value)
        if found is None or (not found[2] and found[1] != "0"):
            self.fail(f"{value!r} is no span of time; write 24h, 30m, 7d, or 0 for at once", param, ctx)
        seconds = int(found[1]) * _UNITS[found[2] or "s"]
        if seconds > 30 * 86_400:
            self.fail("an overlap is 30 days at most", param, ctx)
        return seconds


@click.group()
def keys() -> None:
    """Make, list, show, rotate and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model the key may use; repeat for more. All when left out.",
    shell_complete=model_names,
)
@click.option("--requests-per-minute", type=click.IntRange(1), help="Most requests in any minute.")
@click.option("--tokens-per-minute", type=click.IntRange(1), help="Most tokens, in and out, in any minute.")
@click.option("--output-tokens-per-hour", type=click.IntRange(1), help="Most tokens made in any hour.")
@click.option("--output-tokens-per-day", type=click.IntRange(1), help="Most tokens made in any 24 hours.")
@click.option("--concurrency", type=click.IntRange(1), help="Most requests at once.")
@click.option("--hard-budget", metavar="AMOUNT", help="Money per period that is never passed, such as 10.50.")
@click.option("--soft-budget", metavar="AMOUNT", help="Money per period after which requests are refused.")
@click.option(
    "--budget-period", type=click.Choice(["day", "month", "total"]), default="month", help="Period of both budgets."
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), help="Days the key lives; a year when left out.")
@click.option("--long-lived", is_flag=True, help="Allow more than a year; without --expires-days, for ever.")
@data_option
@show.output_options(csv=False)
def create(
    name: str,
    models: tuple[str, ...],
    expires_days: int | None,
    long_lived: bool,
    data: Path | None,
    out: show.Output,
    **limits: Any,
) -> None:
    """Make a key called NAME and print it, this once."""
    body = {
        "name": name,
        "models": list(models) or None,
        "limits": {limit: value for limit, value in limits.items() if value is not None},
        "expires_in_days": expires_days,
        "long_lived": long_lived,
    }
    made = call(data_directory(data), "POST", "/api/v1/keys", body, repeatable=False)
    _print_new(made, out, f"{made['id']} ({show.safe(made['name'])}), {_expiry(made)}. The key is not shown again.")
    if made["waiting"]:
        click.echo(f"warning: {_workers(made['waiting'])} do not know the key yet", err=True)


@keys.command("list")
@data_option
@show.output_options()
def list_keys(data: Path | None, out: show.Output) -> None:
    """List all keys, those revoked too. Keys themselves are stored nowhere."""
    found = call(data_directory(data), "GET", "/api/v1/keys")["keys"]
    columns = [
        Column("NAME", shrinks=True),
        Column("KEY"),
        Column("STATE"),
        Column("EXPIRES", "expires_at", drop=1),
        Column("MODELS", shrinks=True),
        Column("LIMITS", "-", shrinks=True),
        Column("", "id"),
        *(Column("", name) for name in (*_LIMITS, *_BUDGETS, "budget_period")),
    ]
    rows: list[list[show.Value]] = [
        [
            key["name"],
            show.Cell(f"{PREFIX}{key['public']}-…", f"{PREFIX}{key['public']}"),
            show.state(key["state"]),
            show.day(key["expires_at"]),
            _models(key),
            ", ".join(_limits(key)) or "none",
            key["id"],
            *(key["limits"].get(name) for name in _LIMITS),
            *(None if (nano := key["limits"].get(name)) is None else show.money(nano) for name in _BUDGETS),
            key["limits"].get("budget_period", "month"),
        ]
        for key in found
    ]
    out.table(columns, rows, document=found, empty="There are no keys; make one with `beffroi keys create NAME`.")


@keys.command("show")
@click.argument("key", shell_complete=key_names)
@data_option
@show.output_options()
def show_key(key: str, data: Path | None, out: show.Output) -> None:
    """Show what KEY may do, and what is used of each limit. KEY is its id, its name, or its first part (bf-…-)."""
    found = call(data_directory(data), "GET", f"/api/v1/keys/{_quoted(key)}")
    columns = [
        Column("LIMIT"),
        Column("USED"),
        Column("OF"),
        Column("LEFT"),
        Column("", "resets_in_seconds"),
        Column("SHARE", "-", drop=1),
        Column("MORE", "-"),
    ]
    rows = [_use(found, use) for use in found["use"]]
    if out.kind != "people":
        out.table(columns, rows, document=found)
        return
    pairs: list[tuple[str, show.Value]] = [
        ("name", found["name"]),
        ("id", found["id"]),
        ("key", f"{PREFIX}{found['public']}-…"),
        ("state", show.state(found["state"])),
        ("made", f"{show.moment(found['created_at'] * 1_000_000_000).text} by {found['created_by']}"),
        ("expires", show.moment_or_never(found["expires_at"])),
        ("models", _models(found)),
        ("project", f"{found['organisation']}/{found['project']}"),
    ]
    pairs += [(name.replace("_", " "), found[name]) for name in ("rotated_from", "rotated_to") if found[name]]
    if found["revoked_at"]:
        pairs.insert(4, ("revoked", show.moment(found["revoked_at"] * 1_000_000_000)))
    out.record(pairs, document=found)
    click.echo()
    if not rows:
        click.echo("It has no limits.")
        return
    out.table(columns, rows, document=found)
    if found["rotated_from"] or found["rotated_to"]:
        click.echo(show.paint("Keys that were rotated from one another count together.", show.DIM))


@keys.command()
@click.argument("key", shell_complete=key_names)
@click.option(
    "--overlap",
    type=Overlap(),
    default="24h",
    show_default=True,
    help="How long the old key is still accepted: 24h, 30m, 7d, or 0 for not at all.",
)
@data_option
@show.output_options(csv=False)
def rotate(key: str, overlap: int, data: Path | None, out: show.Output) -> None:
    """Give KEY a successor and print it, this once.

    The successor may do what KEY may and shares its limits and budgets, so that both together never use more than one
    could. KEY is accepted beside it until the overlap ends, then refused; requests in progress finish.
    """
    body = {"overlap_seconds": overlap}
    made = call(data_directory(data), "POST", f"/api/v1/keys/{_quoted(key)}/rotate", body, repeatable=False)
    old = f"{PREFIX}{made['old_public']}-…"
    ends = show.moment(made["old_expires_at"] * 1_000_000_000).text
    end = "is refused from now on" if overlap == 0 else f"is accepted until {ends}"
    said = f"{made['id']} ({show.safe(made['name'])}), {_expiry(made)}, follows {old}, which {end}. The key is not shown again."
    _print_new(made, out, said)
    if made["waiting"]:
        click.echo(f"warning: {_workers(made['waiting'])} do not know of it yet: there, only {old} works", err=True)
        sys.exit(1 if overlap == 0 else 0)


@keys.command()
@click.argument("key", shell_complete=key_names)
@click.option("--cut", is_flag=True, help="Cut the key's open streams too; they may finish otherwise.")
@data_option
@show.output_options(csv=False)
def revoke(key: str, cut: bool, data: Path | None, out: show.Output) -> None:
    """Revoke KEY, named by its id, its name, or its first part (bf-…-). Returns once every worker refuses it.

    Keys that it was rotated from and that are still accepted are revoked with it.
    """
    done = call(data_directory(data), "POST", f"/api/v1/keys/{_quoted(key)}/revoke", {"cut": cut})
    if out.kind == "json":
        show.as_json(done)
        return
    also = f", and {', '.join(done['also'])} which it was rotated from" if done["also"] else ""
    click.echo(
        f"{done['id']} ({show.safe(done['name'])}){also}: {_all_workers(done['workers'])} it, "
        f"after {done['milliseconds']:.1f} ms."
    )
    if done["cut"] is not None:
        click.echo(f"{done['cut']} open requests were cut.")


def _all_workers(count: int) -> str:
    return "the one worker refuses" if count == 1 else f"all {count} workers refuse"


def _print_new(made: dict[str, Any], out: show.Output, said: str) -> None:
    if out.kind == "json":
        show.as_json(made)
        return
    click.echo(made["key"])
    click.echo(said, err=True)


def _expiry(made: dict[str, Any]) -> str:
    return "never expires" if made["expires_at"] is None else f"expires {show.day(made['expires_at']).text}"


def _workers(slots: list[int]) -> str:
    return "workers " + ", ".join(f"w{slot:02d}" for slot in slots)


def _quoted(key: str) -> str:
    return quote(reference(key), safe="")


def reference(text: str) -> str:
    """Of a whole key only the public part goes on: the secret has no business anywhere else."""
    return text[len(PREFIX) : len(PREFIX) + PUBLIC] if text.startswith(PREFIX) else text


def _models(key: dict[str, Any]) -> str:
    return "all" if key["models"] is None else ",".join(key["models"])


def _limits(key: dict[str, Any]) -> list[str]:
    limits = key["limits"]
    period = limits.get("budget_period", "month")
    return [f"{limits[name]} {unit}" for name, unit in _LIMITS.items() if limits.get(name) is not None] + [
        f"{name.partition('_')[0]} {show.money(limits[name]).text}/{period}"
        for name in _BUDGETS
        if limits.get(name) is not None
    ]


def _use(key: dict[str, Any], use: dict[str, Any]) -> list[show.Value]:
    """A row: the limit, what is used, the whole, what is left, when more returns, and the share as a bar."""
    budget = use["name"] in _BUDGETS
    period = key["limits"].get("budget_period", "month")
    name = f"{use['name'].replace('_', ' ')}/{period}" if budget else _LIMITS[use["name"]]
    used, limit, left = (show.money(use[n]) if budget else use[n] for n in ("used", "limit", "remaining"))
    share = show.bar(use["used"], use["limit"])
    seconds = use["resets_in"]
    more = "" if not use["used"] or not seconds else f"in {show.duration(math.ceil(seconds))}"
    return [show.Cell(name, use["name"]), used, limit, left, math.ceil(seconds), share, more]
