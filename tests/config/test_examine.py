# SPDX-License-Identifier: Apache-2.0
"""Looking at a configuration as a start would: faults of form and of sense together, and what is remarked without being one."""

import os
import subprocess
from pathlib import Path

import pytest

from beffroi.config.effective import effective
from beffroi.config.examine import examine
from beffroi.config.problems import Problem
from tests.config.valid import CANARY, ENVIRON, YAML
from tests.harness import program

ENGINE = "resources:\n  engines: [{name: a, url: 'http://x'}]\n"


def looked_at(folder: Path, text: str, *, more: bool = False) -> tuple[list[Problem], list[Problem]]:
    """Faults and remarks of a file with that text."""
    (folder / "b.yaml").write_text(text)
    examined = examine(folder / "b.yaml", ENVIRON, more=more)
    return examined.problems, examined.notes


def names(problems: list[Problem]) -> list[str]:
    """The settings that are at fault."""
    return [problem.name for problem in problems]


def test_form_sense_files_and_environment_are_told_together(folder: Path) -> None:
    """Nobody mends one fault to be told the next; those of the environment come last."""
    text = YAML.replace("port: 8400", "port: x", 1).replace("chain.pem", "gone.pem").replace("Paris", "Pariss")
    text = text.replace("engine: gpu1", "engine: gpu9").replace("env:GPU1_KEY", "env:OTHER")
    (folder / "b.yaml").write_text(text)
    problems = examine(folder / "b.yaml", ENVIRON | {"BEFFROI_GATEWAY__MAX_BODY": "big"}).problems
    assert names(problems) == [
        "server.port",
        "server.tls.certificate",
        "gateway.time_zone",
        "resources.engines[0].api_key",
        "resources.engines[1].ca_file",
        "resources.models[0].targets[0].engine",
        "gateway.max_body",
    ]


def test_a_fleet_wants_both_its_database_and_its_secret_and_shows_neither(folder: Path) -> None:
    """Each without the other, a reference that leads nowhere, and a password in the file itself."""
    (folder / "secret").write_text("x" * 32)
    url = "postgresql://ada:s3cret@127.0.0.1/beffroi"
    cases = {
        f"database: '{url}'": ["server.database"],
        "fleet_secret: file:secret": ["server.fleet_secret"],
        "{database: env:NOT_THERE, fleet_secret: file:secret}": ["server.database"],
        f"{{database: '{url}', fleet_secret: file:secret}}": [],
    }
    for server, told in cases.items():
        found, _ = looked_at(
            folder, f"server: {server if server[0] == '{' else '{' + server + '}'}\n{ENGINE}", more=True
        )
        assert names(found) == told, server
        assert "s3cret" not in str(found)
    shown = {one.name: one.value for one in effective(examine(folder / "b.yaml", ENVIRON, more=True).source)}
    assert "s3cret" not in str(shown)
    assert shown["server.fleet_secret"] == "file:secret"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "resources: {engines: [{nmae: a, url: 'http://x'}], models: [{id: m, targets: [{engine: a}]}]}",
            ["engines[0].nmae"],
        ),
        ("resources: {engines: [{url: 'http://x'}], models: [{id: m, targets: [{engine: a}]}]}", ["engines[0]"]),
        ("resources: {engines: [{}]}", ["engines[0]", "engines[0]"]),
        ("resources: {engines: [{name: a, api_key: x}]}", ["engines[0]", "engines[0].api_key"]),
        ("resources: {engins: [{name: a, url: 'http://x'}], models: [{id: m, targets: [{engine: a}]}]}", ["engins"]),
        ("resources: {engines: 5, models: [{id: m, targets: [{engine: a}]}]}", ["engines"]),
        ("resources: {engines: [a], models: [{id: m}]}", ["engines[0]"]),
        ("resources: {engines: [{name: a, url: 5}], models: [{id: m, targets: [{engine: a}]}]}", ["engines[0].url"]),
        (ENGINE + "  models: [{id: m, tragets: [{engine: b}]}, {id: n}]", ["models[0].tragets"]),
        (ENGINE + "  models: [{id: 5}, {id: ''}]", ["models[0].id", "models[1].id"]),
        (
            ENGINE + "  models: [{id: m, prices: [{input: x}, {output: y}]}]",
            ["models[0].prices[0].input", "models[0].prices[1].effective", "models[0].prices[1].output"],
        ),
        (
            ENGINE + "  models: [{id: m, prices: [{efective: 2026-01-01}, {input: 1}]}]",
            ["models[0].prices[0].efective"],
        ),
    ],
)
def test_what_follows_from_a_fault_is_not_told_as_well(folder: Path, text: str, told: list[str]) -> None:
    """An engine whose name is misspelt is not missing too; but what is wrong on its own account is told."""
    problems, _ = looked_at(folder, text)
    assert [name.removeprefix("resources.") for name in names(problems)] == [*told]


def test_an_engine_that_is_wrong_elsewhere_still_has_its_name(folder: Path) -> None:
    """A bad URL of one engine does not hide that another is missing."""
    text = "resources: {engines: [{name: a, url: 5}], models: [{id: m, targets: [{engine: b}]}]}"
    assert names(looked_at(folder, text)[0]) == ["resources.engines[0].url", "resources.models[0].targets[0].engine"]


def test_where_engines_may_still_join_an_unknown_one_is_no_fault(folder: Path) -> None:
    """They are found at the start, or named on its command line; without that, one that is not there is a fault."""
    assert looked_at(folder, "resources: {models: [{id: m, targets: [{engine: ollama}]}]}") == ([], [])
    text = ENGINE + "  models: [{id: m, targets: [{engine: b}]}]"
    assert looked_at(folder, text, more=True)[0] == []
    assert names(looked_at(folder, text)[0]) == ["resources.models[0].targets[0].engine"]


@pytest.mark.parametrize(
    ("tls", "setting", "said"),
    [
        ("{certificate: gone.pem, key: key.pem}", "certificate", "cannot read"),
        ("{certificate: chain.pem, key: gone.pem}", "key", "cannot read"),
        ("{certificate: chain.pem, key: other.pem}", "key", "is not the key of"),
        ("{certificate: secret, key: key.pem}", "certificate", "holds no certificate in PEM form"),
        ("{certificate: chain.pem, key: chain.pem}", "key", "no private key that can be used"),
        ("{certificate: chain.pem, key: locked.pem}", "key", "asks for a password"),
        ("{certificate: chain.pem, key: key.pem, client_ca: key.pem}", "client_ca", "no certificate in PEM form"),
        ("{certificate: ., key: key.pem}", "certificate", "cannot read"),
    ],
)
def test_certificates_are_looked_at(folder: Path, tls: str, setting: str, said: str) -> None:
    """Missing, not PEM, of another key, behind a password: told before a worker would fail on it."""
    command = [program("openssl"), "pkey", "-in", "key.pem", "-aes128", "-passout", "pass:x", "-out", "locked.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    problems, _ = looked_at(folder, f"server: {{tls: {tls}}}")
    assert names(problems) == [f"server.tls.{setting}"]
    assert said in problems[0].message and problems[0].remedy


@pytest.mark.parametrize(
    ("server", "setting"),
    [
        ("{control_host: 0.0.0.0}", "control_host"),
        ("{host: 'a b'}", "host"),
        ("{host: 300.1.1.1}", "host"),
        ("{port: 8401}", "control_port"),
        ("{port: 9, control_port: 9, host: '0.0.0.0'}", "control_port"),
    ],
)
def test_addresses_that_cannot_be_are_told(folder: Path, server: str, setting: str) -> None:
    """Control away from loopback, no address, one port for both."""
    assert names(looked_at(folder, f"server: {server}")[0]) == [f"server.{setting}"]


@pytest.mark.parametrize(
    "server", ["{port: 0, control_port: 0}", "{host: '::'}", "{host: localhost}", "{host: gw.example.org}"]
)
def test_addresses_that_can_be_are_taken(folder: Path, server: str) -> None:
    """Two free ports, every address, names."""
    assert looked_at(folder, f"server: {server}")[0] == []


def test_oversights_are_remarked(folder: Path) -> None:
    """Engines without models, an engine that no model uses, a secret that everybody can read."""
    (folder / "open").write_text(CANARY)
    (folder / "open").chmod(0o644)
    assert "no model that clients could ask for" in looked_at(folder, ENGINE)[1][0].message
    text = "resources:\n  engines: [{name: a, url: 'http://x', api_key: 'file:open'}, {name: b, url: 'http://x'}]\n"
    problems, notes = looked_at(folder, text + "  models: [{id: m, targets: [{engine: a}]}]\n")
    assert problems == []
    assert [note.name for note in notes] == ["resources.engines[0].api_key", "resources.engines[1].name"]
    assert "chmod 600" in notes[0].remedy and CANARY not in str(notes)


def test_no_message_shows_a_secret(folder: Path) -> None:
    """Wherever somebody wrote it: as a key, in a URL, in a setting of another type, in a file that is no single line."""
    (folder / "two").write_text(f"{CANARY}\n{CANARY}")
    places = (
        f"resources: {{engines: [{{name: a, url: 'http://x', api_key: {CANARY}}}]}}",
        "resources: {engines: [{name: a, url: 'http://x', api_key: 'file:two'}]}",
        f"resources: {{engines: [{{name: a, url: 'http://{CANARY}@x'}}]}}",
        f"resources: {{engines: [{{name: a, url: 'http://x', api_key: [{CANARY}]}}]}}",
        f"resources: {{engines: {CANARY}}}",
        f"server: {{port: {CANARY}, tls: {CANARY}}}",
    )
    for text in places:
        problems, notes = looked_at(folder, text)
        assert problems and CANARY not in f"{problems}{notes}", text


def test_a_secret_that_stands_in_no_file_is_told_and_not_waited_for(folder: Path) -> None:
    """A pipe that nobody writes to, a folder, a device without end, more than a secret can be, a name that no file has."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "long").write_text("x" * 70_000)
    for reference in ("file:pipe", "file:folder", "file:/dev/zero", "file:long", r"file:a\0b"):
        problems, _ = looked_at(
            folder, f'resources: {{engines: [{{name: a, url: "http://x", api_key: "{reference}"}}]}}'
        )
        assert names(problems) == ["resources.engines[0].api_key"], reference


def test_certificates_that_stand_in_no_file_are_told_and_not_waited_for(folder: Path) -> None:
    """A pipe that nobody writes to, a device without end."""
    os.mkfifo(folder / "tls.pipe")
    for path in ("tls.pipe", "/dev/zero"):
        problems, _ = looked_at(folder, f"server: {{tls: {{certificate: {path}, key: {path}, client_ca: {path}}}}}")
        assert all("no regular file" in problem.message for problem in problems)
        assert names(problems) == ["server.tls.certificate", "server.tls.key", "server.tls.client_ca"]


def test_a_variable_of_thousands_of_figures_is_a_fault(folder: Path) -> None:
    """Python itself refuses to read such a number."""
    examined = examine(None, {"BEFFROI_SERVER__PORT": "9" * 5000})
    assert names(examined.problems) == ["server.port"]
