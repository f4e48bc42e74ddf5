# SPDX-License-Identifier: Apache-2.0
"""What the control process holds while it runs, wired together by `process`, read by the operations of `api`.

In: the opened database, files, bus and services. Out: one object; and the questions that need several of its parts.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.api.limits import Limits
from beffroi.control.backups import Backups
from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus
from beffroi.control.fleet.follower import Follower
from beffroi.control.keys import Keys
from beffroi.control.metrics import Scrape, Shipping
from beffroi.control.operations.service import Operations
from beffroi.control.requests import Recent
from beffroi.control.shipping import Shipper
from beffroi.control.webhooks.courier import Courier
from beffroi.core.snapshot import Config
from beffroi.store.engine import reading
from beffroi.store.vault import Vault
from beffroi.telemetry.metrics import WorkerMetrics

T = TypeVar("T")
MIN_FREE = 64 << 20  # bytes below which the data directory counts as full
MAX_LAG = 60.0  # seconds shipping may be behind before it counts as stuck
FRESH = 0.2  # seconds for which pulled metrics are shown again instead of asking the workers once more


class House:
    """The control process. All methods run on the loop; `blocking` is how they reach the database."""

    def __init__(
        self,
        *,
        data: Path,
        engine: Engine,
        vault: Vault,
        thread: ThreadPoolExecutor,
        writer: ThreadPoolExecutor,
        bus: Bus,
        keys: Keys,
        shipper: Shipper,
        backups: Backups,
        recent: Recent,
        budgets: Budgets,
        config: Config,
    ) -> None:
        self.data = data
        self.engine = engine
        self.bus = bus
        self.keys = keys
        self.shipper = shipper
        self.backups = backups
        self.recent = recent
        self.budgets = budgets
        self.config = config
        self.courier: Courier  # delivers webhooks; `process` sets it
        self.address: Callable[[], str] = str  # where people reach the control port; `process` sets it
        self.operations = Operations(engine, self.writing)
        self.link_limits = Limits()
        self.waiting = ""  # why the database of a fleet is not open yet
        self.follower: Follower | None = None
        self.replica = ""  # this machine's name in its fleet
        self.refused = ""  # why the configuration file as it stands was not taken
        self.started = time.time()
        self.vault = vault
        self.cursors = vault.secret("cursors")
        self._thread = thread
        self._writer = writer
        self._pulled: tuple[float, dict[int, WorkerMetrics]] = (0.0, {})
        self._pulling = asyncio.Lock()

    async def blocking(self, call: Callable[[], T]) -> T:
        """Run something that waits for a disk or the database in the threads made for that."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def writing(self, call: Callable[[], T]) -> T:
        """As `blocking`, for what changes the database: those who only read do not wait behind one who waits to write."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    async def metrics(self) -> dict[int, WorkerMetrics]:
        """What each worker counted, at most `FRESH` seconds old."""
        async with self._pulling:
            at, found = self._pulled
            if time.monotonic() - at > FRESH:
                found = await self.bus.metrics()
                self._pulled = (time.monotonic(), found)
            return found

    async def current_ledger(self) -> None:
        """Wait for the ledger to have what workers have written by now; two seconds at most."""
        with contextlib.suppress(TimeoutError):
            await self.shipper.caught_up(2.0)

    def current(self) -> frozenset[int]:
        """Slots whose worker holds the newest config and key table."""
        bus = self.bus
        return frozenset(
            slot
            for slot, peer in bus.peers.items()
            if peer.config_revision == bus.config_revision and peer.key_revision >= bus.key_revision
        )

    def free_bytes(self) -> int:
        """Bytes left where the data directory is."""
        return shutil.disk_usage(self.data).free

    async def scrape(self) -> Scrape:
        """All that `/metrics` shows."""
        answered = await self.metrics()
        progress = self.shipper.progress()
        return Scrape(
            workers=self.bus.workers,
            answered=answered,
            current=self.current(),
            config_revision=self.bus.config_revision,
            key_revision=self.bus.key_revision,
            currencies={model.id: model.prices[0].currency for model in self.config.models if model.prices},
            shipping=Shipping(progress.lag_bytes, progress.lag_seconds, progress.records),
            free_bytes=self.free_bytes(),
        )

    async def readiness(self) -> dict[str, tuple[bool, str]]:
        """Each part: whether it is ready, and why or why not."""
        answered = await self.metrics()
        return {
            "workers": self._workers_ready(),
            "configuration": (True, self.refused or f"revision {self.bus.config_revision}"),
            "database": await self._database_ready(),
            "journal": self._journal_ready(answered),
            "shipping": self._shipping_ready(),
            "engines": self._engines_ready(answered),
            "disk": self._disk_ready(),
            **self._limits(answered),
        }

    @staticmethod
    def _limits(answered: dict[int, WorkerMetrics]) -> dict[str, tuple[bool, str]]:
        """In a fleet: whether its limits are shared now. Without that a machine serves on, by its own part of them."""
        fleets = {slot: metrics.fleet for slot, metrics in answered.items() if metrics.fleet is not None}
        if not fleets:
            return {}
        if away := [f"w{slot:02d}" for slot, fleet in sorted(fleets.items()) if not fleet.up]:
            return {"limits": (True, f"the shared limits are out of reach of {', '.join(away)}: each has its own part")}
        return {"limits": (True, f"shared by {max(fleet.workers for fleet in fleets.values())} workers")}

    def _workers_ready(self) -> tuple[bool, str]:
        wanted, there, current = self.bus.workers, len(self.bus.peers), self.current()
        if late := sorted(set(range(wanted)) - current):
            names = ", ".join(f"w{slot:02d}" for slot in late)
            return False, f"{there} of {wanted} connected; not at the current revision: {names}"
        return True, f"{wanted} of {wanted} at config {self.bus.config_revision}, keys {self.bus.key_revision}"

    async def _database_ready(self) -> tuple[bool, str]:
        if self.waiting:
            return False, f"{self.waiting}; workers serve what they know, and control waits for it"

        def ask() -> None:
            with reading(self.engine) as connection:
                connection.execute(select(1))

        try:
            async with asyncio.timeout(2.0):
                await self.blocking(ask)
        except TimeoutError:
            return False, "did not answer within 2 s"
        except SQLAlchemyError as error:
            return False, type(error).__name__
        return True, "answers"

    @staticmethod
    def _journal_ready(answered: dict[int, WorkerMetrics]) -> tuple[bool, str]:
        if sick := [f"w{slot:02d}" for slot, metrics in sorted(answered.items()) if not metrics.journal_healthy]:
            return False, f"cannot be written by {', '.join(sick)}"
        return True, f"{sum(metrics.journal_lag_bytes for metrics in answered.values())} bytes not synced"

    def _shipping_ready(self) -> tuple[bool, str]:
        progress = self.shipper.progress()
        if progress.fault:
            return False, progress.fault
        text = f"{progress.lag_bytes} bytes behind, {progress.lag_seconds:.1f} s"
        return progress.lag_seconds < MAX_LAG, text

    def _engines_ready(self, answered: dict[int, WorkerMetrics]) -> tuple[bool, str]:
        names = [engine.name for engine in self.config.engines]
        if not names:
            return False, "none is configured"
        out = set(names)
        for metrics in answered.values():
            out -= {name for name in names if name not in metrics.engines or not metrics.engines[name].ejected}
        if not answered:
            return False, "no worker has said how it finds them"
        there = len(names) - len(out)
        listed = f"; out: {', '.join(sorted(out)[:10])}" if out else ""
        return there > 0, f"{there} of {len(names)} reachable{listed}"

    def _disk_ready(self) -> tuple[bool, str]:
        free = self.free_bytes()
        writable = os.access(self.data, os.W_OK)
        return free >= MIN_FREE and writable, f"{free >> 20} MiB free" + ("" if writable else ", not writable")
