# SPDX-License-Identifier: Apache-2.0
"""LangChain, in an environment of its own: `make clients-env` makes it."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.compat.conftest import Gateway
from tests.harness import ROOT, skip

PROGRAM = Path(__file__).with_name("langchain_program.py")
PYTHON = ROOT / ".venv-clients/bin/python"
CHECKS = re.findall(r"^    (\w+),$", PROGRAM.read_text().partition("CHECKS")[2], re.MULTILINE)


@cache
def faults(url: str, key: str, limited: str) -> dict[str, str | None]:
    """By check, what was wrong; the program runs once."""
    env = os.environ | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "BEFFROI_LIMITED_KEY": limited}
    env |= {"BEFFROI_WORDS": "words", "BEFFROI_REAL": "beffroi-tiny", "LANGSMITH_TRACING": "false", "NO_PROXY": "*"}
    done = subprocess.run([str(PYTHON), str(PROGRAM)], env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = map(json.loads, done.stdout.splitlines())
    return {line["check"]: line["fault"] for line in lines}


@pytest.fixture(scope="module")
def limited(gateway: Gateway) -> str:
    """A key for two requests a minute."""
    if not PYTHON.exists():
        skip("LangChain (make clients-env)")
    return gateway.served.new_key(requests_per_minute=2)


@pytest.mark.parametrize("check", CHECKS)
def test_langchain(gateway: Gateway, limited: str, check: str) -> None:
    """Each check of the program holds."""
    fault = faults(gateway.url, gateway.key, limited)[check]
    assert fault is None, fault
