# SPDX-License-Identifier: Apache-2.0
"""Control's end of the bus: pushes changes to every worker, and knows which worker holds what.

In: connections of workers (`gateway.link`), changes that are on disk already. Out: deltas, reloads, cuts, pulls.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from beffroi.core import bus
from beffroi.core.snapshot import KeyDelta
from beffroi.telemetry import logs
from beffroi.telemetry.metrics import WorkerMetrics

HISTORY = 256  # deltas kept for workers that were away; who missed more reads the files again
MAX_UNSENT = 2 * bus.MAX_FRAME  # a worker that does not read that much is cut off and reads the files when it is back
T = TypeVar("T")
log = logs.Logger("control.bus")
_metrics = msgspec.msgpack.Decoder(WorkerMetrics)


class Peer:
    """One connected worker."""

    def __init__(self, hello: bus.Hello, writer: asyncio.StreamWriter) -> None:
        self.worker = hello.worker
        self.pid = hello.pid
        self.boot = hello.boot
        self.config_revision = hello.config_revision
        self.key_revision = hello.key_revision
        self.fault = ""
        self.answers: dict[int, asyncio.Future[bus.Metrics | bus.CutDone]] = {}
        self._writer = writer

    def close(self) -> None:
        """Let the worker go; it comes back by itself."""
        self._writer.close()

    def send(self, message: bus.ToWorker) -> None:
        """Queue a message; a peer that has stopped reading loses its connection."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self._writer.transport.abort()
            return
        self._writer.write(bus.frame(message))


class Bus:
    """All workers.

    Args:
        workers: how many there should be.
        config_revision, key_revision: what is on disk now.
        joined: called with (worker, boot) when a worker says hello.
    """

    def __init__(
        self, workers: int, config_revision: int, key_revision: int, joined: Callable[[int, str], None]
    ) -> None:
        self.workers = workers
        self.config_revision = config_revision
        self.key_revision = key_revision
        self.peers: dict[int, Peer] = {}  # slot → the worker that said hello last
        self._all: set[Peer] = set()  # those that drain beside their replacement too
        self._history: deque[KeyDelta] = deque(maxlen=HISTORY)
        self._joined = joined
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._requests = 0

    async def start(self, path: Path) -> None:
        """Listen at `path`, which only this user may open. What an earlier control left there is replaced."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - a name in a local directory, once
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(path))
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """Stop listening and let every worker go."""
        if self._server is not None:
            self._server.close()
            for peer in list(self._all):
                peer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Peer | None = None
        try:
            message = await self._read(reader)
            if not isinstance(message, bus.Hello):
                raise bus.BadFrame("a worker must say hello first")
            peer = Peer(message, writer)
            self._welcome(peer)
            await self._notify()
            while True:
                message = await self._read(reader)
                match message:
                    case bus.Ack():
                        peer.config_revision, peer.key_revision = message.config_revision, message.key_revision
                        peer.fault = ""
                        await self._notify()
                    case bus.Fault():
                        peer.fault = message.reason
                        log.error("worker kept its old snapshot", worker=peer.worker, reason=message.reason)
                    case bus.Metrics() | bus.CutDone():
                        if (answer := peer.answers.get(message.request)) is not None and not answer.done():
                            answer.set_result(message)
        except (OSError, EOFError):
            pass  # the worker is gone; the supervisor starts another
        except bus.BadFrame as error:
            log.error("a peer on the bus is not understood", reason=str(error))
        finally:
            writer.close()
            if peer is not None:
                self._farewell(peer)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bus.ToControl:
        size = bus.length(await reader.readexactly(bus.HEADER.size))
        message: bus.ToControl = bus.decode(bus.to_control, await reader.readexactly(size))
        return message

    def _welcome(self, peer: Peer) -> None:
        self.peers[peer.worker] = peer
        self._all.add(peer)
        missed = [delta for delta in self._history if delta.revision > peer.key_revision]
        behind = self.key_revision - peer.key_revision
        if peer.config_revision != self.config_revision or (behind and len(missed) != behind):
            peer.send(bus.Reload(config=peer.config_revision != self.config_revision, keys=bool(behind)))
        else:
            for delta in missed:
                peer.send(bus.Delta(delta))
        self._joined(peer.worker, peer.boot)

    def _farewell(self, peer: Peer) -> None:
        self._all.discard(peer)
        if self.peers.get(peer.worker) is peer:
            del self.peers[peer.worker]
        for answer in peer.answers.values():
            answer.cancel()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def send_delta(self, delta: KeyDelta) -> None:
        """Send a change that is on disk to every worker. Changes are sent in the order of their revisions."""
        self.key_revision = delta.revision
        self._history.append(delta)
        for peer in self._all:
            peer.send(bus.Delta(delta))

    def send_config(self, revision: int) -> None:
        """Have every worker take over the config that is on disk."""
        self.config_revision = revision
        for peer in self._all:
            peer.send(bus.Reload(config=True))

    async def hold_keys(self, revision: int, timeout: float) -> list[int]:
        """Wait until every worker holds the key table of a revision.

        A worker that restarts meanwhile has read it from disk: its hello counts.

        Args:
            timeout: seconds.

        Returns:
            The slots of workers that did not acknowledge in time; empty when all did.
        """
        return await self._settled(lambda peer: peer.key_revision >= revision, timeout)

    async def hold_config(self, revision: int, timeout: float) -> list[int]:
        """As `hold_keys`, for the config."""
        return await self._settled(lambda peer: peer.config_revision >= revision, timeout)

    async def _settled(self, holds: Callable[[Peer], bool], timeout: float) -> list[int]:
        def missing() -> list[int]:
            slots = range(self.workers)
            return [slot for slot in slots if slot not in self.peers or not holds(self.peers[slot])]

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: not missing()), timeout)
        return missing()

    async def metrics(self, timeout: float = 1.0) -> dict[int, WorkerMetrics]:
        """What each worker counted; one that does not answer within `timeout` seconds is left out."""
        peers = list(self.peers.values())
        answers = await self._ask(peers, bus.Pull, timeout)
        found = {}
        for peer, answer in zip(peers, answers, strict=True):
            if isinstance(answer, bus.Metrics):
                try:
                    found[peer.worker] = _metrics.decode(answer.body)
                except msgspec.MsgspecError as error:
                    log.error("metrics of a worker are not understood", worker=peer.worker, reason=str(error))
        return found

    async def cut(self, key_id: str, timeout: float = 5.0) -> tuple[int, list[int]]:
        """Cut the open exchanges of a key on every worker.

        Args:
            timeout: seconds.

        Returns:
            How many there were, and the slots of connected workers that did not say.
        """
        peers = list(self._all)
        answers = await self._ask(peers, lambda request: bus.Cut(request, key_id), timeout)
        silent = {peer.worker for peer, answer in zip(peers, answers, strict=True) if answer is None} & {
            peer.worker for peer in self._all
        }
        return sum(answer.count for answer in answers if isinstance(answer, bus.CutDone)), sorted(silent)

    async def _ask(
        self, peers: Iterable[Peer], question: Callable[[int], bus.ToWorker], timeout: float
    ) -> list[bus.Metrics | bus.CutDone | None]:
        self._requests = request = self._requests + 1
        asked = list(peers)
        futures: list[asyncio.Future[bus.Metrics | bus.CutDone]] = []
        for peer in asked:
            future = peer.answers[request] = asyncio.get_running_loop().create_future()
            futures.append(future)
            peer.send(question(request))
        if futures:
            await asyncio.wait(futures, timeout=timeout)
        for peer in asked:
            del peer.answers[request]
        return [future.result() if future.done() and not future.cancelled() else None for future in futures]


def elapsed_ms(since: float) -> float:
    """Milliseconds since a `time.monotonic()`, to the microsecond."""
    return round((time.monotonic() - since) * 1000, 3)
