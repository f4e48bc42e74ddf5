# SPDX-License-Identifier: Apache-2.0
"""What limits that several machines share cost: `PYTHONPATH=src python -m benchmarks.fleet [--write]`, a minute.

In: nothing; one worker over a real Valkey or Redis that it starts, one key with every limit set, alone and under two quotas with
every limit set. Out: CPU of the worker per request, reserving and settling, with all that goes to the centre for it; the same
loop without limits takes turns with it and is taken off. Also what a call costs the centre. `--write` keeps it in results/fleet/.
"""

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import uvloop

from beffroi.core.clock import SystemClock
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota.fleet import FleetBooks, FleetCounters
from beffroi.gateway.quota.terms import Ask, Busy, Used
from benchmarks import report

FULL = Limits(
    requests_per_minute=10**9, tokens_per_minute=10**12, output_tokens_per_hour=10**12, output_tokens_per_day=10**13,
    concurrency=10**6, hard_budget=10**15, soft_budget=10**15,
)  # fmt: skip
USED = Used(900, 150, 700_000)
ROUNDS, SECONDS, AT_ONCE = 9, 1.5, 10
GOAL = 3.0


class Bench:
    """One worker, and what its requests cost."""

    def __init__(self, url: str, quotas: int) -> None:
        loop = asyncio.get_running_loop()
        prefix = f"bench{quotas}"
        self.counters = FleetCounters(url, prefix=prefix, clock=SystemClock(), zone="Europe/Paris", loop=loop)
        self.counters.know(QuotaRecord(f"q{n}", 100 + n, "acme", terms=(Dated(0, FULL),)) for n in range(quotas))
        self.key = KeyRecord("key_1", "public", b"", 1, 1, "acme", "lab", limits=FULL)
        self.books = FleetBooks(url, prefix=prefix, clock=SystemClock(), zone="Europe/Paris")
        self.busy = 0

    async def start(self) -> None:
        """Until leases are lent ahead."""
        self.counters.start()
        assert await self.counters.ready(5.0), "the centre does not answer"
        await asyncio.sleep(0.2)
        if (epoch := self.books.missing()) is not None:
            self.books.filled(epoch)
        await asyncio.sleep(0.2)
        await self.load(2.0, limited=True)
        self.busy = 0

    async def load(self, seconds: float, *, limited: bool) -> tuple[int, float]:
        """Requests in bunches, as a loop has them; how many, and CPU seconds of this process."""
        begin, cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < seconds:
            for _ in range(5):
                for _ in range(AT_ONCE):
                    ask = Ask(1000, 200, 8_000_000, 800_000)
                    if limited:
                        await self._one(ask)
                count += AT_ONCE
                await asyncio.sleep(0)
            await asyncio.sleep(0.004)
        return count, time.process_time() - cpu

    async def _one(self, ask: Ask) -> None:
        while True:
            try:
                ticket = self.counters.reserve(self.key, "m", None, ask)
            except Busy:
                self.busy += 1
                await asyncio.sleep(0.001)
                continue
            self.counters.settle(ticket, USED)
            return

    async def stop(self) -> None:
        """Return all."""
        self.counters.close()
        await self.counters.stop()
        self.books.close()


async def measure(url: str, quotas: int) -> dict[str, Any]:
    """Rounds in turn, with limits and without."""
    bench = Bench(url, quotas)
    await bench.start()
    per: list[float] = []
    rates: list[float] = []
    metrics = bench.counters.metrics
    with redis.Redis.from_url(url) as centre:
        calls = metrics.calls
        for _ in range(ROUNDS):
            count, cpu = await bench.load(SECONDS, limited=True)
            bare_count, bare = await bench.load(SECONDS / 2, limited=False)
            per.append((cpu / count - bare / bare_count) * 1e6)
            rates.append(count / SECONDS)
        calls = metrics.calls - calls
        script = centre.info("commandstats")["cmdstat_evalsha"]  # type: ignore[index]
    await bench.stop()
    return {
        "scopes": 1 + quotas,
        "cpu_us": {"median": round(statistics.median(per), 2), "least": round(min(per), 2), "most": round(max(per), 2)},
        "requests_per_second": round(statistics.median(rates)),
        "calls_per_1000_requests": round(1000 * calls / (sum(rates) * SECONDS), 2),
        "waited_per_1000_requests": round(1000 * bench.busy / (sum(rates) * SECONDS), 3),
        "centre_us_per_call": script["usec_per_call"],
    }


def main() -> None:
    """Print it, and keep it if told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise SystemExit("neither valkey-server nor redis-server was found")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                while True:
                    try:
                        version = str(client.info("server")["redis_version"])  # type: ignore[index]
                        break
                    except redis.ConnectionError:
                        time.sleep(0.05)
            url = f"redis://127.0.0.1:{port}/0"
            found = [uvloop.run(measure(url, quotas)) for quotas in (0, 2)]
        finally:
            server.terminate()
            server.wait()
    for each in found:
        cpu = each["cpu_us"]
        print(
            f"{each['scopes']} scope(s), every limit set: {cpu['median']:.2f} us of CPU a request (rounds {cpu['least']:.2f} to "
            f"{cpu['most']:.2f}; goal {GOAL:g}) at {each['requests_per_second']:,}/s; {each['calls_per_1000_requests']} calls and "
            f"{each['waited_per_1000_requests']} waits in 1,000 requests; the centre: {each['centre_us_per_call']} us a call"
        )
    if options.write:
        about = {"date": report.today(), "machine": report.machine(), "centre": f"{Path(program).name} {version}"}
        out = Path(__file__).parent / "results" / "fleet" / f"{about['date']}-{report.slug(report.machine())}.json"
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps({"about": about, "figures": found}, indent=1) + "\n")
        print(f"written: {out}")


if __name__ == "__main__":
    main()
