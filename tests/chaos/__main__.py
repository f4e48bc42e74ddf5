# SPDX-License-Identifier: Apache-2.0
"""The long form of the chaos tests: a hundred kills, ten thousand requests; its figures are dated and kept.

    python -m tests.chaos [--kills 100] [--requests 10000] [--clients 0] [pytest arguments]

In: counts. Out: the tests' verdict, and benchmarks/results/<date>-chaos-<machine>.json with what was measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from tests.harness import ROOT


def main() -> int:
    """The exit status of the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--fault-seconds", type=int, default=60)
    parser.add_argument("--limit-minutes", type=int, default=5)
    parser.add_argument("--calls", type=int, default=60, help="examples for each operation of the admin API")
    parser.add_argument("--fleet-kills", type=int, default=1000)
    parser.add_argument("--write-seconds", type=int, default=120)
    parser.add_argument("--clients", type=int, default=1, help="0: only curl of the programs in ../shared/suites")
    options, rest = parser.parse_known_args()
    counts = dict(vars(options))
    about: dict[str, Any] = {"date": report.today(), "machine": report.machine(), "counts": counts}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        figures = Path(folder) / "figures"
        env = os.environ | {f"BEFFROI_{name.upper()}": str(value) for name, value in counts.items()}
        command = [sys.executable, "-m", "pytest", "tests/chaos", "-v", *rest]
        status = subprocess.run(command, check=False, cwd=ROOT, env=env | {"BEFFROI_FIGURES": str(figures)}).returncode
        lines = figures.read_text().splitlines() if figures.exists() else []
    about |= {"seconds": round(time.monotonic() - begin), "passed": status == 0}
    if not rest:  # a part of the tests is no result
        out = ROOT / "benchmarks" / "results" / f"{about['date']}-chaos-{report.slug(report.machine())}.json"
        out.write_text(json.dumps({"about": about, "figures": [json.loads(line) for line in lines]}, indent=1) + "\n")
        print(f"written: {out.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
