# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/back-up-and-restore.md: its commands, typed while a server runs. And the numbers of compatibility.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

from beffroi.control import archive
from beffroi.core import segment
from beffroi.core.layout import FORMAT
from beffroi.store.engine import HEAD
from tests.harness import ROOT, Served
from tests.packaging.pages import commands, elsewhere

PAGE = "how-to/back-up-and-restore.md"


def test_the_commands_of_the_page_make_check_and_restore_a_backup(beffroi: Served, folder: Path) -> None:
    """In their order; what is restored is then served as the page serves it."""
    program = f"{sys.executable} -m beffroi"
    places = {"beffroi backup": f"{program} backup", "/srv/backup/": f"{folder}/"}

    def type_(block: str) -> str:
        env = beffroi.env | {"BEFFROI_DATA": str(beffroi.data), "PATH": os.environ["PATH"]}
        done = subprocess.run(["sh", "-euc", block], capture_output=True, text=True, env=env, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert beffroi.chat().status == 200
    assert "Wrote " in type_(elsewhere(commands(PAGE, "beffroi backup create /srv"), places))
    assert "is whole" in type_(elsewhere(commands(PAGE, "beffroi backup verify"), places))
    restore, serve = commands(PAGE, "beffroi backup restore").splitlines()
    assert "These keys work" in type_(elsewhere(restore, places | {"/var/lib/": f"{folder}/"}))
    assert serve == "beffroi serve --data /var/lib/beffroi-new --config beffroi.yaml"
    beffroi.stop()
    beffroi.data = folder / "beffroi-new"
    beffroi.start()
    assert beffroi.chat().status == 200


def test_the_numbers_on_the_page_about_compatibility_are_those_of_the_code() -> None:
    """Whoever raises one changes the page, and so reads the promise."""
    page = (ROOT / "docs" / "reference" / "compatibility.md").read_text("utf-8")
    table = dict(re.findall(r"^\| ([^|]+) \| (\d+) \|", page, re.MULTILINE))
    assert table == {
        "data directory, file `format`": str(FORMAT),
        "ledger, revision": HEAD,
        "journal segment, version": str(segment.VERSION),
        "backup archive, `beffroi_backup`": str(archive.VERSION),
    }
