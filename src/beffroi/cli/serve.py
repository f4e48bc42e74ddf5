# SPDX-License-Identifier: Apache-2.0
"""`beffroi serve`: the first of a newcomer's two commands.

In: options and a configuration file. Out: a running Beffroi, and what a person needs to use it, on standard output.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from beffroi.cli.backing import choose
from beffroi.cli.data import data_option
from beffroi.cli.settings import (
    config_file,
    count,
    effective_data,
    effective_workers,
    overrides,
    server_options,
    tell,
)
from beffroi.cli.welcome import Welcome
from beffroi.config.compile import compile_config
from beffroi.config.examine import examine
from beffroi.config.load import Invalid, Source, resources
from beffroi.config.secrets import anchored
from beffroi.config.valkey import valkey_of
from beffroi.core.state import holds
from beffroi.supervisor.directory import DataDirectory
from beffroi.supervisor.errors import StartError
from beffroi.supervisor.plan import Plan
from beffroi.supervisor.tree import Supervisor
from beffroi.telemetry import logs


@click.command()
@server_options
@click.option(
    "--engine",
    "engine_urls",
    metavar="URL",
    multiple=True,
    help="An inference engine to serve, or `embedded` for our own; may be given several times.",
)
@data_option
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file, YAML or TOML; else $BEFFROI_CONFIG, ./beffroi.yaml, ./beffroi.toml.",
)
def serve(engine_urls: tuple[str, ...], data: Path | None, config: Path | None, **options: Any) -> None:
    """Serve models until Ctrl-C.

    Without an engine in the configuration file or on the command line, Beffroi looks for one on this machine, and
    starts its own small one if there is none. A configuration with a fault starts nothing: `beffroi config check`
    shows the same faults.

    Logs go to standard error: a line for a person on a terminal (without colours where NO_COLOR is set), else one JSON
    object a line with at, level, logger, process, event and the event's fields.
    """
    logs.configure("supervisor")
    os.umask(0o077)
    try:
        file = config_file(config)
        examined = examine(file, overrides=overrides(**options, data=data), more=bool(engine_urls))
        source = examined.sound()
        tell(examined.notes, word="note: ")
        with DataDirectory(effective_data(source)) as directory:
            backing = choose(engine_urls, source, directory.path)
            found = [] if backing.resources is None else [resources(backing.resources, "(found at start)")]
            compiled = compile_config([source, *found], 0)  # as control will: what it would refuse starts nothing
            server = source.document.server
            plan = Plan(
                data=directory.path,
                host=server.host,
                port=server.port,
                control_host=server.control_host,
                control_port=server.control_port,
                workers=effective_workers(source),
                tls=_tls(source),
                config=None if file is None else file.absolute(),
                resources=backing.resources,
                warm=holds(directory.path, compiled),
                fleet=_fleet(source),
                valkey=valkey_of(source, os.environ),
                engine=backing.engine,
            )
            welcome = Welcome(plan, backing.line)
            status = Supervisor(plan, welcome, welcome.leave).run()
    except StartError as error:
        click.echo(str(error), err=True)
        if "MAKELEVEL" in os.environ and "--" in str(error):  # make takes options for itself
            click.echo('With make, options go into ARGS: make serve ARGS="--port 9000"', err=True)
        sys.exit(error.code)
    except Invalid as error:
        tell(error.problems)
        click.echo(f"Nothing was started: {count(len(error.problems), 'fault')} in the configuration.", err=True)
        sys.exit(2)
    sys.exit(status)


def _fleet(source: Source) -> dict[str, Any] | None:
    server = source.document.server
    if server.database is None or server.fleet_secret is None:
        return None
    return {
        "database": anchored(server.database, source.base),
        "secret": anchored(server.fleet_secret, source.base),
        "trust_keys": server.trust_keys,
        "hold_journal": server.hold_journal,
        "hold_journal_bytes": server.hold_journal_bytes,
    }


def _tls(source: Source) -> dict[str, Any] | None:
    tls = source.document.server.tls
    if tls is None:
        return None
    return {
        "cert": str((source.base / tls.certificate).absolute()),
        "key": str((source.base / tls.key).absolute()),
        "client_ca": str((source.base / tls.client_ca).absolute()) if tls.client_ca else None,
        "client_required": tls.client_certificates == "required",
    }
