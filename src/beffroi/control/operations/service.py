# SPDX-License-Identifier: Apache-2.0
"""Runs long work in the control process, and writes down how far it is, so that any replica can tell.

In: a coroutine, and whoever begins it. Out: a row that follows it. A process that ends takes its work with it: a row whose
process has said nothing for `SILENT` seconds has failed, and says so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.api.operation import Page
from beffroi.control.operations.shapes import Work
from beffroi.control.tenancy.scope import CONTROL, EVERY, Actor, Scope, acting
from beffroi.core.errors import BeffroiError, Conflict, InternalError
from beffroi.core.ids import new_id
from beffroi.store.administration import operations
from beffroi.telemetry import logs

BEAT = 5  # seconds between two signs of life
SILENT = 30  # seconds without one, after which it is gone
KEPT = 30 * 86_400  # seconds for which work is remembered, also that whose process ended before it
AT_ONCE = 8  # under way in one process
RUNNING, DONE, FAILED = "running", "done", "failed"
Told = Callable[[int], None]  # is given the progress, 0 to 100
_t = operations.c
_FAILED = {"code": InternalError.code, "detail": "something went wrong inside; the log says what"}
_GONE = {"code": "process_ended", "detail": "the process that worked on it ended; begin it again"}
log = logs.Logger("control.operations")


class Operations:
    """Long work of this process.

    Args:
        writing: runs a call that changes the database.
    """

    def __init__(self, engine: Engine, writing: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._engine = engine
        self._writing = writing
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, int] = {}

    async def begin(self, actor: Actor, organisation: str, kind: str, work: Callable[[Told], Awaitable[Any]]) -> Work:
        """Begin `work`, and say under which id it is found.

        Raises:
            Conflict: too much is under way.
        """
        if len(self._tasks) >= AT_ONCE:
            raise Conflict(f"{AT_ONCE} operations are under way; wait for one of them")
        identifier, now = new_id("op"), int(time.time())

        def note() -> Work:
            with acting(self._engine, actor, organisation) as scope:
                scope.connection.execute(scope.delete(operations).where(_t.updated_at < now - KEPT))
                values = {"id": identifier, "kind": kind, "state": RUNNING, "progress": 0, "created_by": actor.id}
                scope.connection.execute(
                    scope.insert(operations, EVERY).values(**values, created_at=now, updated_at=now)
                )
                return shown(scope.find(operations, identifier, "operation"))

        begun: Work = await self._writing(note)
        self._progress[identifier] = 0
        self._tasks[identifier] = asyncio.create_task(self._run(identifier, work), name=f"operation {identifier}")
        return begun

    async def _run(self, identifier: str, work: Callable[[Told], Awaitable[Any]]) -> None:
        def told(progress: int) -> None:
            self._progress[identifier] = max(0, min(100, progress))

        beating = asyncio.create_task(self._beat(identifier))
        end: dict[str, Any] = {"state": FAILED, "fault": _FAILED}  # also where the work ends as nobody thought of
        try:
            end = {"state": DONE, "progress": 100, "result": await work(told)}
        except BeffroiError as error:
            if error.exposable:
                end["fault"] = {"code": error.code or InternalError.code, "detail": error.message}
            else:
                log.error("an operation failed", operation=identifier, reason=error.message)
        except (SQLAlchemyError, OSError) as error:
            log.error("an operation failed", operation=identifier, reason=str(error))
        except asyncio.CancelledError:
            end["fault"] = _GONE
        finally:
            beating.cancel()
            del self._tasks[identifier], self._progress[identifier]
            await self._end(identifier, end)

    async def _end(self, identifier: str, end: dict[str, Any]) -> None:
        try:
            await self._writing(lambda: self._set(identifier, end))
        except (SQLAlchemyError, OSError) as error:
            log.error("the end of an operation could not be noted", operation=identifier, reason=str(error))

    async def _beat(self, identifier: str) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._writing(partial(self._set, identifier, {"progress": self._progress[identifier]}))
            except (SQLAlchemyError, OSError) as error:
                log.warning("the progress of an operation could not be noted", operation=identifier, reason=str(error))

    def _set(self, identifier: str, values: dict[str, Any]) -> None:
        with acting(self._engine, CONTROL, EVERY) as scope:
            here = scope.update(operations).where(_t.id == identifier, _t.state == RUNNING)
            scope.connection.execute(here.values(**values, updated_at=int(time.time())))

    def progress(self, work: Work) -> Work:
        """With the progress that only this process knows yet, or the news that its own is gone."""
        if work.state != RUNNING:
            return work
        if work.id in self._progress:
            return msgspec.structs.replace(work, progress=self._progress[work.id])
        if time.time() - work.updated_at > SILENT:
            return msgspec.structs.replace(work, state=FAILED, fault=_GONE)
        return work

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)


def listed(scope: Scope, page: Page) -> list[Row[Any]]:
    """Rows of a page, the first begun first."""
    return list(scope.connection.execute(page.window(scope.select(operations), _t.id)).all())


def find(scope: Scope, identifier: str) -> Row[Any]:
    """One row.

    Raises:
        ObjectNotFound: there is none.
    """
    return scope.find(operations, identifier, "operation")


def shown(row: Row[Any]) -> Work:
    """As it is shown."""
    return Work(*(getattr(row, name) for name in Work.__struct_fields__))
