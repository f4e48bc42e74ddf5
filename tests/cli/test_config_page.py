# SPDX-License-Identifier: Apache-2.0
"""Every command of `docs/how-to/configure.md` does what the page says, in both languages."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beffroi.config.examine import examine
from beffroi.core.state import load_config
from tests.harness import ROOT, free_port, wait_for

PAGES = ("configure.md", "configure.fr.md")


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    """`beffroi` on the path, as after an installation, and ports that are free."""
    program = folder / "bin" / "beffroi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m beffroi "$@"\n')
    program.chmod(0o755)
    head = {"BEFFROI_GATEWAY__MAX_HEADERS": "77"}
    ports = {"BEFFROI_SERVER__PORT": str(free_port()), "BEFFROI_SERVER__CONTROL_PORT": str(free_port())}
    path = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    return os.environ | head | ports | path | {"BEFFROI_DATA": str(folder / "data"), "HOME": str(folder)}


def blocks(page: str, language: str) -> list[str]:
    """The code of a page."""
    text = (ROOT / "docs" / "how-to" / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_work_in_the_order_of_the_page(page: str, folder: Path, environ: dict[str, str]) -> None:
    """One after the other, in one folder; `serve` until it serves what the file says."""
    served = ""
    for block in blocks(page, "sh"):
        for command in block.splitlines():
            if " serve " in command:
                served = until_ready(command, folder, environ)
                continue
            done = subprocess.run(
                ["sh", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            if "SERVER__PORT=9000" in command:
                assert re.search(r"server\.port +9000 +\$BEFFROI_SERVER__PORT\n", done.stdout)
                assert re.search(r"gateway\.trusted_proxies +10\.0\.0\.0/8, ::1 ", done.stdout)
    assert "chat-small" in served and "gpu.yaml" in served
    assert load_config(folder / "data").settings.max_headers == 77  # a variable reaches the workers
    assert {"beffroi.yaml", "gpu.yaml", "beffroi.schema.json", "beffroi.example.yaml"} <= {
        path.name for path in folder.iterdir()
    }


def until_ready(command: str, folder: Path, environ: dict[str, str]) -> str:
    """What `serve` prints; it is stopped with Ctrl-C."""
    out = folder / "serve.out"
    with out.open("w") as file:
        process = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=folder, env=environ, stdout=file, stderr=file)
    try:
        wait_for(lambda: "Ctrl-C stops" in out.read_text() or process.poll() is not None, 30, "it serves")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, out.read_text()
    return out.read_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_faults_it_shows_are_those_that_are_told(page: str, folder: Path, environ: dict[str, str]) -> None:
    """Word for word, of the file that the page writes with two slips in it."""
    (init,) = [command for block in blocks(page, "sh") for command in block.splitlines() if "gpu.yaml --yes" in command]
    subprocess.run(["sh", "-c", init], cwd=folder, env=environ, capture_output=True, check=True)
    text = (folder / "gpu.yaml").read_text()
    (folder / "gpu.yaml").write_text(text.replace("kind:", "kindd:").replace("{engine: engine,", "{engine: engin,"))
    done = subprocess.run(
        ["beffroi", "config", "check", "gpu.yaml"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, [done.stderr]) == (2, blocks(page, "text"))


@pytest.mark.parametrize("page", PAGES)
def test_its_example_of_a_secret_is_valid(page: str, folder: Path) -> None:
    """Once the variable is set."""
    (text,) = blocks(page, "yaml")
    (folder / "b.yaml").write_text(text)
    assert examine(folder / "b.yaml", {"GPU1_KEY": "k"}).problems == []
    assert "export GPU1_KEY" in examine(folder / "b.yaml", {}).problems[0].remedy
