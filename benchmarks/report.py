# SPDX-License-Identifier: Apache-2.0
"""Writes down what was measured: tables in Markdown, the verdicts, the machine and the versions.

In: results. Out: text for RESULTS.md and the screen, and a JSON file that holds every measure.
"""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from beffroi.core.kernel import KERNEL
from benchmarks.goals import NGINX, median, ratio, tls_adds, verdicts
from benchmarks.processes import CACHE
from benchmarks.rounds import OURS, STEADY, TLS, VLLM, Options, Results

ABOUT = {
    "plain": "1,017-byte request, 661-byte answer, 32 connections, closed loop",
    "burst": "streams of 64 chunks and usage that arrive at once",
    "paced": "64 streams at a time, one chunk each 5 ms; CPU per stream of 66 events",
}


def machine() -> dict[str, Any]:
    """Where it was measured, without names or addresses."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / (1 << 20)) if memory else None,
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
        f", {'with' if KERNEL else 'without'} the compiled kernel",
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """What was measured."""
    found: dict[str, str] = {}
    try:
        done = subprocess.run(["nginx", "-v"], check=False, capture_output=True, text=True)
        found["nginx"] = done.stderr.strip().rpartition("/")[2]
    except FileNotFoundError:
        pass
    for name in ("vllm-router", "sglang-router", "litellm"):
        for info in (CACHE / name).glob(f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info"):
            found[name] = info.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def show(value: float | None, digits: int = 0) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, first column to the left."""
    rule = "|---|" + "--:|" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f}–{max(values):,.0f}" if values else "–"


def _steady(results: Results, workload: str) -> str:
    lines = []
    for name in results.measures:
        cpu = results.series(name, workload, "cpu_us")
        if not results.measures[name].get(workload):
            continue
        tree = median(results.series(name, workload, "tree_us")) if name.startswith(OURS) else None
        lines.append([name, show(median(cpu), 1), _span(cpu), show(tree, 1),
                      show(ratio(results, name, NGINX, workload), 2), show(ratio(results, name, VLLM, workload), 2),
                      *(show(median(results.series(name, workload, k))) for k in ("rps", "p50", "p99")),
                      show(median(results.series(name, workload, "ttft_p50")) if workload != "plain" else None),
                      show(median(results.series(name, workload, "rss_mib"))),
                      show(sum(results.series(name, workload, "errors")))])  # fmt: skip
    head = [
        "gateway",
        "CPU µs",
        "range",
        "whole tree",
        "÷ nginx",
        "÷ vllm-router",
        "rps",
        "p50 µs",
        "p99 µs",
        "first p50 µs",
        "MiB",
        "errors",
    ]
    return f"### {workload}: {ABOUT[workload]}\n\n{table(head, lines)}\n"


def _latency(results: Results, workload: str, about: str) -> str:
    lines = []
    for name in (n for n in results.measures if results.measures[n].get(workload)):
        p50, p99 = results.series(name, workload, "added_p50"), results.series(name, workload, "added_p99")
        lines.append(
            [
                name,
                show(median(results.series(name, workload, "rate"))),
                show(median(p50)),
                show(min(p50)),
                show(median(p99)),
                show(min(p99)),
            ]
        )
    head = ["gateway", "rate", "added p50 µs", "best round", "added p99 µs", "best round"]
    return f"### {workload}: plain at {about}, open loop, against the direct path\n\n{table(head, lines)}\n"


def _idle(results: Results) -> str:
    lines = [
        [
            name,
            f"{r['open']:,} of {r['streams']:,}",
            show(r["before_mib"], 1),
            show(r["after_mib"], 1),
            show(r["kib_per_stream"], 1),
        ]
        for name in results.measures
        for r in results.measures[name].get("idle", [])
    ]
    head = ["gateway", "streams", "MiB before", "MiB with them", "KiB per stream"]
    return f"### idle: memory of open streams that have begun and wait\n\n{table(head, lines)}\n"


def _tls(results: Results) -> str:
    lines = [
        [
            name,
            show(median(results.series(name, "tls", "cpu_us")), 1),
            show(median(results.series(name, "tls new", "cpu_us")), 1),
        ]
        for name in (OURS, TLS)
    ]
    adds = tls_adds(results)
    lines.append(["**what TLS adds**", show(adds["request"], 1), show(adds["new connection and request"], 1)])
    head = ["gateway", "CPU µs per request", "CPU µs per new connection and request"]
    return f"### tls: the same slow client, without TLS and with TLS 1.3\n\n{table(head, lines)}\n"


def _goals(results: Results) -> str:
    mark = {True: "kept", False: "**missed**", None: "not measured"}
    lines = [
        [v.what, f"{show(v.figure, v.digits)} {v.unit}", f"≤ {show(v.bound, v.digits)} {v.unit}", mark[v.kept]]
        for v in verdicts(results)
    ]
    return f"### Bounds\n\n{table(['what', 'measured', 'bound', ''], lines)}\n"


def text(results: Results, options: Options, about: dict[str, Any]) -> str:
    """The whole report."""
    where, what = about["machine"], about["versions"]
    parts = [
        "# What Beffroi costs\n",
        f"Measured on {about['date']} by `python -m benchmarks.run` ([how to read it](README.md)): {where['cores']} cores of {where['cpu']}, "
        f"{where['memory_gib']} GiB, Linux {where['kernel']}, {where['python']}; "
        + ", ".join(f"{name} {version}" for name, version in what.items())
        + f"; load average at the start {where['load_average']:.2f}. {options.rounds} rounds of {options.seconds:g} s, gateways in turns, "
        f"gateway on core {options.gateway_cores}, mock engine and load on core {options.load_cores}. "
        "Medians; ratios are taken within a round. CPU µs is that of the workers, the whole tree stands beside it.\n",
        _goals(results),
        *(_steady(results, w) for w in STEADY if w in options.workloads),
    ]
    if "half" in options.workloads:
        parts.append(_latency(results, "half", "half of the gateway's own saturation rate"))
        if any(results.measures[name].get("same") for name in results.measures):
            parts.append(_latency(results, "same", "half of vllm-router's saturation rate, the same for all"))
    if results.measures.get(TLS, {}).get("tls"):
        parts.append(_tls(results))
    if "idle" in options.workloads:
        parts.append(_idle(results))
    parts += [f"Not measured: {name}: {why}\n" for name, why in results.skipped.items()]
    return "\n".join(parts)


def write(results: Results, options: Options, about: dict[str, Any], folder: Path) -> Path:
    """RESULTS.md and results/<date>-<machine>.json below `folder`; → the JSON file."""
    file = folder / "results" / f"{about['date']}-{slug(about['machine'])}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = [vars(v) | {"kept": v.kept} for v in verdicts(results)]
    data = {
        "about": about,
        "options": vars(options),
        "seconds": results.seconds,
        "verdicts": kept,
        "skipped": results.skipped,
        "measures": results.measures,
    }
    file.write_text(json.dumps(data, indent=1) + "\n")
    (folder / "RESULTS.md").write_text(text(results, options, about))
    return file


def slug(machine: dict[str, Any]) -> str:
    """A machine as part of a file name: `2x-amd-epyc`."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(machine["cpu"]).lower()).strip("-")
    return f"{machine['cores']}x-{cpu}"


def today() -> str:
    """The date that the report carries."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
