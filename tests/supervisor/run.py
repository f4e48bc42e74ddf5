# SPDX-License-Identifier: Apache-2.0
"""Runs a `Supervisor` over stand-ins: `python -m tests.supervisor.run DATA WORKERS`.

In: a data directory. Out: one JSON line when it is ready; the supervisor's exit status.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from beffroi.supervisor.directory import DataDirectory
from beffroi.supervisor.plan import Plan
from beffroi.supervisor.tree import Supervisor
from beffroi.telemetry import logs


def main() -> int:
    logs.configure("supervisor")
    with DataDirectory(Path(sys.argv[1])) as directory:
        plan = Plan(
            data=directory.path,
            port=0,
            control_port=0,
            workers=int(sys.argv[2]),
            warm=(directory.path / "warm").exists(),
            worker_module="tests.supervisor.stand_in",
            control_module="tests.supervisor.stand_in",
        )
        return Supervisor(plan, lambda ready: print(json.dumps(asdict(ready)), flush=True)).run()


sys.exit(main())
