# SPDX-License-Identifier: Apache-2.0
"""Makes a data directory with an earlier release, as tests of upgrades open it: `python -m tests.packaging.make_data REV NAME`.

In: a revision of this repository, whose source is taken out of git and run. Out: `data/NAME.tar.gz`, the directory as a
kill -9 left it, part of its journal not shipped; and `data/NAME.json`, what was told to clients. The keys in it are of no
use anywhere else. `data/0.1.0.*` were made from a99e166, the release 0.1.0.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos.witness import seen
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, wait_for

OUT = Path(__file__).parent / "data"
PRICES = [{"input": "0.9", "cached": "0.45", "output": 4, "reasoning": 21}]
MODELS = [{"id": "words", "targets": [{"engine": "e0"}], "prices": PRICES}]
SHIPPED, LEFT = 40, 15  # requests before control is stopped, and after


def main(revision: str, name: str) -> None:
    """Run it and pack what it leaves."""
    with tempfile.TemporaryDirectory(prefix="bf-") as folder, ScriptedEngine(seed=5) as engine:
        source = Path(folder) / "source"
        taken = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as tar:
            tar.extractall(source, filter="data")
        served = Served(
            Path(folder) / "data",
            {"e0": engine.url},
            models=MODELS,
            workers=2,
            env={"PYTHONPATH": str(source / "src")},
        )
        try:
            told = fill(served.start())
        finally:
            served.kill()
        OUT.mkdir(exist_ok=True)
        (OUT / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
        with tarfile.open(OUT / f"{name}.tar.gz", "w:gz") as tar:
            for path in sorted(served.data.rglob("*")):
                if path.is_file() or path.is_dir():
                    tar.add(path, path.relative_to(served.data).as_posix(), recursive=False)


def fill(served: Served) -> dict[str, Any]:
    """Keys, requests, a revocation, and requests that control does not get to see."""
    budget, day = ("--hard-budget", "5", "--budget-period", "total"), ("--output-tokens-per-day", "100000")
    keys = {"first": served.key}
    for name, limits in (("budget", budget), ("day", day), ("revoked", ())):
        keys[name] = served.cli("keys", "create", name, "--long-lived", *limits)["key"]
    answers = []
    for place in range(SHIPPED):
        key = ("first", "budget", "day", "revoked")[place % 4]
        answers.append((key, served.chat(f"question {place}", key=keys[key], stream=place % 3 == 0)))
    served.cli("keys", "revoke", "revoked")
    served.settled({answer.get("x-request-id") or "" for _, answer in answers})
    (control,) = served.children("beffroi.control.process")
    os.kill(control, signal.SIGSTOP)
    for place in range(LEFT):
        key = ("first", "budget", "day")[place % 3]
        answers.append((key, served.chat(f"more {place}", key=keys[key], stream=place % 3 == 0)))
    time.sleep(0.2)
    wait_for(lambda: len(served.ledger()) == SHIPPED, 2, "the last ones are not shipped")
    told = [{"key": key, **vars(seen(answer))} for key, answer in answers]
    return {"made_at": time.strftime("%Y-%m-%d", time.gmtime()), "keys": keys, "answers": told, "shipped": SHIPPED}


if __name__ == "__main__":
    main(*sys.argv[1:])
