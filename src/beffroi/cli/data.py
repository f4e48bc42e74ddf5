# SPDX-License-Identifier: Apache-2.0
"""Which data directory a command works on.

In: `--data`, `$BEFFROI_DATA`, the working directory, the home. Out: a path.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
HERE = ".beffroi"


def data_directory(given: Path | None) -> Path:
    """`given`, else `$BEFFROI_DATA`, else `./.beffroi` if it exists, else `~/.local/share/beffroi`; absolute."""
    if given is None and (value := os.environ.get("BEFFROI_DATA")):
        given = Path(value)
    if given is None:
        here = Path(HERE)
        given = here if here.is_dir() else Path.home() / ".local" / "share" / "beffroi"
    return given.expanduser().absolute()


def data_option(command: F) -> F:
    """Adds `--data`; the command is given `data`, a `Path` or None, for `data_directory`."""
    option = click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        help="Data directory; else $BEFFROI_DATA, ./.beffroi if it exists, ~/.local/share/beffroi.",
    )
    return option(command)
