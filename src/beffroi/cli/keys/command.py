# SPDX-License-Identifier: Apache-2.0
"""The group of commands, in the order in which they are listed.

In: nothing. Out: `keys`.
"""

import click

from beffroi.cli.keys.look import list_keys, show_key
from beffroi.cli.keys.make import create, update
from beffroi.cli.keys.revoke import revoke
from beffroi.cli.keys.rotate import rotate
from beffroi.cli.keys.rotations import rotations
from beffroi.cli.keys.schedule import schedule

keys = click.Group(
    "keys",
    commands=[create, list_keys, show_key, update, rotate, schedule, rotations, revoke],
    help="Make, change, list, show, rotate and revoke API keys.",
)
