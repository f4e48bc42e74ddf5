# SPDX-License-Identifier: Apache-2.0
"""The rounds: gateways take turns (A B C, B C A, …), so that a busy minute of the machine hits all alike.

In: options. Out: every measure, by gateway and workload, in the order of the rounds.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import tls
from benchmarks.gateways import Gateway, NotMeasured, Row
from benchmarks.load import Figures, Load, LoadFailed

STEADY = ("plain", "burst", "paced")
OURS, VLLM = "beffroi", "vllm-router"
ONE_KEY, HUNDRED, TLS = f"{OURS} 1 key", f"{OURS} 100 engines", f"{OURS} tls"


@dataclass
class Options:
    """What a run does; times in seconds."""

    workloads: tuple[str, ...]
    rounds: int = 9
    seconds: float = 1.0
    concurrency: int = 32
    idle: int = 8000
    tls_requests: int = 2000
    gateway_cores: str = "1"
    load_cores: str = "0"


@dataclass
class Results:
    """All measures: results[gateway][workload] is one dict of figures for each round."""

    measures: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, name: str, workload: str, figures: Figures) -> None:
        """Append a round's measure."""
        self.measures.setdefault(name, {}).setdefault(workload, []).append(figures)

    def series(self, name: str, workload: str, key: str) -> list[float]:
        """One figure over the rounds that have it."""
        return [r[key] for r in self.measures.get(name, {}).get(workload, []) if key in r]


class Runner:
    """Starts the gateways, runs the rounds, stops everything."""

    def __init__(self, rows: list[Row], scratch: Path, options: Options) -> None:
        self.options, self.results = options, Results()
        self.load = Load(scratch, options.load_cores, options.concurrency)
        self._rows, self._scratch = rows, scratch
        self.gateways: dict[str, Gateway] = {}

    def _gateway(self, row: Row, **variant: Any) -> None:
        gateway = Gateway(row, self._scratch, self.load.mock_port, self.options.gateway_cores, **variant)
        reason = gateway.missing()
        if not reason:
            try:
                gateway.start()
                if not gateway.tls:
                    self.load.try_out(gateway)
            except (NotMeasured, LoadFailed) as why:
                gateway.stop()
                reason = str(why)
        if reason:
            self.results.skipped[gateway.name] = reason
            print(f"skip {gateway.name}: {reason}", flush=True)
            return
        self.gateways[gateway.name] = gateway
        workers, whole = gateway.rss_mib()
        print(f"up   {gateway.name} (pid {gateway.pid}, {workers:.0f} MiB, tree {whole:.0f} MiB)", flush=True)

    def run(self) -> Results:
        """Everything that the options name."""
        begin = time.monotonic()
        todo = self.options.workloads
        try:
            for row in self._rows:
                self._gateway(row)
            mine = next((row for row in self._rows if row["name"] == OURS), None)
            if mine and OURS in self.gateways:
                if "flat" in todo:
                    self._gateway(mine, variant="1 key", keys=1)
                    self._gateway(mine, variant="100 engines", engines=100)
                if "tls" in todo:
                    self._gateway(mine, variant="tls", tls=True)
            self._rounds([w for w in STEADY if w in todo])
            if "tls" in todo and TLS in self.gateways:
                self._tls()
            if "idle" in todo:
                self._idle()
        finally:
            for gateway in self.gateways.values():
                gateway.stop()
            self.load.mock.stop()
        self.results.seconds = time.monotonic() - begin
        return self.results

    def _rounds(self, steady: list[str]) -> None:
        options = self.options
        main = [g for name, g in self.gateways.items() if name not in (ONE_KEY, HUNDRED, TLS)]
        flat = [self.gateways[n] for n in (ONE_KEY, HUNDRED) if n in self.gateways]
        for workload in steady:  # warm-up, thrown away
            for gateway in [g for g in main if g.does(workload)] + (flat if workload == "plain" else []):
                self.load.measure(gateway, workload, min(1.0, options.seconds))
        for turn in range(options.rounds):
            at = turn % len(main) if main else 0
            order = main[at:] + main[:at]
            for workload in steady:
                self.results.add("direct", workload, self.load.measure(None, workload, min(0.5, options.seconds)))
                turns = [g for g in order if g.does(workload)]
                if workload == "plain":
                    turns += flat if turn % 2 else flat[::-1]
                for gateway in turns:
                    self._one(gateway, workload)
            if "half" in options.workloads:
                for gateway in (g for g in order if g.does("half")):
                    rates = self.results.series(gateway.name, "plain", "rps")
                    if rates:
                        self.results.add(gateway.name, "half", self.load.half(gateway, rates[-1], options.seconds))
                # A gateway that carries more is asked for more at half of its load: here all are asked for as much.
                if reference := self.results.series(VLLM, "plain", "rps"):
                    for gateway in (g for g in order if g.does("half")):
                        self.results.add(gateway.name, "same", self.load.half(gateway, reference[-1], options.seconds))
            if steady:
                print(
                    f"round {turn + 1}/{options.rounds}: " + ", ".join(self._said(g.name, steady) for g in order),
                    flush=True,
                )

    def _one(self, gateway: Gateway, workload: str) -> None:
        try:
            self.results.add(gateway.name, workload, self.load.measure(gateway, workload, self.options.seconds))
        except NotMeasured as why:  # its journal is not shipped in time: the round has no figure, the report says so
            self.results.skipped[f"{gateway.name}, {workload}"] = str(why)
            print(f"{gateway.name}, {workload}: {why}", flush=True)

    def _said(self, name: str, steady: list[str]) -> str:
        last = [self.results.series(name, w, "cpu_us")[-1:] for w in steady]
        return f"{name} " + "/".join(f"{one[0]:.0f}" if one else "–" for one in last)

    def _tls(self) -> None:
        for turn in range(self.options.rounds):
            for name in (OURS, TLS) if turn % 2 else (TLS, OURS):
                for workload, fresh in (("tls", False), ("tls new", True)):
                    count = self.options.tls_requests // (4 if fresh else 1)
                    self.results.add(name, workload, tls.measure(self.gateways[name], count, fresh=fresh))

    def _idle(self) -> None:
        for name, gateway in self.gateways.items():
            if not gateway.does("idle") or name in (ONE_KEY, HUNDRED, TLS):
                continue
            count = min(self.options.idle, gateway.row.get("idle", self.options.idle))
            try:
                self.results.add(name, "idle", self.load.idle(gateway, count))
            except (NotMeasured, LoadFailed) as why:
                self.results.skipped[f"{name}, idle"] = str(why)
                print(f"{name}, idle: {why}", flush=True)
