# SPDX-License-Identifier: Apache-2.0
"""The admin API under thousands of generated calls, in sequences too: none is answered 5xx, each as the description says."""

import os
from pathlib import Path

import pytest

from tests.control.api.fuzz import fuzz
from tests.control.fakes import WorkerThread, control

EXAMPLES = int(os.environ.get("BEFFROI_CALLS", "0"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not EXAMPLES, reason="the short form is tests/control/api/test_openapi.py")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_sequence_of_calls_makes_the_api_fail(tmp_path: Path, seed: int) -> None:
    """Minutes of them, on a fresh house each."""
    (tmp_path / "d").mkdir()
    with control(tmp_path / "d") as running, WorkerThread(running.data):
        fuzz(running, tmp_path, phases="coverage,fuzzing,stateful", examples=EXAMPLES, seed=seed)
