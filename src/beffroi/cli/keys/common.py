# SPDX-License-Identifier: Apache-2.0
"""What the commands on keys share: how a key is named, in which organisation, spans of time, sentences.

In: what was typed, what control answered. Out: paths, numbers, text.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from beffroi.cli import show
from beffroi.cli.client import call
from beffroi.core.key import PREFIX, PUBLIC

F = TypeVar("F", bound=Callable[..., Any])
ANYWHERE = "*"
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Span(click.ParamType[int]):
    """A span of time such as `24h`, in seconds."""

    name = "span"

    def __init__(self, least: int = 0, most: int = 30 * 86_400, what: str = "an overlap") -> None:
        self._least = least
        self._most = most
        self._what = what

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,7})([smhd]?)", value)
        if found is None or (not found[2] and found[1] != "0"):
            self.fail(f"{value!r} is no span of time; write 24h, 30m, 7d, or 0 for at once", param, ctx)
        seconds = int(found[1]) * UNITS[found[2] or "s"]
        if seconds > self._most:
            self.fail(f"{self._what} is {self._most // 86_400} days at most", param, ctx)
        if seconds < self._least:
            self.fail(f"{self._what} is {self._least // 60} minutes at least", param, ctx)
        return seconds


def organisation_option(command: F) -> F:
    """Adds `--organisation`."""
    return click.option(
        "--organisation", metavar="ID", help="Organisation of the key; found by the key itself when left out."
    )(command)


def at(path: str, organisation: str | None, **query: Any) -> str:
    """A path below `/api/v1`, with what it is asked."""
    asked = {"organisation": organisation or ANYWHERE, **{name: value for name, value in query.items() if value}}
    return f"/api/v1{path}?{urlencode(asked)}"


def pages(data: Path, path: str, organisation: str | None, **query: Any) -> Iterator[dict[str, Any]]:
    """Every object of a list, page by page."""
    cursor = None
    while True:
        found = call(data, "GET", at(path, organisation, limit=200, cursor=cursor, **query))
        yield from found["data"]
        cursor = found["next"]
        if cursor is None:
            return


def quoted(key: str) -> str:
    """A key in a path."""
    return quote(reference(key), safe="")


def reference(text: str) -> str:
    """Of a whole key only the public part goes on: the secret has no business anywhere else."""
    return text[len(PREFIX) : len(PREFIX) + PUBLIC] if text.startswith(PREFIX) else text


def print_new(made: dict[str, Any], out: show.Output, said: str) -> None:
    """A key just made: its text on standard output alone."""
    if out.kind == "json":
        show.as_json(made)
        return
    click.echo(made["key"])
    click.echo(said, err=True)


def expiry(made: dict[str, Any]) -> str:
    """When it expires, in a sentence."""
    return "never expires" if made["expires_at"] is None else f"expires {show.day(made['expires_at']).text}"


def workers(slots: list[int]) -> str:
    """Workers by name."""
    return "workers " + ", ".join(f"w{slot:02d}" for slot in slots)


def all_workers(count: int, machines: int = 1) -> str:
    """How many refuse it: the workers of this machine, or those of every machine of a fleet."""
    if machines > 1:
        return f"all workers of all {machines} machines refuse"
    return "the one worker refuses" if count == 1 else f"all {count} workers refuse"


def warn(waiting: list[int] | None, what: str) -> None:
    """Say which workers lag."""
    if waiting:
        click.echo(f"warning: {workers(waiting)} {what}", err=True)
