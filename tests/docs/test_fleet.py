# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/run-a-fleet.md: the two machines on one laptop, with the commands and the configuration of the page."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.client import call, chat, request
from tests.docs.blocks import of
from tests.engines.scripted import ScriptedEngine
from tests.harness import KEY, ROOT, free_port, get, program, tree, wait_for
from tests.servers import Postgres

PAGE = ROOT / "docs" / "how-to" / "run-a-fleet.md"


def test_two_machines_on_one_laptop_do_what_the_page_says(postgres: Postgres, folder: Path) -> None:
    """Made on one, used on the other, revoked there: refused by both."""
    program("openssl")
    url = postgres.empty()
    ports = {name: str(free_port()) for name in ("8400", "8401", "8410", "8411")}
    places = {"postgresql://beffroi:PASSWORD@127.0.0.1:5432/beffroi": url, **ports}
    shell = [block.text for block in of(PAGE, "sh") if not block.reason]
    files, one, two, third = (_elsewhere(text, places) for text in shell)
    (settings,) = (block.text for block in of(PAGE, "yaml"))
    (folder / "bin").mkdir()
    (folder / "bin" / "beffroi").write_text(f'#!/bin/sh\nexec {sys.executable} -m beffroi "$@"\n')
    (folder / "bin" / "beffroi").chmod(0o755)
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    started = []
    with ScriptedEngine() as engine:
        try:
            (folder / "fleet.yaml").write_text(settings.replace("http://127.0.0.1:8000", engine.url))
            subprocess.run(["sh", "-ec", files], cwd=folder, check=True, env=env)
            for name, command, control in (("one", one, "8401"), ("two", two, "8411")):
                with (folder / f"{name}.log").open("wb") as log:
                    popen = subprocess.Popen(["sh", "-c", command], cwd=folder, env=env, stdout=log, stderr=log)
                started.append(popen)
                wait_for(lambda at=control: get(int(ports[at]), "/readyz")[0] == 200, 30, f"machine {name} is ready")
            create, listing, revoke = third.strip().splitlines()
            made = subprocess.run(["sh", "-c", create], cwd=folder, env=env, check=True, capture_output=True, text=True)
            found = KEY.search(made.stdout)
            assert found, made.stdout
            key = found[0]
            asked = request(key, chat("count to 3", model="chat-small"))
            second = ("127.0.0.1", int(ports["8410"]))
            wait_for(lambda: call(second, asked).status == 200, 2, "the key works on the second machine")
            seen = subprocess.run(
                ["sh", "-c", listing], cwd=folder, env=env, check=True, capture_output=True, text=True
            )
            assert len(re.findall(r"rep_\w+", seen.stdout)) == 2
            done = subprocess.run(["sh", "-c", revoke], cwd=folder, env=env, check=True, capture_output=True, text=True)
            assert re.search(r"all workers of all 2 machines refuse it, after [\d.]+ ms", done.stdout), done.stdout
            assert [call(("127.0.0.1", int(ports[at])), asked).status for at in ("8400", "8410")] == [401, 401]
        finally:
            for popen in started:
                for pid in tree(popen.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                popen.wait()


def _elsewhere(text: str, places: dict[str, str]) -> str:
    for there, here in places.items():
        text = text.replace(there, here)
    return text
