# SPDX-License-Identifier: Apache-2.0
"""Long work: however it ends, its row says so, and no row stays for ever."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.operations import service
from beffroi.control.operations.service import KEPT, Operations, Told
from beffroi.control.operations.shapes import Work
from beffroi.control.tenancy.scope import EVERY, SOCKET, looking
from beffroi.core.errors import Conflict, InternalError, ObjectNotFound
from beffroi.store.administration import operations

pytestmark = pytest.mark.anyio


@pytest.fixture
def running(database: Engine) -> Operations:
    """The work of one process."""

    async def writing(call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(call)

    return Operations(database, writing)


def row(database: Engine, identifier: str) -> Work:
    """What the database says of work."""
    with looking(database, SOCKET, EVERY) as scope:
        return service.shown(service.find(scope, identifier))


async def ended(database: Engine, running: Operations, error: BaseException) -> Work:
    """What the database says of work that ends like that."""

    async def work(_: Told) -> None:
        raise error

    begun = await running.begin(SOCKET, EVERY, "backup", work)
    async with asyncio.timeout(10):
        while row(database, begun.id).state == service.RUNNING:
            await asyncio.sleep(0.01)
    return row(database, begun.id)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Conflict("wait for the other"), "conflict", "wait for the other"),
        (InternalError("secret"), "internal_error", "the log says what"),
        (OSError(28, "No space left on device"), "internal_error", "the log says what"),
        (SQLAlchemyError("secret"), "internal_error", "the log says what"),
        (asyncio.CancelledError(), "process_ended", "begin it again"),
    ],
)
async def test_work_that_fails_in_whatever_way_says_so(
    database: Engine, running: Operations, error: BaseException, code: str, said: str
) -> None:
    """A full disk too: nobody waits for a row that nothing will ever change."""
    found = await ended(database, running, error)
    assert (found.state, found.fault["code"]) == (service.FAILED, code)
    assert said in found.fault["detail"] and "secret" not in found.fault["detail"]


async def test_work_is_forgotten_in_time_however_it_ended(database: Engine, running: Operations) -> None:
    """Also a row that says `running` still, because its process ended before it could say anything else."""
    then = int(time.time()) - KEPT - 1
    values = {"organisation": EVERY, "kind": "backup", "progress": 0, "created_by": "cli"}
    with database.begin() as connection:
        for state in (service.RUNNING, service.DONE):
            old = values | {"id": f"op_{state}", "state": state, "created_at": then, "updated_at": then}
            connection.execute(insert(operations).values(old))
    await ended(database, running, Conflict("wait"))
    for state in (service.RUNNING, service.DONE):
        with pytest.raises(ObjectNotFound):
            row(database, f"op_{state}")
