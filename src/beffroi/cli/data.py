# SPDX-License-Identifier: Apache-2.0
"""Which configuration file and which data directory a command works on.

In: `--config`, `--data`, `$BEFFROI_CONFIG`, `$BEFFROI_DATA`, the file, the working directory, the home. Out: paths.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from beffroi.config.load import Invalid, Problem, Spot, read

F = TypeVar("F", bound=Callable[..., Any])
HERE = ".beffroi"
USUAL = ("beffroi.yaml", "beffroi.yml", "beffroi.toml")


def data_directory(given: Path | None) -> Path:
    """`given`, else `$BEFFROI_DATA`, else what the configuration file says, else the usual one; absolute."""
    if given is None and (value := os.environ.get("BEFFROI_DATA")):
        given = Path(value)
    if given is None:
        given = _configured()
    return usual_data() if given is None else given.expanduser().absolute()


def usual_data() -> Path:
    """`./.beffroi` if it exists, else `~/.local/share/beffroi`; absolute."""
    here = Path(HERE)
    return here.absolute() if here.is_dir() else Path.home() / ".local" / "share" / "beffroi"


def config_file(given: Path | None) -> Path | None:
    """`given`, else `$BEFFROI_CONFIG`, else the one `beffroi.yaml` or `beffroi.toml` in the working directory, else None.

    Raises:
        Invalid: there are two of them here.
    """
    if given is not None:
        return given
    if value := os.environ.get("BEFFROI_CONFIG"):
        return Path(value).expanduser()
    here = [Path(name) for name in USUAL if Path(name).is_file()]
    if len(here) > 1:
        names = " and ".join(map(str, here))
        raise Invalid([Problem(Spot(str(Path.cwd())), "", f"has {names}", "name one of them with --config")])
    return here[0] if here else None


def _configured() -> Path | None:
    """`server.data` of the configuration file in use; None where there is no file, or it does not say."""
    try:
        file = config_file(None)
        source = None if file is None else read(file, {}).source
    except Invalid:
        return None
    told = None if source is None else source.document.server.data
    return None if source is None or told is None else source.base / Path(told).expanduser()


def data_option(command: F) -> F:
    """Adds `--data`; the command is given `data`, a `Path` or None, for `data_directory`."""
    option = click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False, readable=False),  # whose it is, the command says better
        default=None,
        help="Data directory; else $BEFFROI_DATA, server.data of the configuration, ./.beffroi if it is there, ~/.local/share/beffroi.",
    )
    return option(command)
