# SPDX-License-Identifier: Apache-2.0
"""A real worker on a thread of this process, on real sockets: for what can only be seen from inside.

In: an engine's address, settings, a kind of event loop. Out: an `Inside`: the worker's connections, its thread's CPU time,
and (on `MeasuredLoop`) the CPU time of its longest callback: by the thread's own clock, so that a busy machine makes no
difference.
"""

import asyncio
import gc
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from beffroi.control.snapshots import KeyFiles, publish_config
from beffroi.core.key import key_hash, new_key
from beffroi.core.snapshot import Config, EngineSpec, KeyRecord, ModelSpec, Settings, Target
from beffroi.gateway.server import ClientConnection
from beffroi.gateway.upstream.connection import EngineConnection
from beffroi.gateway.worker import Worker
from tests.harness import wait_for

PEPPER = b"p" * 32


class FastLoop(uvloop.Loop):
    """The loop that workers run on, but for signals, which only a main thread can have."""

    def add_signal_handler(self, *_: Any) -> None:
        """Nobody sends any."""


class Callbacks:
    """The longest callback of a worker, in CPU seconds of its thread, since `reset`."""

    def __init__(self) -> None:
        self.longest, self.what = 0.0, ""

    def reset(self) -> None:
        self.longest, self.what = 0.0, ""

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same callback, measured."""

        def run(*arguments: Any) -> Any:
            begin = time.thread_time()
            try:
                return call(*arguments)
            finally:
                took = time.thread_time() - begin
                if took > self.longest:
                    self.longest, self.what = took, getattr(call, "__qualname__", type(call).__name__)

        return run

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Measure what the sockets call; `MeasuredLoop` does the same for all else."""
        for kind in (ClientConnection, EngineConnection):
            for name in (
                "connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing"
            ):  # fmt: skip
                if (call := getattr(kind, name, None)) is not None:
                    patch.setattr(kind, name, self.timed(call))


class MeasuredLoop(FastLoop):
    """The same, whose callbacks are measured: those of tasks, timers and turns."""

    def __init__(self, callbacks: Callbacks) -> None:
        super().__init__()
        self.callbacks = callbacks

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return super().call_soon(self.callbacks.timed(callback), *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return super().call_later(delay, self.callbacks.timed(callback), *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return super().call_at(when, self.callbacks.timed(callback), *args, context=context)


class Inside:
    """The worker and its address; `key` may do everything."""

    def __init__(self, folder: Path, engine: str, settings: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        made = new_key()
        self.key = made.text
        (folder / "journal").mkdir()
        model = ModelSpec("words", (Target("e0", "words"),))
        publish_config(folder, Config(1, Settings(**settings), (EngineSpec("e0", engine),), (model,)))
        KeyFiles(folder, [KeyRecord("key_1", made.public, key_hash(made.text, PEPPER), 1, 0)], {1: PEPPER})
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.address: tuple[str, int] = self.socket.getsockname()
        self.child = {
            "data": str(folder),
            "worker": 0,
            "workers": 1,
            "boot": uuid.uuid4().hex,
            "fd": self.socket.detach(),
            "tls": None,
        }
        self.loop = loop
        self.worker: Worker
        self.thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._ready = threading.Event()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)

        async def run() -> None:
            self.worker = Worker(self.child, self.loop)
            self.loop.call_soon(self._ready.set)
            await self.worker.run()
            for connection in list(self.worker.connections):
                connection.transport.abort()
            for endpoint in self.worker.house.endpoints.values():
                endpoint.retire()
            await asyncio.sleep(0.02)

        self.loop.run_until_complete(run())
        self.loop.close()

    def start(self) -> None:
        self.thread.start()
        assert self._ready.wait(10), "the worker did not start"

    def stop(self) -> None:
        for _ in range(2):
            self.loop.call_soon_threadsafe(self.worker.stop)
        self.thread.join(10)
        assert not self.thread.is_alive()

    def ask(self, question: Callable[[], Any]) -> Any:
        """The answer to a question put on the worker's own thread."""
        answer: list[Any] = []
        done = threading.Event()

        def put() -> None:
            answer.append(question())
            done.set()

        self.loop.call_soon_threadsafe(put)
        assert done.wait(10)
        return answer[0]

    def cpu(self) -> float:
        """CPU seconds that the worker's thread has used: Python, the loop and the kernel's work for it."""
        return float(self.ask(time.thread_time))

    def connection(self) -> ClientConnection:
        """The only connection there is, or will be in a moment."""
        wait_for(lambda: self.ask(lambda: len(self.worker.connections)) == 1, 5, "a connection")
        (found,) = self.ask(lambda: list(self.worker.connections))
        assert isinstance(found, ClientConnection)
        return found


@contextmanager
def inside(engine: str, loop: asyncio.AbstractEventLoop, **settings: Any) -> Iterator[Inside]:
    """A worker for as long as the block runs. What it does to the collector of this process is undone."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    thresholds = gc.get_threshold()
    try:
        worker = Inside(folder, engine, settings, loop)
        worker.start()
        yield worker
        worker.stop()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        shutil.rmtree(folder, ignore_errors=True)
