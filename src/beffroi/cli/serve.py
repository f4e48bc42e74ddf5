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
from beffroi.cli.data import data_directory, data_option
from beffroi.cli.welcome import Welcome
from beffroi.config.compile import compile_config
from beffroi.config.load import EMPTY, Invalid, Source, load, resources
from beffroi.core.state import holds
from beffroi.supervisor.directory import DataDirectory
from beffroi.supervisor.errors import StartError
from beffroi.supervisor.plan import Plan
from beffroi.supervisor.sockets import is_loopback
from beffroi.supervisor.tree import Supervisor
from beffroi.telemetry import logs

_PORT = click.IntRange(0, 65535)


@click.command()
@click.option("--host", help="Address the API listens on.  [default: 127.0.0.1]")
@click.option("--port", type=_PORT, help="Port of the API; 0 takes a free one.  [default: 8400]")
@click.option(
    "--control-port", type=_PORT, help="Port of health and metrics, on loopback; 0 takes a free one.  [default: 8401]"
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Gateway processes, one core each.  [default: half the cores]"
)
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
    help="Configuration file, YAML or TOML.",
)
def serve(
    host: str | None,
    port: int | None,
    control_port: int | None,
    workers: int | None,
    engine_urls: tuple[str, ...],
    data: Path | None,
    config: Path | None,
) -> None:
    """Serve models until Ctrl-C.

    Without an engine in the configuration file or on the command line, Beffroi looks for one on this machine, and
    starts its own small one if there is none.
    """
    logs.configure("supervisor")
    os.umask(0o077)
    try:
        source = EMPTY if config is None else load(config)
        told = source.document.server
        if not is_loopback(told.control_host):
            raise StartError(
                f"The control port must stay on loopback; server.control_host is {told.control_host!r}.", code=2
            )
        given = source.base / told.data if data is None and told.data else data
        with DataDirectory(data_directory(given)) as directory:
            backing = choose(engine_urls, source, directory.path)
            found = [] if backing.resources is None else [resources(backing.resources, "(found at start)")]
            compiled = compile_config([source, *found], 0)  # as control will: what it would refuse starts nothing
            plan = Plan(
                data=directory.path,
                host=told.host if host is None else host,
                port=told.port if port is None else port,
                control_host=told.control_host,
                control_port=told.control_port if control_port is None else control_port,
                workers=workers or told.workers or max(1, len(os.sched_getaffinity(0)) // 2),
                tls=_tls(source),
                config=None if config is None else config.absolute(),
                resources=backing.resources,
                warm=holds(directory.path, compiled),
                engine=backing.engine,
            )
            welcome = Welcome(plan, backing.line)
            status = Supervisor(plan, welcome, welcome.leave).run()
    except (StartError, Invalid) as error:
        click.echo(str(error), err=True)
        sys.exit(error.code if isinstance(error, StartError) else 2)
    sys.exit(status)


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
