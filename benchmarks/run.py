# SPDX-License-Identifier: Apache-2.0
"""Measure Beffroi beside nginx and vllm-router with one command, in under ten minutes.

python -m benchmarks.run                    all of it; writes RESULTS.md and results/<date>-<machine>.json
python -m benchmarks.run --quick            about a minute, writes nothing
python -m benchmarks.run --only beffroi,nginx --workloads plain --rounds 15
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.gateways import table
from benchmarks.goals import verdicts
from benchmarks.processes import HERE
from benchmarks.rounds import OURS, Options, Runner

WORKLOADS = ("plain", "burst", "paced", "half", "flat", "tls", "idle")


def options_of(arguments: argparse.Namespace) -> Options:
    """The run that the command line asks for."""
    cores = {"gateway_cores": arguments.gateway_cores, "load_cores": arguments.load_cores}
    workloads = tuple(w for w in arguments.workloads.split(",") if w)
    if unknown := set(workloads) - set(WORKLOADS):
        raise SystemExit(f"unknown workloads: {', '.join(sorted(unknown))}")
    if arguments.quick:
        return Options(workloads, rounds=3, seconds=0.4, idle=500, tls_requests=400, **cores)
    return Options(workloads, rounds=arguments.rounds, seconds=arguments.seconds, idle=arguments.idle, **cores)


def raise_limits() -> None:
    """8,000 idle streams are 16,000 descriptors; only root may raise the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(hard, 65536), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def main() -> int:
    """0 if Beffroi was measured and kept every bound that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", help="names from gateways.toml, comma separated (default: those that are not optional)"
    )
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="per measure")
    parser.add_argument("--idle", type=int, default=8000, help="idle streams to open")
    parser.add_argument("--gateway-cores", default="1")
    parser.add_argument("--load-cores", default="0", help="for the mock engine, the load generator and this program")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few short rounds, nothing written")
    parser.add_argument(
        "--scratch", type=Path, help="where data directories go (default: the system's temporary folder)"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md and results/")
    arguments = parser.parse_args()
    options = options_of(arguments)
    rows = table()
    wanted = set(arguments.only.split(",")) if arguments.only else {r["name"] for r in rows if not r.get("optional")}
    for name in sorted(wanted - {r["name"] for r in rows}):
        print(f"skip {name}: not in gateways.toml")
    raise_limits()
    # What is measured is this tree, whether or not a release is installed beside it.
    os.environ["PYTHONPATH"] = str(HERE.parent / "src")
    about = {"date": report.today(), "machine": report.machine(), "versions": report.versions()}
    os.sched_setaffinity(0, {int(core) for core in options.load_cores.split(",")})
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.scratch) as scratch:
        results = Runner([r for r in rows if r["name"] in wanted], Path(scratch), options).run()
    print(report.text(results, options, about))
    if not arguments.quick:
        print(f"written: {report.write(results, options, about, arguments.out)}, after {results.seconds:.0f} s")
    unmeasured = OURS in wanted and OURS not in results.measures
    return 1 if unmeasured or any(v.kept is False for v in verdicts(results)) else 0


if __name__ == "__main__":
    sys.exit(main())
