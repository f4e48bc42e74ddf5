# SPDX-License-Identifier: Apache-2.0
"""Which configuration a command works on, and what its options say over it: the same for `serve` as for `config`.

In: `--config`, `$BEFFROI_CONFIG`, the working directory, options. Out: a path or none; overrides for `config.examine`; faults as text.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from beffroi.cli.data import data_directory
from beffroi.config.environment import Overrides
from beffroi.config.load import Invalid, Problem, Source, Spot

F = TypeVar("F", bound=Callable[..., Any])
USUAL = ("beffroi.yaml", "beffroi.yml", "beffroi.toml")
VARIABLE = "BEFFROI_CONFIG"
_PORT = click.IntRange(0, 65535)
_OPTIONS = (
    click.option("--host", help="Address the API listens on.  [default: 127.0.0.1]"),
    click.option("--port", type=_PORT, help="Port of the API; 0 takes a free one.  [default: 8400]"),
    click.option(
        "--control-port",
        type=_PORT,
        help="Port of health and metrics, on loopback; 0 takes a free one.  [default: 8401]",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 64), help="Gateway processes, one core each.  [default: half the cores]"
    ),
)


def server_options(command: F) -> F:
    """Adds the options that stand for settings; the command is given each by its setting's name, None when left out."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def overrides(**given: Any) -> Overrides:
    """What options set, as the configuration knows it; those that are None set nothing."""
    texts = {
        name: str(value.expanduser().absolute()) if isinstance(value, Path) else value for name, value in given.items()
    }
    return {
        ("server", name): (value, f"--{name.replace('_', '-')}") for name, value in texts.items() if value is not None
    }


def config_file(given: Path | None) -> Path | None:
    """`given`, else `$BEFFROI_CONFIG`, else the one `beffroi.yaml` or `beffroi.toml` in the working directory, else None.

    Raises:
        Invalid: there are two of them here.
    """
    if given is not None:
        return given
    if value := os.environ.get(VARIABLE):
        return Path(value).expanduser()
    here = [Path(name) for name in USUAL if Path(name).is_file()]
    if len(here) > 1:
        names = " and ".join(map(str, here))
        raise Invalid([Problem(Spot(str(Path.cwd())), "", f"has {names}", "name one of them with --config")])
    return here[0] if here else None


def effective_data(source: Source) -> Path:
    """The data directory of a start with this configuration: its `server.data`, else where every command looks."""
    told = source.document.server.data
    return data_directory(None) if told is None else (source.base / told).expanduser().absolute()


def effective_workers(source: Source) -> int:
    """How many workers a start with this configuration has: as it says, else half the cores."""
    return source.document.server.workers or max(1, len(os.sched_getaffinity(0)) // 2)


def tell(problems: Iterable[Problem], *, word: str = "") -> None:
    """Print faults for people, on standard error: where, what, and what to do below."""
    for problem in problems:
        where = click.style(str(problem.spot), bold=True)
        name = f" {problem.name}:" if problem.name else ""
        click.echo(f"{where}: {word}{name.lstrip() + ' ' if name else ''}{problem.message}", err=True)
        if problem.remedy:
            click.echo(f"    {problem.remedy}", err=True)


def count(number: int, what: str) -> str:
    """`1 fault`, `3 faults`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
