# SPDX-License-Identifier: Apache-2.0
"""A worker's end of the bus: connects to control, and again whenever control comes back; hands changes to the worker.

In: deltas, reloads, cuts and pulls from control. Out: calls on a `LinkHost`, acknowledgements, metrics.
While control is down the worker serves on from what it holds; what it missed it is told when control is back.
"""

import asyncio
import os
from pathlib import Path
from typing import Protocol

import msgspec

from beffroi.core import bus
from beffroi.core.snapshot import Config, Damaged, KeyBase, KeyDelta
from beffroi.core.state import load_config, load_keys_in_slices
from beffroi.telemetry.metrics import WorkerMetrics

RETRY = 0.050  # seconds between two attempts to reach control


class LinkHost(Protocol):
    """What the link asks of its worker. All calls are made on the loop's thread."""

    def revisions(self) -> tuple[int, int]:
        """The revisions held: of the config, of the key table."""
        ...

    def apply_config(self, config: Config) -> None:
        """Swap the config whole."""
        ...

    def apply_delta(self, delta: KeyDelta) -> bool:
        """Change the key table. True: done, or held already; False: the delta does not follow the revision held."""
        ...

    def apply_keys(self, base: KeyBase) -> None:
        """Swap the key table whole."""
        ...

    def metrics(self) -> WorkerMetrics:
        """What was counted so far."""
        ...

    def cut(self, key_id: str) -> int:
        """Cut the open exchanges of a key; how many there were."""
        ...


class Link:
    """The connection of one worker to control.

    Args:
        path: of `bus.sock`; the snapshot lies beside it.
        worker: slot number; boot: id of this start.
    """

    def __init__(self, host: LinkHost, *, path: Path, worker: int, boot: str, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._path = path
        self._worker = worker
        self._boot = boot
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._task = self._loop.create_task(self._run(), name="link")

    def close(self) -> None:
        """Let go of control; no call on the host is made after it."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(RETRY)
                continue
            self.connected = True
            try:
                await self._talk(reader, writer)
            except (OSError, EOFError, bus.BadFrame):
                await asyncio.sleep(RETRY)
            finally:
                self.connected = False
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config_revision, key_revision = self._host.revisions()
        writer.write(bus.frame(bus.Hello(self._worker, os.getpid(), self._boot, config_revision, key_revision)))
        while True:
            size = bus.length(await reader.readexactly(bus.HEADER.size))
            message: bus.ToWorker = bus.decode(bus.to_worker, await reader.readexactly(size))
            writer.write(bus.frame(await self._handle(message)))
            await writer.drain()

    async def _handle(self, message: bus.ToWorker) -> bus.ToControl:
        match message:
            case bus.Pull():
                return bus.Metrics(message.request, msgspec.Raw(msgspec.msgpack.encode(self._host.metrics())))
            case bus.Cut():
                return bus.CutDone(message.request, self._host.cut(message.key_id))
        try:
            match message:
                case bus.Delta():
                    if not self._host.apply_delta(message.delta):
                        self._host.apply_keys(await load_keys_in_slices(self._path.parent))
                case bus.Reload():
                    if message.config:
                        self._host.apply_config(load_config(self._path.parent))
                    if message.keys:
                        self._host.apply_keys(await load_keys_in_slices(self._path.parent))
        except (OSError, Damaged) as error:
            return bus.Fault(f"{type(error).__name__}: {error}")
        return bus.Ack(*self._host.revisions())
