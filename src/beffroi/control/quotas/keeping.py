# SPDX-License-Identifier: Apache-2.0
"""Shared counters that are new, or were lost, are told what the ledger knows; only then do hard budgets open (D16).

In: the house, the budgets, the keys. Out: budgets of the centre raised to the ledger's sums, whenever it asks for them.
"""

import asyncio
import contextlib
from functools import partial

from beffroi.control.budgets import Budgets
from beffroi.control.house import House
from beffroi.control.snapshots import KeyFiles

SOON, LOOK = 0.25, 1.0  # seconds between two looks whether the shared counters know what the ledger knows


async def fill(house: House, budgets: Budgets, files: KeyFiles) -> None:
    """Look, for as long as this process lives."""
    pause = SOON
    with contextlib.suppress(TimeoutError):
        await house.shipper.caught_up()
    while True:
        await asyncio.sleep(pause)
        keys = tuple(files.keys.values())
        filled = await house.blocking(partial(budgets.fill, house.engine, keys))
        pause = LOOK if filled or pause >= LOOK else pause * 2
