# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys`: make, list and revoke API keys.

In: the command line. Out: acts of the control process, printed; a key's text once, on standard output alone.
"""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.data import data_directory, data_option
from beffroi.core.key import PREFIX, PUBLIC
from beffroi.core.money import show as show_money

_LIMITS = (
    ("requests_per_minute", "requests/min"),
    ("tokens_per_minute", "tokens/min"),
    ("output_tokens_per_hour", "output/h"),
    ("output_tokens_per_day", "output/day"),
    ("concurrency", "at once"),
)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option("--model", "models", multiple=True, help="A model the key may use; repeat for more. All when left out.")
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
    if made["waiting"]:
        click.echo(f"warning: workers {made['waiting']} do not know the key yet", err=True)
    if out.kind == "json":
        show.as_json(made)
        return
    click.echo(made["key"])
    click.echo(
        f"{made['id']} ({made['name']}), expires {show.day(made['expires_at']).text}. The key is not shown again.",
        err=True,
    )


@keys.command("list")
@data_option
@show.output_options()
def list_keys(data: Path | None, out: show.Output) -> None:
    """List all keys, those revoked too. Keys themselves are stored nowhere."""
    found = call(data_directory(data), "GET", "/api/v1/keys")["keys"]
    rows = [
        [
            key["id"],
            key["name"],
            f"{PREFIX}{key['public']}-…",
            show.state(_state(key)),
            show.day(key["expires_at"]),
            _models(key),
            _limits(key),
        ]
        for key in found
    ]
    columns = [show.Column(title) for title in ("ID", "NAME", "KEY", "STATE", "EXPIRES", "MODELS", "LIMITS")]
    out.table(columns, rows, document=found)


@keys.command()
@click.argument("key")
@click.option("--cut", is_flag=True, help="Cut the key's open streams too; they may finish otherwise.")
@data_option
@show.output_options(csv=False)
def revoke(key: str, cut: bool, data: Path | None, out: show.Output) -> None:
    """Revoke KEY, named by its id, its name, or its first part (bf-…-). Returns once every worker refuses it."""
    done = call(data_directory(data), "POST", f"/api/v1/keys/{quote(_reference(key), safe='')}/revoke", {"cut": cut})
    if out.kind == "json":
        show.as_json(done)
        return
    click.echo(
        f"{done['id']} ({done['name']}): all {done['workers']} workers refuse it, after {done['milliseconds']:.1f} ms."
    )
    if done["cut"] is not None:
        click.echo(f"{done['cut']} open requests were cut.")


def _reference(text: str) -> str:
    """Of a whole key only the public part goes on: the secret has no business anywhere else."""
    return text[len(PREFIX) : len(PREFIX) + PUBLIC] if text.startswith(PREFIX) else text


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return "revoked"
    return "expired" if key["expires_at"] is not None and key["expires_at"] <= time.time() else "active"


def _models(key: dict[str, Any]) -> str:
    return "all" if key["models"] is None else ",".join(key["models"])


def _limits(key: dict[str, Any]) -> str:
    limits = key["limits"]
    parts = [f"{limits[name]} {unit}" for name, unit in _LIMITS if limits.get(name) is not None]
    period = limits.get("budget_period", "month")
    parts += [
        f"{kind} {show_money(limits[f'{kind}_budget'])}/{period}"
        for kind in ("hard", "soft")
        if limits.get(f"{kind}_budget") is not None
    ]
    return ", ".join(parts) or "none"
