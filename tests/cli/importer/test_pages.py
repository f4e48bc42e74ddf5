# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/move-from-litellm.md, move-from-opengatellm.md and their .fr.md pages: every command, every configuration.

move-from-litellm.fr.md and move-from-opengatellm.fr.md have the same blocks, word for word.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served

PAGES = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOVES = {"move-from-litellm": "config.yaml", "move-from-opengatellm": "config.yml"}
LISTING = Path(__file__).parent / "samples" / "litellm-keys.json"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of the blocks of a page that are not set aside."""
    found = BLOCK.findall((PAGES / f"{page}.md").read_text("utf-8"))
    return [(language, text) for aside, language, text in found if not aside]


def shell(text: str, folder: Path, env: dict[str, str]) -> str:
    """What commands print; they end well or, as an import that left something, with status 3."""
    done = subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env=os.environ | env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", MOVES)
def test_both_languages_have_the_same_blocks(page: str) -> None:
    """So that what is run for one holds for the other."""
    assert blocks(page) == blocks(f"{page}.fr")


@pytest.mark.parametrize(("page", "source"), MOVES.items())
def test_every_command_of_the_page_does_what_it_says(folder: Path, page: str, source: str) -> None:
    """In order: the report is the one that is printed, and what was made serves."""
    (folder / "keys.json").write_text(LISTING.read_text().replace('"gpt-4o-mini"', '"assistant"'))
    (folder / "bin").mkdir()
    (folder / "bin" / "beffroi").write_text(f'#!/bin/sh\nexec {sys.executable} -m beffroi "$@"\n')
    (folder / "bin" / "beffroi").chmod(0o755)
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    printed, served = "", None
    with ScriptedEngine(api_key="what-your-engines-want") as engine:
        try:
            for language, text in blocks(page):
                if language == "yaml":
                    (folder / source).write_text(text)
                elif language == "text":
                    assert text in printed
                elif "beffroi serve" in text:
                    export, command = text.strip().splitlines()
                    served = serve(folder, command, engine.url, dict([export.removeprefix("export ").split("=")]))
                    env["BEFFROI_DATA"] = str(served.data)
                else:
                    port = ":8401" if served is None else f":{served.control_port}"
                    printed = shell(text.replace(":8401", port), folder, env)
            assert served is not None
            model = yaml.safe_load((folder / "beffroi.yaml").read_text())["resources"]["models"][0]
            for name in (model["id"], *model["aliases"]):
                assert served.chat(model=name).json["model"] == model["id"]
            assert engine.generations()[-1].json["model"] == model["targets"][0]["model"]
        finally:
            if served is not None:
                served.kill()
    if page == "move-from-litellm":
        assert (folder / "keys.txt").read_text().startswith("timetable bot\tbf-")
        made = (folder / "made.json").read_text()
        assert '"key":"bf-' in made and "`metadata` is not kept" in made
        assert '"team_alias":"Search"' in printed and '"max_budget":100.0' in printed


def serve(folder: Path, command: str, url: str, env: dict[str, str]) -> Served:
    """The page's command, on ports that are free here and with one engine for all of its own."""
    config = folder / "beffroi.yaml"
    config.write_text(re.sub(r"http://gpu\d:8000", url, config.read_text()))
    words = shlex.split(command)
    assert words[:4] == ["beffroi", "serve", "--config", "beffroi.yaml"]
    assert words[4] == "--port" and words[5].isdigit()
    served = Served(folder / "data", bare=True, arguments=("--config", str(config)), env=env)
    return served.start()
