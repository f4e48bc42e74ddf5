# SPDX-License-Identifier: Apache-2.0
"""The load: a mock engine and a load generator in C, one core between them, and one measure at a time.

In: a running gateway and a workload. Out: a dict of figures, CPU microseconds per request first among them. The load
drains, and what the gateway has put off is done, before its CPU clock is read: the division is exact.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.gateways import Gateway
from benchmarks.processes import Process, build, free_port, get

CHUNKS = 64
PACED_STREAMS, PACED_GAP_US = 64, 5000
ENGINES = 100
Figures = dict[str, Any]
QUESTION = (
    "Explain in a few sentences what a belfry was for in a free town of the Middle Ages, who rang it, when, "
    "and what was kept in its chest. "
)
BODY: Figures = {
    "model": "bench",
    "messages": [
        {"role": "system", "content": "You are a careful assistant. Answer in the language of the question."},
        {"role": "user", "content": (QUESTION * 6)[:815]},
    ],
    "max_tokens": 256,
    "temperature": 0.7,
}


class LoadFailed(RuntimeError):
    """The load generator or the mock engine did not do its part."""


class Load:
    """The mock engine, running, and the requests it is asked."""

    def __init__(self, scratch: Path, cores: str, concurrency: int) -> None:
        self.cores, self.concurrency = cores, concurrency
        self.loadgen, self.mock_port = build("loadgen"), free_port()
        command = [str(build("mock_engine")), str(self.mock_port), "--chunks", str(CHUNKS), "--addresses", str(ENGINES)]
        self.mock = Process(command, cores, scratch / "mock.log")
        self.bodies = {False: scratch / "plain.json", True: scratch / "stream.json"}
        self.bodies[False].write_text(json.dumps(BODY))
        self.bodies[True].write_text(json.dumps(BODY | {"stream": True, "stream_options": {"include_usage": True}}))
        deadline = time.monotonic() + 5
        while get(self.mock_port, "/health")[0] != 200:
            if time.monotonic() > deadline:
                raise LoadFailed("the mock engine does not answer")
            time.sleep(0.05)

    def control(self, **settings: int) -> None:
        """Change the mock engine's settings."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        if get(self.mock_port, f"/control?{query}")[0] != 200:
            raise LoadFailed(f"the mock engine refused {query}")

    def command(self, gateway: Gateway | None, stream: bool) -> list[str]:
        """The load generator against a gateway, or the engine itself."""
        port, headers = (gateway.port, gateway.headers) if gateway else (self.mock_port, [])
        return ["taskset", "-c", self.cores, str(self.loadgen), "--port", str(port), "--body", str(self.bodies[stream]),
                *(["--stream", "--expect", str(CHUNKS)] if stream else []), *(x for h in headers for x in ("--header", h))]  # fmt: skip

    def run(
        self, gateway: Gateway | None, *, stream: bool, conns: int, count: int = 0, seconds: float = 0, rate: float = 0
    ) -> Figures:
        """One load; → what the generator saw."""
        bound = ["--count", str(count)] if count else ["--duration", str(seconds)]
        extra = ["-c", str(conns), *bound, *(["--rate", str(rate)] if rate else [])]
        done = subprocess.run(
            [*self.command(gateway, stream), *extra], check=False, capture_output=True, text=True, timeout=180
        )
        if not done.stdout:
            raise LoadFailed(f"loadgen: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def try_out(self, gateway: Gateway) -> None:
        """A few requests, so that what cannot be measured is known before.

        Raises:
            LoadFailed: one of them fails.
        """
        self.control(gap_us=0)
        for stream in (False, True) if gateway.does("burst") else (False,):
            result = self.run(gateway, stream=stream, conns=1, count=2)
            if result["requests"] != 2:
                raise LoadFailed(f"{'a stream' if stream else 'a plain request'} fails: {json.dumps(result)}")

    def measure(self, gateway: Gateway | None, workload: str, seconds: float, rate: float = 0) -> Figures:
        """One load with the gateway's CPU time around it."""
        self.control(gap_us=PACED_GAP_US if workload == "paced" else 0)
        conns = PACED_STREAMS if workload == "paced" else 256 if rate else self.concurrency
        stream = workload in ("burst", "paced")
        if gateway is None:
            return self.run(None, stream=stream, conns=conns, seconds=seconds, rate=rate)
        gateway.settle()
        workers, whole = gateway.cpu()
        result = self.run(gateway, stream=stream, conns=conns, seconds=seconds, rate=rate)
        result["settle_s"] = gateway.settle()
        if result["requests"]:
            workers_after, whole_after = gateway.cpu()
            result["cpu_us"] = (workers_after - workers) / result["requests"] * 1e6
            result["tree_us"] = (whole_after - whole) / result["requests"] * 1e6
            result["rss_mib"], result["tree_mib"] = gateway.rss_mib()
        return result

    def half(self, gateway: Gateway, saturation: float, seconds: float) -> Figures:
        """Open loop at half of the gateway's own saturation rate, against the direct path at the same rate."""
        rate = max(1.0, saturation / 2)
        direct = self.measure(None, "half", seconds, rate)
        through = self.measure(gateway, "half", seconds, rate)
        added = {f"added_{p}": through[p] - direct[p] for p in ("p50", "p90", "p99")}
        return through | added | {"rate": rate}

    def idle(self, gateway: Gateway, streams: int) -> Figures:
        """Memory of a fresh process for each open stream that has begun and now waits."""
        gateway.stop()
        gateway.start()
        self.control(gap_us=0)
        self.run(gateway, stream=True, conns=16, count=200)
        time.sleep(0.5)
        self.control(gap_us=600_000_000)
        before, before_tree = gateway.rss_mib()
        holder = subprocess.Popen(
            [*self.command(gateway, True), "--idle", str(streams), "--timeout", "90"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdin
        assert holder.stdout
        try:
            opened = dict(json.loads(holder.stdout.readline()))
            time.sleep(0.5)
            after, after_tree = gateway.rss_mib()
        finally:
            holder.stdin.close()
            holder.wait(30)
            gateway.stop()
            time.sleep(0.3)
            self.control(gap_us=0)
        each = 1024 / max(1, opened["open"])
        return opened | {
            "streams": streams,
            "before_mib": before,
            "after_mib": after,
            "kib_per_stream": (after - before) * each,
            "tree_kib_per_stream": (after_tree - before_tree) * each,
        }
