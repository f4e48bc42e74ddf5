# SPDX-License-Identifier: Apache-2.0
"""What we hold ourselves to, and whether a run kept it.

In: the measures of a run. Out: one line for each bound: the figure, the bound, and whether it holds. Ratios are taken
within a round and then their median.
"""

import statistics
from dataclasses import dataclass

from benchmarks.rounds import HUNDRED, ONE_KEY, OURS, TLS, VLLM, Results

NGINX = "nginx"


@dataclass(frozen=True)
class Verdict:
    """One bound. `figure` is None where the run has no measure of it; `digits` are those worth showing."""

    what: str
    figure: float | None
    bound: float
    unit: str
    digits: int = 2

    @property
    def kept(self) -> bool | None:
        """Whether the bound holds; None: not measured."""
        return None if self.figure is None else self.figure <= self.bound


def median(values: list[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None


def ratio(results: Results, name: str, other: str, workload: str, *, key: str = "cpu_us") -> float | None:
    """Median over the rounds of `key` of one gateway over the other's CPU time in the same round."""
    pairs = zip(results.series(name, workload, key), results.series(other, workload, "cpu_us"), strict=False)
    return median([mine / theirs for mine, theirs in pairs])


def _median(results: Results, name: str, workload: str, key: str) -> float | None:
    return median(results.series(name, workload, key))


def _most(results: Results, name: str, workloads: tuple[str, ...], key: str) -> float | None:
    found = [value for w in workloads for value in results.series(name, w, key)]
    return max(found) if found else None


def verdicts(results: Results) -> list[Verdict]:
    """Every bound, in the order of the report."""

    def of(workload: str, other: str, key: str = "cpu_us") -> float | None:
        return ratio(results, OURS, other, workload, key=key)

    def mine(workload: str, key: str) -> float | None:
        return _median(results, OURS, workload, key)

    theirs = _median(results, VLLM, "half", "added_p50")
    errors = [
        e
        for name in results.measures
        if name.startswith(OURS)
        for w in results.measures[name]
        for e in results.series(name, w, "errors")
    ]
    out = [
        Verdict("plain, workers", of("plain", NGINX), 3.5, "× nginx"),
        Verdict("plain, workers", of("plain", VLLM), 0.75, "× vllm-router"),
        Verdict("plain, whole tree with shipping", of("plain", NGINX, "tree_us"), 4.5, "× nginx"),
        Verdict("burst of 64 chunks, workers", of("burst", NGINX), 1.8, "× nginx"),
        Verdict("burst of 64 chunks, workers", of("burst", VLLM), 0.3, "× vllm-router"),
        Verdict("paced stream, workers", of("paced", NGINX), 1.4, "× nginx"),
        Verdict("latency added at half load, p50", mine("half", "added_p50"), 300, "µs", 0),
    ]
    if theirs is not None:
        out.append(
            Verdict(
                "latency added at half load, p50, against vllm-router's", mine("half", "added_p50"), theirs, "µs", 0
            )
        )
    if (same := _median(results, VLLM, "same", "added_p50")) is not None:
        out.append(Verdict("the same, both at the same rate", mine("same", "added_p50"), same, "µs", 0))
    return [
        *out,
        Verdict(
            "memory of a worker under load",
            _most(results, OURS, ("plain", "burst", "paced"), "rss_mib"),
            80 * 1e6 / (1 << 20),
            "MiB",
            1,
        ),
        Verdict("memory of an idle stream", mine("idle", "kib_per_stream"), 20 * 1e3 / 1024, "KiB", 1),
        Verdict("plain, 10,000 keys against 1", ratio(results, OURS, ONE_KEY, "plain"), 1.1, "×"),
        Verdict("plain, 100 engines against 1", ratio(results, HUNDRED, OURS, "plain"), 1.1, "×"),
        Verdict("failed requests", sum(errors) if errors else None, 0, "", 0),
    ]


def tls_adds(results: Results) -> dict[str, float | None]:
    """CPU microseconds that TLS adds: to a request on a kept connection, and to a new connection."""
    out: dict[str, float | None] = {}
    for workload, label in (("tls", "request"), ("tls new", "new connection and request")):
        pairs = zip(results.series(TLS, workload, "cpu_us"), results.series(OURS, workload, "cpu_us"), strict=False)
        out[label] = median([with_it - without for with_it, without in pairs])
    return out
