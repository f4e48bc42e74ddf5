# SPDX-License-Identifier: Apache-2.0
"""A desk of administrators: reads and writes on the control socket at a steady rate, and keys revoked meanwhile.

In: the socket of a running Beffroi, rates, seconds. Out: one JSON line: what was answered, how fast, and how long each
revocation took until every worker refused the key. Open loop: what is late counts from when it was due.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

CONNECTIONS = 16
Seconds = list[float]


class Desk:
    """Connections that are kept, each for one question at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.failed = 0

    async def open(self) -> None:
        """Connect."""
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_unix_connection(self._path))

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One question; → its answer. What is not a success counts as failed."""
        reader, writer = await self._free.get()
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: beffroi\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = answer.index(b"content-length:") + 15
        content = await reader.readexactly(int(answer[at : answer.index(b"\r\n", at)]))
        self._free.put_nowait((reader, writer))
        if not answer.startswith(b"http/1.1 2"):
            self.failed += 1
            return {}
        return dict(json.loads(content))

    async def paced(self, rate: float, seconds: float, one: Callable[[int], Awaitable[None]]) -> Seconds:
        """Ask `rate` times a second; → how long each took from when it was due."""
        begin, took, tasks = time.perf_counter(), list[float](), set[asyncio.Task[None]]()

        async def timed(number: int, due: float) -> None:
            await one(number)
            took.append(time.perf_counter() - due)

        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(timed(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return took


def _told(took: Seconds) -> dict[str, float]:
    if not took:
        return {}
    ordered = sorted(took)
    place = min(len(ordered) - 1, int(len(ordered) * 0.99))
    return {
        "count": len(took),
        "p50_ms": statistics.median(took) * 1e3,
        "p99_ms": ordered[place] * 1e3,
        "max_ms": ordered[-1] * 1e3,
    }


async def work(path: str, reads: float, writes: float, seconds: float) -> dict[str, Any]:
    """The desk's day."""
    desk = Desk(path)
    await desk.open()
    made: list[str] = [(await desk.ask("POST", "/api/v1/keys", {"name": "desk 0"}))["id"]]
    revoked: Seconds = []

    async def read(number: int) -> None:
        await desk.ask("GET", f"/api/v1/keys/{made[number % len(made)]}")

    async def write(number: int) -> None:
        if number % 4 == 3 and len(made) > 8:
            answer = await desk.ask("POST", f"/api/v1/keys/{made.pop(0)}/revoke", {})
            revoked.append(answer.get("milliseconds", 0.0) / 1e3)
        else:
            made.append((await desk.ask("POST", "/api/v1/keys", {"name": f"desk {number}"}))["id"])

    begin = time.perf_counter()
    read_s, write_s = await asyncio.gather(desk.paced(reads, seconds, read), desk.paced(writes, seconds, write))
    took = time.perf_counter() - begin
    rates = {"reads_per_s": len(read_s) / took, "writes_per_s": len(write_s) / took}
    return rates | {
        "failed": desk.failed,
        "reads": _told(read_s),
        "writes": _told(write_s),
        "revocations": _told(revoked),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("--reads", type=float, default=500)
    parser.add_argument("--writes", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(work(arguments.socket, arguments.reads, arguments.writes, arguments.seconds))))


if __name__ == "__main__":
    main()
