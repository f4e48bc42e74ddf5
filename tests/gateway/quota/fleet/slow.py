# SPDX-License-Identifier: Apache-2.0
"""A way to the centre that can be made slow: bytes pass through this process, each lot so much later.

In: the port of a server. Out: a port of its own; `delay` seconds are added to each answer while it is set.
"""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self


class SlowWay:
    """The proxy, on a thread of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay = 0.0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    @property
    def url(self) -> str:
        """How a replica is told of it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    self._copy(reader, far_writer, slow=False), self._copy(far_reader, writer, slow=True)
                )
        finally:
            writer.close()
            far_writer.close()
            self._tasks.discard(task)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, slow: bool) -> None:
        try:
            while data := await source.read(1 << 16):
                if slow and self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        finally:
            target.close()
