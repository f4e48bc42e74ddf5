# SPDX-License-Identifier: Apache-2.0
"""`beffroi doctor`: what is wrong with this machine, and what to do.

In: a data directory and a configuration file. Out: a line a check, as each is made, or one document; status 1 for a problem.
"""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from beffroi.cli import show
from beffroi.cli.client import Failure
from beffroi.cli.data import config_file, data_option
from beffroi.cli.doctor import certificates, clock, disk, engines, machine, running, secrets
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene, look
from beffroi.cli.settings import overrides, server_options
from beffroi.config.load import Invalid

CHECKS: dict[str, Callable[[Scene], Iterator[Finding]]] = {
    "python": machine.python,
    "packages": machine.packages,
    "kernel": machine.kernel,
    "descriptors": machine.descriptors,
    "cores": machine.cores,
    "memory": machine.memory,
    "data directory": disk.directory,
    "data version": running.version,
    "vault": secrets.vault,
    "file system": disk.filesystem,
    "disk space": disk.space,
    "fsync": disk.syncing,
    "locks": disk.locks,
    "time zone": clock.zones,
    "configuration": running.configuration,
    "beffroi": running.another,
    "port": running.ports,
    "certificate": certificates.certificates,
    "engines": engines.engines,
    "clock": clock.clock,  # last: it also says whether the clock jumped meanwhile
}
_OTHER_USER = "Run it as the user who runs Beffroi."
_LOOKS = {OK: show.GOOD, WARNING: show.WARN, PROBLEM: show.BAD}
_NAME, _STATE = 16, 8  # columns


@click.command()
@server_options
@data_option
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file, as for `serve`; else $BEFFROI_CONFIG, ./beffroi.yaml, ./beffroi.toml.",
)
@show.output_options()
def doctor(data: Path | None, config: Path | None, out: show.Output, **options: Any) -> None:
    """Examine this machine and say what to mend.

    Options and files are those of a start: what it would meet is examined. Works beside a running Beffroi and without one,
    and changes nothing. Exits with 1 if there is a problem; warnings leave 0.
    """
    try:
        file = config_file(config)
    except Invalid as error:
        raise Failure(str(error)) from None
    scene = look(file, overrides(**options, data=data))
    found = []
    for finding in examine(scene):
        found.append(finding)
        if out.kind == "people":
            _print(finding)
    wrong = [finding for finding in found if finding.state == PROBLEM]
    if out.kind == "people":
        _sum_up(found)
    else:
        columns = [show.Column(name.upper()) for name in Finding._fields]
        document = {"ok": not wrong, "data": str(scene.data), "checks": [finding._asdict() for finding in found]}
        out.table(columns, found, document=document)
    sys.exit(1 if wrong else 0)


def examine(scene: Scene) -> Iterator[Finding]:
    """Every check in turn; one that the machine does not let be made is a problem itself."""
    for name, check in CHECKS.items():
        try:
            yield from check(scene)
        except PermissionError:  # one reason, told once as a problem: by the check of the data directory
            yield Finding(name, WARNING, "Not examined: this user may not.", _OTHER_USER)
        except OSError as error:
            yield Finding(name, PROBLEM, f"Cannot be examined: {error}.", _OTHER_USER)


def _print(finding: Finding) -> None:
    room = max(show.width(), 40) if sys.stdout.isatty() else 0
    state = show.paint(finding.state.ljust(_STATE), _LOOKS[finding.state])
    margin = " " * (_STATE + 1 + _NAME + 1)
    for number, line in enumerate(_wrapped(show.safe(finding.finding), room, len(margin))):
        head = f"{state} {show.paint(finding.check.ljust(_NAME), show.STRONG)} " if number == 0 else margin
        click.echo(f"{head}{line}")
    for number, line in enumerate(_wrapped(show.safe(finding.remedy), room, len(margin) + 2)):
        click.echo(f"{margin}{'→ ' if number == 0 else '  '}{line}")


def _wrapped(text: str, room: int, margin: int) -> list[str]:
    """Lines of a sentence: one in a pipe, as many as it takes on a terminal. Words, such as paths, stay whole."""
    if not room or not text:
        return [text] if text else []
    return textwrap.wrap(text, room - margin, break_long_words=False, break_on_hyphens=False)


def _sum_up(found: list[Finding]) -> None:
    problems, warnings = (sum(finding.state == state for finding in found) for state in (PROBLEM, WARNING))
    if not problems and not warnings:
        click.echo(f"\nAll {len(found)} checks are well.")
        return
    parts = [
        f"{count} {what}{'s' * (count != 1)}" for count, what in ((problems, "problem"), (warnings, "warning")) if count
    ]
    click.echo(f"\n{len(found)} checks: {' and '.join(parts)}.")
