# SPDX-License-Identifier: Apache-2.0
"""`beffroi config`: look at a configuration before it is served.

In: a configuration file or none, the environment, the options of `serve`. Out: its faults, its effective values with where
each comes from, its JSON Schema, an example. Nothing is started, and nothing is asked of a running Beffroi.
"""

import sys
from pathlib import Path
from typing import Any

import click

from beffroi.cli.settings import (
    config_file,
    count,
    effective_data,
    effective_workers,
    overrides,
    server_options,
    tell,
)
from beffroi.cli.show import DIM, Cell, Column, Output, Value, as_json, output_options
from beffroi.config.effective import Effective, effective
from beffroi.config.examine import Examined, examine
from beffroi.config.example import example as example_text
from beffroi.config.json_schema import json_schema, tenants_schema
from beffroi.config.load import EMPTY, Invalid, Problem, Spot

_FILE = click.argument("file", required=False, type=click.Path(path_type=Path))
_DATA = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.")
_PLACE = (Column("", "origin"), Column("", "file"), Column("", "line"), Column("", "column"), Column("", "variable"))
WRONG = 2


@click.group()
def config() -> None:
    """Check, show and describe configuration files."""


@config.command()
@_FILE
@output_options()
def check(file: Path | None, out: Output) -> None:
    """Tell every fault of a file at once.

    Each with its place and what to do; the status is 2 if there is one. FILE is $BEFFROI_CONFIG, ./beffroi.yaml or
    ./beffroi.toml when left out. Environment variables that set something are checked with it, and so are the files
    that it names. `beffroi serve` refuses what this refuses.
    """
    found, examined = _examine(file, {})
    if out.kind == "people":
        _tell(found, examined)
    else:
        columns = [Column("", "kind"), *_PLACE, *(Column("", name) for name in ("setting", "message", "remedy"))]
        said = [("fault", one) for one in examined.problems] + [("note", one) for one in examined.notes]
        rows = [[kind, *_place(one.spot), one.name, one.message, one.remedy] for kind, one in said]
        document = {
            "ok": not examined.problems,
            "file": None if found is None else str(found),
            "problems": [_as_json(problem) for problem in examined.problems],
            "notes": [_as_json(note) for note in examined.notes],
        }
        out.table(columns, rows, document=document)
    sys.exit(WRONG if examined.problems else 0)


def _tell(found: Path | None, examined: Examined) -> None:
    """Faults and remarks on standard error; the one line that says that there is none, on standard output."""
    tell(examined.problems)
    tell(examined.notes, word="note: ")
    name = "No file, and the environment" if found is None else str(found)
    if examined.problems:
        click.echo(f"{name}: {count(len(examined.problems), 'fault')}; `beffroi serve` would start nothing.", err=True)
        return
    served = examined.source.document.resources
    engines = count(len(served.engines), "engine") if served.engines else "no engine (`serve` looks for one)"
    click.echo(f"{name}: no fault; {engines}, {count(len(served.models), 'model')}.")


@config.command()
@_FILE
@server_options
@_DATA
@output_options()
def show(file: Path | None, data: Path | None, out: Output, **options: Any) -> None:
    """Show what holds, and where it comes from.

    Every setting as `beffroi serve` would take it with the same options. FILE is $BEFFROI_CONFIG, ./beffroi.yaml or
    ./beffroi.toml when left out. The command line wins over environment variables, those over the file, the file over
    defaults. Secrets are shown as the references they are.
    """
    _, examined = _examine(file, overrides(**options, data=data))
    if examined.problems:
        tell(examined.problems)
        sys.exit(WRONG)
    tell(examined.notes, word="note: ")
    computed = {
        "server.data": str(effective_data(examined.source)),
        "server.workers": effective_workers(examined.source),
    }
    rows = [row._replace(value=computed.get(row.name, row.value)) for row in effective(examined.source)]
    out.table(
        [Column("SETTING"), Column("VALUE", shrinks=True), Column("FROM")],
        [
            [Cell(_text(part), style=DIM if row.spot is None else "") for part in (row.name, row.value, _from(row))]
            for row in rows
        ],
        document=[{"setting": row.name, "value": row.value, **_origin(row.spot)} for row in rows],
    )


@config.command()
@click.option("--tenants", is_flag=True, help="That of a file of tenants, for `plan` and `apply`.")
def schema(tenants: bool) -> None:
    """Print the JSON Schema, for editors.

    With it they complete and check while one types. A YAML file names it in a comment on its first line:
    `# yaml-language-server: $schema=beffroi.schema.json`.
    """
    as_json(tenants_schema() if tenants else json_schema())


@config.command()
def example() -> None:
    """Print a file that names every setting.

    Each with its default and what it means.
    """
    click.echo(example_text(), nl=False)


def _examine(given: Path | None, options: Any) -> tuple[Path | None, Examined]:
    try:
        file = config_file(given)
    except Invalid as error:
        return None, Examined(EMPTY, error.problems, [])
    return file, examine(file, overrides=options)


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        **_origin(problem.spot),
        "setting": problem.name,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _origin(spot: Spot | None) -> dict[str, Any]:
    """Where something comes from, with the members that kind of place has."""
    if spot is None:
        return {"origin": "default"}
    if spot.kind == "environment":
        return {"origin": spot.kind, "variable": spot.name}
    if spot.kind == "command line":
        return {"origin": spot.kind, "option": spot.name}
    return {"origin": spot.kind, "file": spot.name, "line": spot.line, "column": spot.column}


def _place(spot: Spot) -> tuple[Value, ...]:
    """The same in columns."""
    said = _origin(spot)
    return tuple(said.get(column.name) for column in _PLACE)


def _text(value: Any) -> str:
    """A value on one line, as a person writes it."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(part)}" for name, part in value.items()) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from(row: Effective) -> str:
    return "default" if row.spot is None else str(row.spot)
