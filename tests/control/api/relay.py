# SPDX-License-Identifier: Apache-2.0
"""Many callers in one: a relay to the control port that has another address of this machine for each connection.

In: connections to a port. Out: the same from 127.0.0.2, 127.0.0.3, …, so that what is allowed to one address stops nobody.
"""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def relay(port: int) -> Iterator[int]:
    """The port of a relay to `port`."""
    ready, done = threading.Event(), threading.Event()
    found: list[int] = []
    serving: set[asyncio.Task[None]] = set()
    numbers = itertools.cycle(range(2, 64_000))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        mine = asyncio.current_task()
        assert mine is not None
        serving.add(mine)
        mine.add_done_callback(serving.discard)
        with suppress(OSError):
            source = (f"127.0.{number >> 8}.{number & 255}", 0)
            back, out = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
            await asyncio.gather(pump(reader, out), pump(back, writer))
            out.close()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.05)
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait(5)
    try:
        yield found[0]
    finally:
        done.set()
        thread.join()
