# SPDX-License-Identifier: Apache-2.0
"""`beffroi serve`: the first of a newcomer's two commands.

In: options and a configuration file. Out: a running Beffroi, and what a person needs to use it, on standard output.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from beffroi.cli.data import data_directory, data_option
from beffroi.cli.welcome import Welcome
from beffroi.config.load import EMPTY, Invalid, Source, load
from beffroi.embedded import settings as embedded
from beffroi.supervisor import engines
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
    help="An inference engine to serve; may be given several times.",
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
            resources, engine, note = _engines(engine_urls, source, directory.path)
            plan = Plan(
                data=directory.path,
                host=told.host if host is None else host,
                port=told.port if port is None else port,
                control_host=told.control_host,
                control_port=told.control_port if control_port is None else control_port,
                workers=workers or told.workers or max(1, _cores() // 2),
                tls=_tls(source),
                config=None if config is None else config.absolute(),
                resources=resources,
                engine=engine,
            )
            status = Supervisor(plan, Welcome(plan, note)).run()
    except (StartError, Invalid) as error:
        click.echo(str(error), err=True)
        sys.exit(error.code if isinstance(error, StartError) else 2)
    sys.exit(status)


def _engines(
    urls: tuple[str, ...], source: Source, data: Path
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """What is served beside the file's own engines, what the embedded engine is told if it is wanted, and a line that says which."""
    if urls:
        found = engines.named(urls)
        return engines.resources(found), None, _listed(found)
    if source.document.resources.engines:
        return None, None, ", ".join(engine.name for engine in source.document.resources.engines)
    found = engines.on_loopback()
    if found:
        return engines.resources(found), None, f"{_listed(found)} (found on this machine)"
    told = embedded.arguments(data)
    looked = ", ".join(f"{name} {port}" for name, port in engines.USUAL.items())
    return embedded.resources(told), told, f"embedded (llama.cpp; none was found on this machine: {looked})"


def _listed(found: list[engines.Found]) -> str:
    return ", ".join(f"{engine.name} at {engine.url}" for engine in found)


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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
