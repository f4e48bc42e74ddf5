# SPDX-License-Identifier: Apache-2.0
"""The command line: `beffroi` and its commands.

In: arguments. Out: text, JSON under `--json`, and an exit status (`client.EXIT_STATUSES`).
"""

import errno
import os
import re
import sys
from importlib import import_module
from typing import Any

import click

from beffroi import __version__

# In the order of a day. A command is loaded when it is called: `serve` does not wait for tables, `keys` not for servers.
COMMANDS = {
    "init": "beffroi.cli.init",
    "serve": "beffroi.cli.serve",
    "chat": "beffroi.cli.chat.command",
    "plan": "beffroi.cli.declare.command",
    "apply": "beffroi.cli.declare.command",
    "export": "beffroi.cli.declare.command",
    "orgs": "beffroi.cli.things.tenants",
    "projects": "beffroi.cli.things.tenants",
    "members": "beffroi.cli.things.tenants",
    "service-accounts": "beffroi.cli.things.tenants:service_accounts",
    "systems": "beffroi.cli.things.tenants",
    "admin-keys": "beffroi.cli.things.tenants:admin_keys",
    "keys": "beffroi.cli.keys",
    "tiers": "beffroi.cli.things.limits",
    "quotas": "beffroi.cli.things.limits",
    "webhooks": "beffroi.cli.things.others",
    "operations": "beffroi.cli.things.others",
    "events": "beffroi.cli.things.others",
    "models": "beffroi.cli.models",
    "engines": "beffroi.cli.engines",
    "requests": "beffroi.cli.requests",
    "usage": "beffroi.cli.usage",
    "config": "beffroi.cli.config",
    "import": "beffroi.cli.importer.command:import_",
    "doctor": "beffroi.cli.doctor.command",
    "bench": "beffroi.cli.bench.command",
    "fleet": "beffroi.cli.fleet",
    "journal": "beffroi.cli.journal",
    "backup": "beffroi.cli.backup",
    "completion": "beffroi.cli.completion",
}


_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of bytes of an argument that are no text


def _open_standard() -> None:
    """Give a command that was started with a closed descriptor the null device: what it opens next would take its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: its own
            setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w", encoding="utf-8"))


class _Loading(click.Group):
    """A group that loads a command's module when it is asked for; the module has it under its name, or as `module:name`."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; what keeps it from telling what it found is told in a sentence, if anybody can read it."""
        _open_standard()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in its buffer would fail once more at the end
            click.echo("Error: there is no space left where this writes; what was asked may have been done", err=True)
            sys.exit(1)
        except UnicodeEncodeError as error:
            if not any(_SURROGATE.search(argument) for argument in sys.argv):
                raise
            click.echo(f"Error: {error.object!r} is no text in {sys.getfilesystemencoding()}", err=True)
            sys.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order of `COMMANDS`; all are loaded, for who lists them shows what they do."""
        for name in COMMANDS:
            self.get_command(ctx, name)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them; for a name that is none, all are loaded, so that the nearest can be proposed."""
        if cmd_name not in COMMANDS:
            self.list_commands(ctx)
        elif cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            self.add_command(getattr(import_module(module), attribute or cmd_name), cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Loading, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="beffroi")
def main() -> None:
    """Beffroi: a gateway for language models."""


if __name__ == "__main__":
    main()
