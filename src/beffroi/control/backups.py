# SPDX-License-Identifier: Apache-2.0
"""Makes the copy of the data directory that `beffroi backup create` packs, while everything is served.

In: what the command line asks over `control.sock`. Out: a folder below the data directory, how far it is, its end.
Control copies, because it alone can hold shipping and keys still for a moment; the command line packs, because only it may
know a place outside the data directory, and has the time. While it packs, it holds a lock on the folder.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from beffroi.control import stage
from beffroi.control.budgets import Budgets
from beffroi.control.events import record as record_event
from beffroi.control.shipping import Shipper
from beffroi.control.stage import Moment
from beffroi.core.errors import Conflict, InternalError
from beffroi.core.ids import new_id
from beffroi.core.locks import is_held
from beffroi.store.copy import NotSound
from beffroi.store.engine import HEAD
from beffroi.store.server import is_server
from beffroi.telemetry import logs

log = logs.Logger("control.backups")
_LOOK = 0.2  # seconds between two looks at how far a copy is
SHARED = (
    "the ledger of this machine is in PostgreSQL: `pg_dump -Fc` backs up all of it, keys and sealed peppers too, while it is "
    "served. Keep `server.fleet_secret` with it, which alone opens the peppers: without it no key works. What lies here is the "
    "journal of the last second, and a key table that is made again from the database"
)


class _Stopped(Exception):
    """The process ends: the copy is given up."""


class Backups:
    """One copy at a time.

    Args:
        acts: the one thread in which keys and configuration change.
    """

    def __init__(
        self, data: Path, engine: Engine, acts: ThreadPoolExecutor, shipper: Shipper, budgets: Budgets
    ) -> None:
        self._data = data
        self._engine = engine
        self._acts = acts
        self._shipper = shipper
        self._budgets = budgets
        self._job: asyncio.Task[None] | None = None
        self._stopping = False
        self._state: dict[str, Any] = {"state": "none"}
        if not is_read(data):
            stage.discard(data)

    @property
    def state(self) -> dict[str, Any]:
        """`state`: none, copying, ready, failed; then `id`, `done` and `total` bytes, `folder`, `began_ns`, `reason`."""
        return self._state

    async def begin(self, *, actor: str, door: str = "cli") -> dict[str, Any]:
        """Begin a copy; its state, with its id.

        Raises:
            Conflict: one is being made, or packed.
        """
        if is_server(self._engine):
            raise Conflict(SHARED)
        if self._state["state"] == "copying":
            raise Conflict("a backup is being made already; wait for it, then ask again")
        if is_read(self._data):
            raise Conflict("another `beffroi backup create` is writing its archive; wait for it, then ask again")
        self._state = {"state": "copying", "id": new_id("bak"), "done": 0, "total": 0}
        self._job = asyncio.create_task(self._copy(actor, door), name="backup")
        return self._state

    async def _copy(self, actor: str, door: str) -> None:
        loop, state = asyncio.get_running_loop(), self._state
        try:
            moment = await loop.run_in_executor(self._acts, self._moment, actor, door, state["id"])
            folder = await asyncio.to_thread(moment.write, partial(self._told, state))
        except (OSError, NotSound, _Stopped) as error:
            log.error("a backup could not be made", reason=str(error))
            self._state = state | {"state": "failed", "reason": str(error)}
        else:
            self._state = state | {
                "state": "ready",
                "folder": str(folder),
                "began_ns": moment.began_ns,
                "revision": HEAD,
            }

    def _moment(self, actor: str, door: str, backup: str) -> Moment:
        with self._engine.begin() as connection:  # before the copy, so that the copy tells of itself
            record_event(connection, actor=actor, action=f"{door}:backup:create", subject=backup)
        return Moment(self._data, self._still)

    @contextmanager
    def _still(self) -> Iterator[None]:
        with self._shipper.still(), self._budgets.still():
            yield

    def _told(self, state: dict[str, Any], done: int, total: int) -> None:
        if self._stopping:
            raise _Stopped("the control process is ending")
        state["done"], state["total"] = done, total

    async def follow(self, identifier: str, told: Callable[[int], None]) -> dict[str, Any]:
        """Wait for the copy of that id; its state then, `told` how far it is on the way.

        Raises:
            Conflict: it was removed, or another began since. InternalError: it could not be made; the log says why.
        """
        while (state := self._state).get("id") == identifier:
            if state["state"] == "ready":
                return state
            if state["state"] == "failed":
                raise InternalError(state["reason"])
            told(int(100 * state["done"] / state["total"]) if state["total"] else 0)
            await asyncio.sleep(_LOOK)
        raise Conflict(
            "the copy was removed, or another was begun in its place, before this one was told of; begin anew"
        )

    async def discard(self) -> None:
        """Remove the copy, once it is packed or not wanted.

        Raises:
            Conflict: it is being made.
        """
        if self._state["state"] == "copying":
            raise Conflict("the copy is being made; it can be removed once it is done")
        self._state = {"state": "none"}
        await asyncio.to_thread(stage.discard, self._data)

    async def close(self) -> None:
        """Give up a copy that is being made."""
        self._stopping = True
        if self._job is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._job, 3)


def is_read(data: Path) -> bool:
    """Whether somebody packs the copy below `data` now."""
    return is_held(data / stage.FOLDER, fcntl.LOCK_EX)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While this lasts the copy in `folder` is not removed.

    Raises:
        FileNotFoundError: it is gone.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
