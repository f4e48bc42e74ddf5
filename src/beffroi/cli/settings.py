# SPDX-License-Identifier: Apache-2.0
"""What the options of a command say over a configuration, and how its faults are told: the same for `serve` as for `config`.

In: options, a `Source`, faults. Out: overrides for `config.examine`; the values that only a start computes; text.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from beffroi.cli.cells import STRONG, paint
from beffroi.cli.data import config_file, usual_data
from beffroi.config.environment import Overrides
from beffroi.config.load import Problem, Source
from beffroi.config.problems import printable

__all__ = ["config_file", "count", "effective_data", "effective_workers", "overrides", "server_options", "tell"]

F = TypeVar("F", bound=Callable[..., Any])
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


def effective_data(source: Source) -> Path:
    """The data directory of a start with this configuration: its `server.data`, else where every command looks."""
    told = source.document.server.data
    return usual_data() if told is None else (source.base / Path(told).expanduser()).absolute()


def effective_workers(source: Source) -> int:
    """How many workers a start with this configuration has: as it says, else half the cores."""
    return source.document.server.workers or max(1, len(os.sched_getaffinity(0)) // 2)


def tell(problems: Iterable[Problem], *, word: str = "") -> None:
    """Print faults for people, on standard error: where and what, and below what to do."""
    for problem in problems:
        where = paint(printable(str(problem.spot)), STRONG)
        name = f"{problem.name}: " if problem.name else ""
        click.echo(f"{where}: {word}{printable(name + problem.message)}", err=True)
        click.echo(f"    {printable(problem.remedy)}", err=True)


def count(number: int, what: str) -> str:
    """`1 fault`, `3 faults`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
