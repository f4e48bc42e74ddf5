# SPDX-License-Identifier: Apache-2.0
"""What the admin API takes: calls at a steady rate from many addresses over kept connections, and how long each waited.

    python -m benchmarks.admin_api [--reads 500] [--writes 100] [--seconds 20] [--connections 48]

In: a control process of its own over SQLite. Out: a line for reads and one for writes: rate, p50, p99, what was not 2xx.
Calls are sent when they are due, whether those before are answered or not (open loop): a stall is not hidden.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles

from tests.control.fakes import Control, WorkerThread, control

PREFIX = "/api/v1"


class Line:
    """One kept connection from an address of its own, one call at a time."""

    def __init__(self, port: int, address: str, key: str) -> None:
        self._port, self._address, self._key = port, address, key
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._open = False

    async def call(self, method: str, path: str, body: bytes = b"") -> int:
        """The status of one call."""
        for attempt in (1, 2):
            if not self._open:
                self._reader, self._writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(self._address, 0)
                )
                self._open = True
            head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\n"
            self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            try:
                answer = await self._reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                self._open = False
                if attempt == 2:
                    raise
                continue
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await self._reader.readexactly(length)
            return int(answer[9:12])
        raise AssertionError


async def load(port: int, keys: list[str], options: argparse.Namespace, objects: list[str]) -> dict[str, list[float]]:
    """Every wait, in seconds, from when a call was due."""
    lines: asyncio.Queue[Line] = asyncio.Queue()
    for index, key in zip(range(options.connections), itertools.cycle(keys), strict=False):
        lines.put_nowait(Line(port, f"127.0.{1 + index // 200}.{1 + index % 200}", key))
    waits: dict[str, list[float]] = {"reads": [], "writes": []}
    bad: Counter[int] = Counter()
    numbers = itertools.count()

    async def one(kind: str, due: float) -> None:
        line = await lines.get()
        try:
            if kind == "reads":
                path = random.choice([f"/projects/{random.choice(objects)}", "/projects?limit=20", "/me", "/webhooks"])
                status = await line.call("GET", PREFIX + path)
            else:
                number = next(numbers)
                if number % 2:
                    name = f"load-{options.salt}-{number}"
                    status = await line.call(
                        "POST", f"{PREFIX}/projects", json.dumps({"name": name, "id": name}).encode()
                    )
                else:
                    body = json.dumps({"name": f"Load {number}"}).encode()
                    status = await line.call("PATCH", f"{PREFIX}/projects/{random.choice(objects)}", body)
        finally:
            lines.put_nowait(line)
        waits[kind].append(time.perf_counter() - due)
        if not 200 <= status < 300:
            bad[status] += 1

    async def steady(kind: str, rate: int) -> None:
        begin, tasks = time.perf_counter(), []
        for index in range(rate * options.seconds):
            due = begin + index / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(kind, due)))
        await asyncio.gather(*tasks)

    began = time.perf_counter()
    await asyncio.gather(*(steady(kind, rate) for kind in waits if (rate := getattr(options, kind))))
    took = time.perf_counter() - began
    for kind, found in waits.items():
        if found:
            cuts = quantiles(found, n=1000)
            print(
                f"{kind}: {len(found) / took:.0f}/s of {getattr(options, kind)}, "
                f"p50 {cuts[499] * 1e3:.1f} ms, p99 {cuts[989] * 1e3:.1f} ms, max {max(found) * 1e3:.1f} ms"
            )
    print(f"not 2xx: {dict(bad) or 'none'}")
    return waits


def prepare(running: Control) -> tuple[list[str], list[str]]:
    """Admin keys, and ids of projects."""
    keys = []
    for index in range(4):
        made = running.ask("POST", f"{PREFIX}/admin-keys", {"name": f"load {index}", "role": "owner"})
        keys.append(made.json["key"])
    objects = [f"p{index}" for index in range(50)]
    for name in objects:
        running.ask("POST", f"{PREFIX}/projects", {"name": name, "id": name})
    return keys, objects


def cpu(pid: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--writes", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=48)
    options = parser.parse_args()
    options.salt = random.randrange(1 << 30)
    with tempfile.TemporaryDirectory() as folder, control(Path(folder)) as running, WorkerThread(running.data):
        keys, objects = prepare(running)
        before, began = cpu(running.process.pid), time.perf_counter()
        asyncio.run(load(running.port, keys, options, objects))
        used = cpu(running.process.pid) - before
        print(f"control used {100 * used / (time.perf_counter() - began):.0f} % of a core")


if __name__ == "__main__":
    main()
