# SPDX-License-Identifier: Apache-2.0
"""`beffroi keys create` and `update`.

In: the command line. Out: acts of the control process; a key's text once, on standard output alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.cli.completion import key_names, model_names
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.keys.common import at, expiry, organisation_option, print_new, quoted, warn
from beffroi.cli.limits import BUDGETS, LIMITS, PERIODS

F = TypeVar("F", bound=Callable[..., Any])
ENDPOINTS = ("chat", "completions", "embeddings", "models")
NONE, ALL = "none", "all"
_EACH = "; repeat for more"


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _permissions(command: F) -> F:
    """What a key may do; the same words make and change it."""
    for option in reversed(
        (
            click.option(
                "--model", "models", multiple=True, shell_complete=model_names,
                help=f"A model the key may use{_EACH}. All when left out.",
            ),
            click.option(
                "--endpoint", "endpoints", multiple=True, type=click.Choice([*ENDPOINTS, NONE, ALL]),
                help=f"What the key may ask for{_EACH}. All when left out.",
            ),
            click.option(
                "--address", "addresses", multiple=True, metavar="NETWORK",
                help=f"A network that the key may be used from, such as 10.0.0.0/8{_EACH}. All when left out.",
            ),
            click.option("--system", metavar="ID", help="The AI system that the key belongs to."),
            click.option("--owner", metavar="WHO", help="Whose key it is: a member, a service account, a team."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _limits(kind: Any, money: Any, note: str) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        period = click.option(
            "--budget-period", type=click.Choice(PERIODS), help="Period of hard and soft budget; a month when left out."
        )
        command = period(command)
        for name, text in reversed(BUDGETS.items()):
            command = click.option(_dashed(name), metavar="AMOUNT", type=money, help=text + note)(command)
        for name, (_, text) in reversed(LIMITS.items()):
            command = click.option(_dashed(name), type=kind, help=text + note)(command)
        return command

    return decorate


class _Limit(click.ParamType[Any]):
    """A whole number, or `none` to take the limit away."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or `none`."""
        if value == NONE:
            return value
        return click.IntRange(1).convert(value, param, ctx)


@click.command()
@click.argument("name")
@_permissions
@_limits(click.IntRange(1), str, "")
@click.option("--expires-days", type=click.IntRange(1, 36_500), help="Days the key lives; a year when left out.")
@click.option("--long-lived", is_flag=True, help="Allow more than a year; without --expires-days, for ever.")
@click.option("--project", metavar="ID", help="Project of the key; `default` when left out.")
@click.option("--organisation", metavar="ID", help="Organisation of the key; `default` when left out.")
@data_option
@show.output_options(csv=False)
def create(
    name: str,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    addresses: tuple[str, ...],
    system: str | None,
    owner: str | None,
    expires_days: int | None,
    long_lived: bool,
    project: str | None,
    organisation: str | None,
    data: Path | None,
    out: show.Output,
    **limits: Any,
) -> None:
    """Make a key called NAME and print it, this once."""
    body = {
        "name": name,
        "models": list(models) or None,
        "endpoints": _endpoints(endpoints) if endpoints else None,
        "addresses": list(addresses),
        "system": system or "",
        "owner": owner or "",
        "limits": {limit: value for limit, value in limits.items() if value is not None},
        "expires_in_days": expires_days,
        "long_lived": long_lived,
        "project": project or "",
    }
    path = at("/keys", organisation or "default")
    made = call(data_directory(data), "POST", path, body, repeatable=False)
    print_new(made, out, f"{made['id']} ({show.safe(made['name'])}), {expiry(made)}. The key is not shown again.")
    warn(made["waiting"], "do not know the key yet")


@click.command()
@click.argument("key", shell_complete=key_names)
@click.option("--name", help="Another name.")
@_permissions
@_limits(_Limit(), str, " `none`: no such limit.")
@click.option("--expires-days", metavar="DAYS", help="Days the key lives from now on; `never`: for ever.")
@organisation_option
@data_option
@show.output_options(csv=False)
def update(
    key: str,
    name: str | None,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    addresses: tuple[str, ...],
    system: str | None,
    owner: str | None,
    expires_days: str | None,
    organisation: str | None,
    data: Path | None,
    out: show.Output,
    **limits: Any,
) -> None:
    """Change what KEY may do. What is not named stays as it is.

    `all` takes the list of models, endpoints or addresses away; `none` takes a limit away. The change
    holds from the next request on.
    """
    body: dict[str, Any] = {} if name is None else {"name": name}
    if models:
        body["models"] = None if models == (ALL,) else list(models)
    if endpoints:
        body["endpoints"] = _endpoints(endpoints)
    if addresses:
        body["addresses"] = None if addresses == (ALL,) else list(addresses)
    body |= {word: value for word, value in (("system", system), ("owner", owner)) if value is not None}
    if changed := {limit: None if value == NONE else value for limit, value in limits.items() if value is not None}:
        body["limits"] = changed
    if expires_days is not None:
        body["expires_in_days"] = _days(expires_days)
    if not body:
        raise click.UsageError("say what is to change; `beffroi keys update --help` shows what can")
    found = call(data_directory(data), "PATCH", at(f"/keys/{quoted(key)}", organisation), body)
    if out.kind == "json":
        show.as_json(found)
    else:
        click.echo(f"{found['id']} ({show.safe(found['name'])}): revision {found['revision']}, {expiry(found)}.")
    warn(found["waiting"], "do not know of it yet")


def _days(text: str) -> int | None:
    if text == "never":
        return None
    if not text.isdigit() or not 1 <= int(text[:6]) <= 36_500:
        raise click.BadParameter("write a number of days, or `never`", param_hint="--expires-days")
    return int(text[:6])


def _endpoints(names: tuple[str, ...]) -> list[str] | None:
    return None if ALL in names else [name for name in names if name != NONE]
