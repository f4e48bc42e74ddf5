# SPDX-License-Identifier: Apache-2.0
"""`beffroi config`, as an operator and as a deployment's script use it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from beffroi.cli.main import main

GOOD = """\
server: {port: 9000}
resources:
  engines:
    - {name: a, url: 'http://127.0.0.1:1', api_key: 'env:A_KEY'}
  models: [{id: m}]
"""
BAD = "server: {prot: 1}\nresources:\n  engines: [{name: a}]\n"


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment with one secret."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("A_KEY", "canary")
    for name in ("BEFFROI_CONFIG", "BEFFROI_DATA"):
        monkeypatch.delenv(name, raising=False)
    return folder


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(main, ["config", *arguments])


def test_check_says_that_nothing_is_wrong_and_what_there_is(here: Path) -> None:
    """Status 0, one line."""
    (here / "b.yaml").write_text(GOOD)
    done = run("check", "b.yaml")
    assert (done.exit_code, done.output) == (0, "b.yaml: no fault; 1 engine, 1 model.\n")


def test_check_tells_every_fault_and_what_to_do(here: Path) -> None:
    """Status 2; on standard error, so that a pipe stays empty."""
    (here / "b.yaml").write_text(BAD)
    done = run("check", "b.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "b.yaml:1:10: server.prot: there is no such setting",
        "    did you mean `port`?",
        "b.yaml:3:13: resources.engines[0]: `url` is missing",
        "    add `url`: text",
        "b.yaml: 2 faults; `beffroi serve` would start nothing.",
    ]


def test_check_speaks_json(here: Path) -> None:
    """The same, each part by itself; a fault of the environment names its variable."""
    (here / "b.yaml").write_text(BAD)
    done = CliRunner(env={"BEFFROI_SERVER__WORKERS": "0"}).invoke(main, ["config", "check", "b.yaml", "--json"])
    said = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], said["file"], len(said["problems"])) == (2, False, "b.yaml", 3)
    first, _, last = said["problems"]
    assert first == {
        "origin": "file",
        "file": "b.yaml",
        "line": 1,
        "column": 10,
        "setting": "server.prot",
        "message": "there is no such setting",
        "remedy": "did you mean `port`?",
    }
    assert (last["origin"], last["variable"]) == ("environment", "BEFFROI_SERVER__WORKERS")
    (here / "b.yaml").write_text(GOOD)
    assert json.loads(run("check", "b.yaml", "--json").stdout)["ok"] is True


def test_check_and_show_speak_csv(here: Path) -> None:
    """A line for each fault, and for each setting."""
    (here / "b.yaml").write_text(BAD)
    first, second = csv.DictReader(io.StringIO(run("check", "b.yaml", "--csv").stdout))
    assert (first["kind"], first["line"], first["setting"]) == ("fault", "1", "server.prot")
    assert (second["file"], second["remedy"]) == ("b.yaml", "add `url`: text")
    (here / "b.yaml").write_text(GOOD)
    rows = {row["setting"]: row for row in csv.DictReader(io.StringIO(run("show", "b.yaml", "--csv").stdout))}
    assert rows["server.port"] == {"setting": "server.port", "value": "9000", "from": "b.yaml:1:10"}


def test_a_file_is_looked_for_where_serve_looks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None; here, in either language; `$BEFFROI_CONFIG`; and two here are a question, not a guess."""
    assert "No file" in run("check").output
    (here / "beffroi.toml").write_text("[server]\nport = 9001\n")
    assert "beffroi.toml: no fault" in run("check").output
    (here / "beffroi.yaml").write_text(GOOD)
    done = run("check")
    assert done.exit_code == 2 and "beffroi.yaml and beffroi.toml" in done.output and "--config" in done.output
    (here / "other.yaml").write_text(GOOD)
    monkeypatch.setenv("BEFFROI_CONFIG", "other.yaml")
    assert "other.yaml: no fault" in run("check").output


def test_a_file_that_is_not_there_is_told(here: Path) -> None:
    """With what to do."""
    done = run("check", "none.yaml")
    assert done.exit_code == 2 and "none.yaml: cannot be read: No such file" in done.stderr and "init" in done.stderr


def shown(*arguments: str) -> dict[str, dict[str, Any]]:
    """`config show --json` by setting."""
    done = run("show", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return {row["setting"]: row for row in json.loads(done.stdout)}


def test_show_has_each_value_with_its_origin(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, file, variable, option; each wins over those before it."""
    (here / "b.yaml").write_text(GOOD)
    assert shown("b.yaml")["server.port"] == {
        "setting": "server.port", "value": 9000, "origin": "file", "file": "b.yaml", "line": 1, "column": 10
    }  # fmt: skip
    monkeypatch.setenv("BEFFROI_SERVER__PORT", "9001")
    assert shown("b.yaml")["server.port"] == {
        "setting": "server.port", "value": 9001, "origin": "environment", "variable": "BEFFROI_SERVER__PORT"
    }  # fmt: skip
    found = shown("b.yaml", "--port", "9002", "--data", "mine")
    assert found["server.port"] == {
        "setting": "server.port", "value": 9002, "origin": "command line", "option": "--port"
    }  # fmt: skip
    assert found["server.data"]["value"] == str(here / "mine")
    assert found["server.host"] == {"setting": "server.host", "value": "127.0.0.1", "origin": "default"}
    assert found["server.workers"]["value"] >= 1


def test_show_is_a_table_and_masks_secrets(here: Path) -> None:
    """Aligned; a reference and never what it names."""
    (here / "b.yaml").write_text(GOOD)
    done = run("show", "b.yaml")
    head, *rows = done.output.splitlines()
    at = head.index("VALUE")
    assert all(row[at - 1] == " " and row[at] != " " for row in rows)
    (row,) = [row for row in rows if row.startswith("resources.engines[0].api_key")]
    assert row.split() == ["resources.engines[0].api_key", "env:A_KEY", "b.yaml:4:44"]
    assert "canary" not in done.output


def test_show_of_a_broken_file_tells_its_faults(here: Path) -> None:
    """There is nothing that would hold."""
    (here / "b.yaml").write_text(BAD)
    done = run("show", "b.yaml")
    assert (done.exit_code, done.stdout) == (2, "") and "server.prot" in done.stderr


def test_schema_and_example_are_printed_and_fit(here: Path) -> None:
    """What is printed can be used at once."""
    jsonschema.Draft202012Validator.check_schema(json.loads(run("schema").stdout))
    (here / "e.yaml").write_text(run("example").stdout)
    assert run("check", "e.yaml").exit_code == 0
