# SPDX-License-Identifier: Apache-2.0
"""The command line: `beffroi` and its commands.

In: arguments. Out: text, JSON under `--json`, and an exit status (`client.EXIT_STATUSES`).
"""

import click

from beffroi import __version__
from beffroi.cli.backup import backup
from beffroi.cli.journal import journal
from beffroi.cli.keys import keys
from beffroi.cli.serve import serve
from beffroi.cli.usage import usage


@click.group(commands=[serve, keys, usage, journal, backup], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="beffroi")
def main() -> None:
    """Beffroi: a gateway for language models."""


if __name__ == "__main__":
    main()
