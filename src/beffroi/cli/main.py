# SPDX-License-Identifier: Apache-2.0
"""The command line: `beffroi` and its commands.

In: arguments. Out: text, JSON under `--json`, and an exit status (`client.EXIT_STATUSES`).
"""

import click

from beffroi import __version__
from beffroi.cli.backup import backup
from beffroi.cli.bench.command import bench
from beffroi.cli.chat.command import chat
from beffroi.cli.completion import completion
from beffroi.cli.config import config
from beffroi.cli.doctor.command import doctor
from beffroi.cli.engines import engines
from beffroi.cli.importer.command import import_
from beffroi.cli.init import init
from beffroi.cli.journal import journal
from beffroi.cli.keys import keys
from beffroi.cli.models import models
from beffroi.cli.requests import requests
from beffroi.cli.serve import serve
from beffroi.cli.usage import usage


class _InOrder(click.Group):
    """Lists its commands as a day goes, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click asks so
        """In the order in which they were given."""
        return list(self.commands)


@click.group(
    cls=_InOrder,
    commands=[
        init,
        serve,
        chat,
        keys,
        models,
        engines,
        requests,
        usage,
        config,
        import_,
        doctor,
        bench,
        journal,
        backup,
        completion,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="beffroi")
def main() -> None:
    """Beffroi: a gateway for language models."""


if __name__ == "__main__":
    main()
