# SPDX-License-Identifier: Apache-2.0
"""Where the chaos tests put what they measured, so that a long run can be committed with its machine.

In: names and numbers. Out: JSON lines in the file that BEFFROI_FIGURES names; nothing without it.
"""

import json
import os
from pathlib import Path


def note(test: str, **figures: float | str) -> None:
    """Add one test's figures."""
    if path := os.environ.get("BEFFROI_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"test": test, **figures}) + "\n")
