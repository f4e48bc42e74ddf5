# SPDX-License-Identifier: Apache-2.0
"""Beffroi over its own engine, with two models that have prices: one for all tests that only ask it.

In: a folder. Out: a `Served` (fixture `tiny`, for the whole session), and how a program is run as its client.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness import ROOT, Served

PRICES = [{"input": 0.9, "output": 4, "reasoning": 21}]
SMALL, LARGE = "granite3.3:2b", "deepseek-r1:70b"
TARGETS = [{"engine": "embedded", "model": "beffroi-tiny"}]
MODELS: list[dict[str, Any]] = [
    {"id": SMALL, "targets": TARGETS, "prices": PRICES},
    {"id": LARGE, "aliases": ["large"], "targets": TARGETS, "prices": PRICES},
]


def start(folder: Path) -> Served:
    """It, serving."""
    return Served(folder / "tiny", models=MODELS, arguments=("--engine", "embedded")).start()


def client(served: Served, *command: str | Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """A Python program (`-m beffroi …` or a file) that finds the gateway and its key in the environment."""
    told = {"BEFFROI_URL": f"http://127.0.0.1:{served.port}/v1", "BEFFROI_API_KEY": served.key}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "BEFFROI_DATA": str(served.data)} | told | environ,
    )
