# SPDX-License-Identifier: Apache-2.0
"""Samples written for these tests, imported with the addresses of real sockets put in their place."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from beffroi.cli.main import main

SAMPLES = Path(__file__).parent / "samples"
Json = dict[str, Any]


class Imported(NamedTuple):
    """What one import left behind."""

    status: int
    output: str
    error: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "beffroi.yaml"

    @property
    def document(self) -> Json:
        """The configuration that was written."""
        return dict(yaml.safe_load(self.config.read_text()))

    @property
    def report(self) -> Json:
        """The report, of an import with --json."""
        return dict(json.loads(self.output))

    def model(self, name: str) -> Json:
        """One model of the configuration."""
        (found,) = [model for model in self.document["resources"]["models"] if model["id"] == name]
        return dict(found)

    def said(self, fate: str, name: str) -> list[Json]:
        """The findings about a setting."""
        return [item for item in self.report[fate] if item["name"].endswith(name)]


class Importer:
    """Runs `beffroi import` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sample(self, name: str, **places: str) -> Path:
        """A sample in the folder; `places` are put where the host of that name stands (`gpu1` for `http://gpu1.…:8000`)."""
        text = (SAMPLES / name).read_text()
        for host, url in places.items():
            found = [
                word
                for word in text.replace('"', " ").replace("}", " ").split()
                if f"//{host.replace('_', '-')}." in word
            ]
            assert found, host
            base = found[0].partition(":-")[2] or found[0]
            text = text.replace(base.removesuffix("/v1").rstrip("/"), url)
        path = self.folder / name
        path.write_text(text)
        return path

    def text(self, text: str, name: str = "config.yaml") -> Path:
        """A file written for one test."""
        path = self.folder / name
        path.write_text(text)
        return path

    def __call__(
        self, kind: str, file: Path, *options: str, json: bool = True, env: dict[str, str] | None = None
    ) -> Imported:
        arguments = ["import", kind, str(file), "-o", str(self.folder / "beffroi.yaml"), *options]
        done = CliRunner().invoke(main, [*arguments, "--json"] if json else arguments, env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Imported(done.exit_code, done.stdout, done.stderr, self.folder)


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    """An importer with an empty folder."""
    return Importer(tmp_path)
