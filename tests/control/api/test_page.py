# SPDX-License-Identifier: Apache-2.0
"""The command of docs/reference/admin-api.md, against a running control process."""

import json
import os
import subprocess
from pathlib import Path

from tests.control.fakes import WorkerThread, control
from tests.docs.blocks import of
from tests.harness import program


def test_the_command_of_the_page_says_who_calls(tmp_path: Path) -> None:
    """docs/reference/admin-api.md, with a key as it is made on the command line."""
    program("curl")
    (block,) = of("docs/reference/admin-api.md", "sh")
    with control(tmp_path) as running, WorkerThread(running.data):
        made = running.ask("POST", "/api/v1/admin-keys", {"name": "me", "role": "auditor"}).json
        text = block.text.replace("8401", str(running.port))
        environ = {**os.environ, "BEFFROI_ADMIN_KEY": made["key"]}
        done = subprocess.run(["bash", "-ec", text], env=environ, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["role"], said["organisation"]) == ("auditor", "default") and "keys:read" in said["permissions"]
