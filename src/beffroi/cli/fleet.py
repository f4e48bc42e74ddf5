# SPDX-License-Identifier: Apache-2.0
"""`beffroi fleet`: the machines that share one database, and taking off one that will not come back.

In: what control of this machine, or of one far away, knows of the others. Out: a table, and a sentence.
"""

import click

from beffroi.cli import show
from beffroi.cli.control import Control, control_options
from beffroi.cli.show import Column


@click.group()
def fleet() -> None:
    """List the machines of a fleet, take one off."""


@fleet.command("list")
@control_options
@show.output_options()
def list_(control: Control, out: show.Output) -> None:
    """List the machines and how far each follows.

    SILENT is how long ago each was last heard of.

    FOLLOWS is the number of the newest change of keys that all workers of the machine hold.
    """
    found = control.call("GET", "/api/v1/replicas")
    columns = [
        Column("REPLICA"),
        Column("MACHINE", shrinks=True),
        Column("WORKERS"),
        Column("FOLLOWS"),
        Column("SILENT"),
    ]
    rows = [(one["id"], one["address"], one["workers"], one["keys"], f"{one['silent']:.0f} s") for one in found["data"]]
    out.table(columns, rows, document=found, empty="There is one Beffroi, with its own ledger: no fleet.")


@fleet.command()
@click.argument("replica")
@control_options
@show.output_options(csv=False)
def forget(replica: str, control: Control, out: show.Output) -> None:
    """Take off REPLICA, a machine that is gone.

    It is gone with its disk; revocations no longer wait for it.

    What it had open is closed from its last progress. A machine that only stopped answering may still serve: end it first.
    """
    done = control.call("DELETE", f"/api/v1/replicas/{replica}")
    out.record(
        [("replica", done["id"]), ("machine", done["address"]), ("exchanges closed", done["recovered"])], document=done
    )
