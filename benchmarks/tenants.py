# SPDX-License-Identifier: Apache-2.0
"""What many tenants cost, and what a busy desk of administrators does to the requests of everybody.

python -m benchmarks.tenants                  100,000 keys in 1,000 organisations against one key in one

In: counts and rounds. Out: start-up and memory with many tenants; CPU per request against one key, in paired rounds;
then the same gateway with and without 500 reads and 100 writes a second on its control socket, in paired rounds too.
One JSON object, with the machine; `--out FILE` keeps it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.gateways import Gateway, table
from benchmarks.load import Figures, Load
from benchmarks.processes import HERE
from benchmarks.rounds import OURS

Pairs = list[tuple[float, float]]


def interval(pairs: Pairs) -> dict[str, float]:
    """The ratio within a pair: median, and the interval that holds the true median with 95 % (order statistics)."""
    ratios = sorted(with_it / without for with_it, without in pairs)
    aside = max(0, int((len(ratios) - 1.96 * len(ratios) ** 0.5) / 2))
    return {
        "median": statistics.median(ratios),
        "low": ratios[aside],
        "high": ratios[-1 - aside],
        "rounds": len(ratios),
    }


class Bench:
    """The load, and the gateways that take turns under it."""

    def __init__(self, scratch: Path, seconds: float) -> None:
        self.scratch, self.seconds = scratch, seconds
        self.load = Load(scratch, "0", 32)
        (self.row,) = [row for row in table() if row["name"] == OURS]

    def start(self, **variant: Any) -> tuple[Gateway, float]:
        """A gateway that serves, and the seconds that it took from its command to there."""
        gateway = Gateway(self.row, self.scratch, self.load.mock_port, "0,1", **variant)  # two cores for all of it
        gateway.start()
        began = time.monotonic()
        gateway.stop()
        gateway.again()
        took = time.monotonic() - began
        self.load.try_out(gateway)
        return gateway, took

    def cpu(self, gateway: Gateway) -> float:
        """CPU µs of the workers per plain request."""
        return float(self.load.measure(gateway, "plain", self.seconds)["cpu_us"])

    def desk(self, gateway: Gateway, seconds: float, writes: float = 100) -> "subprocess.Popen[str]":
        """The administrators, at work."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.desk",
            str(gateway.folder / "data" / "control.sock"),
            "--seconds",
            str(seconds),
        ]
        return subprocess.Popen([*command, "--writes", str(writes)], stdout=subprocess.PIPE, text=True, cwd=HERE.parent)


def many(bench: Bench, keys: int, tenants: int, rounds: int) -> tuple[Figures, Gateway]:
    """Many tenants against one, turn by turn."""
    lone, lone_start = bench.start(keys=1, tenants=1)
    crowd, crowd_start = bench.start(keys=keys, tenants=tenants)
    pairs: Pairs = []
    for turn in range(rounds + 1):
        order = (lone, crowd) if turn % 2 else (crowd, lone)
        found = {gateway.name + str(gateway.keys): bench.cpu(gateway) for gateway in order}
        if turn:  # the first is a warm-up
            pairs.append((found[crowd.name + str(keys)], found[lone.name + "1"]))
    figures = {
        "keys": keys, "organisations": tenants, "cpu_us": statistics.median(each for each, _ in pairs), "cpu_us_one_key": statistics.median(each for _, each in pairs),
        "ratio": interval(pairs), "restart_s": crowd_start, "restart_s_one_key": lone_start, "worker_mib": crowd.rss_mib()[0], "worker_mib_one_key": lone.rss_mib()[0],
    }  # fmt: skip
    lone.stop()
    return figures, crowd


def busy_desk(bench: Bench, gateway: Gateway, rounds: int) -> Figures:
    """The same gateway with and without administrators at work."""
    pairs: Pairs = []
    told = []
    for turn in range(rounds):
        found: dict[bool, float] = {}
        for at_work in (True, False) if turn % 2 else (False, True):
            if not at_work:
                found[at_work] = bench.cpu(gateway)
                continue
            with bench.desk(gateway, bench.seconds * 2 + 1) as desk:
                time.sleep(0.5)
                found[at_work] = bench.cpu(gateway)
                told.append(json.loads(desk.communicate(timeout=60)[0]))
        pairs.append((found[True], found[False]))
    return {"ratio": interval(pairs), "cpu_us": [list(pair) for pair in pairs], "desk": told}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(HERE.parent / "src")
    about = {"date": report.today(), "machine": report.machine()}
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        bench = Bench(Path(scratch), arguments.seconds)
        crowd = None
        try:
            figures, crowd = many(bench, arguments.keys, arguments.tenants, arguments.rounds)
            result = about | {"many_tenants": figures, "busy_desk": busy_desk(bench, crowd, arguments.rounds)}
        finally:
            if crowd is not None:
                crowd.stop()
            bench.load.mock.stop()
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
