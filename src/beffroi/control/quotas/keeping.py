# SPDX-License-Identifier: Apache-2.0
"""What control does about budgets for as long as it lives: they follow the ledger, are on the disk, and are told of near their end.

In: the house, what was opened. Out: budgets raised to the ledger's sums, counters written, alerts. Shared counters that are
new, or were lost, are told what the ledger knows whenever they ask for it; only then do hard budgets open (D16).
"""

import asyncio
import contextlib
import time
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.fleet import sharing
from beffroi.control.house import House
from beffroi.control.opening import Opening
from beffroi.control.quotas.alerts import Alerts
from beffroi.core.errors import CountersUnavailable
from beffroi.telemetry import logs

SOON, LOOK = 0.25, 1.0  # seconds between two looks whether the shared counters know what the ledger knows
ALERT = 3.0  # seconds between two looks at all budgets
ALERT_SHARE = 50  # a look that took one second of CPU is followed by so many of rest
FORGET = 86_400.0  # seconds between two looks for alerts that are long over
FLUSH = 5.0  # seconds between two writes of the counters to the disk
log = logs.Logger("control")


async def fill(house: House, opened: Opening) -> None:
    """Tell shared counters what the ledger knows, whenever they lack it."""
    pause = SOON
    with contextlib.suppress(TimeoutError):
        await house.shipper.caught_up()
    while True:
        await asyncio.sleep(pause)
        keys = tuple(opened.files.keys.values())
        filled = await house.blocking(partial(house.budgets.fill, house.engine, keys))
        pause = LOOK if filled or pause >= LOOK else pause * 2


async def keep(house: House, opened: Opening, *, fresh: bool) -> None:
    """Have budgets follow the ledger once it has all that earlier workers left; then keep their file on the disk.

    Args:
        fresh: every earlier worker is dead.
    """
    budgets = house.budgets
    behind = fresh and not budgets.shared
    if behind:
        with contextlib.suppress(TimeoutError):
            await house.shipper.caught_up()
    while True:
        behind = behind and not await _restored(house, opened)  # again where the database of a fleet is away
        await asyncio.sleep(FLUSH)
        await house.blocking(budgets.settle)
        await house.blocking(budgets.flush)


async def _restored(house: House, opened: Opening) -> bool:
    keys = tuple(opened.files.keys.values())
    try:
        await house.blocking(partial(house.budgets.restore, house.engine, keys))
    except SQLAlchemyError as error:
        log.error("budgets could not be compared with the ledger", reason=sharing.why(error, opened.shown))
        return False
    return True


async def alert(house: House, opened: Opening) -> None:
    """Look at budgets every few seconds, more seldom where there are so many that it would keep a core busy."""
    alerts, files = Alerts(house.engine, house.budgets), opened.files
    rest, forgot = ALERT, -FORGET

    def look() -> None:
        if told := alerts.look(tuple(files.keys.values()), tuple(files.quotas.values())):
            log.info("budgets near their end", alerts=told)

    while True:
        await asyncio.sleep(rest)
        began = time.process_time()
        try:
            await house.keys.catch_up_quotas()
            await house.writing(look)
            if time.monotonic() - forgot > FORGET:
                await house.writing(alerts.forget)
                forgot = time.monotonic()
        except (SQLAlchemyError, OSError, CountersUnavailable) as error:
            log.error("budgets could not be looked at for alerts", reason=str(error))
        rest = max(ALERT, (time.process_time() - began) * ALERT_SHARE)
