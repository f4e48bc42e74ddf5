# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema for editors says what the reader says, as far as form goes; the example names every setting."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from beffroi.config import yaml_text
from beffroi.config.examine import examine
from beffroi.config.example import example
from beffroi.config.json_schema import json_schema
from beffroi.config.load import load
from beffroi.config.reference import reference
from beffroi.config.schema import Document
from tests.config.mutations import mutations
from tests.config.test_mutations import COUNT, SEED
from tests.config.test_whole_file import FILE, places
from tests.config.valid import ENVIRON, YAML
from tests.harness import ROOT

SCHEMA = jsonschema.Draft202012Validator(json_schema())
EXAMPLE = ROOT / "docs" / "reference" / "beffroi.example.yaml"


def plain(text: str) -> object:
    """A document as an editor reads it: every scalar as YAML 1.2 has it."""
    return yaml_text.read(text, "b.yaml", [])[0]


def uncommented(text: str) -> str:
    """The example with every setting in force: `#name:` without its sign, sentences left alone."""
    return re.sub(r"^(\s*(?:- )?)#(?=\w)", r"\1", text, flags=re.MULTILINE)


def test_the_schema_is_one() -> None:
    """Of the dialect that it names."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == SCHEMA.META_SCHEMA["$id"]


@pytest.mark.parametrize("text", [YAML, json.dumps(FILE), "", example(), uncommented(example())])
def test_valid_files_are_valid(text: str) -> None:
    """Small, whole, empty, the example as it stands and with everything taken in."""
    SCHEMA.validate(plain(text) or {})


def test_an_editor_sees_every_fault_of_form_that_the_reader_sees() -> None:
    """Unknown, missing, of another type, out of range; what is left to the reader are faults of sense."""
    seen = 0
    for mutation in mutations(COUNT, SEED):
        if mutation.kind in {"typo", "unknown", "missing", "nesting"} and not mutation.toml:
            assert not SCHEMA.is_valid(plain(mutation.content.decode())), mutation
            seen += 1
    assert seen > 25
    for name, value in (("port", 70000), ("port", "8400"), ("workers", 0), ("host", 5), ("client", 1)):
        assert not SCHEMA.is_valid({"server": {name: value}}), name
    for guard in ({"hiden_text": "off"}, {"hidden_text": "maybe"}):
        assert not SCHEMA.is_valid({"gateway": {"guard": guard}})
    engine = {"name": "a", "url": "http://x"}
    assert SCHEMA.is_valid({"resources": {"engines": [{**engine, "api_key": "env:K"}]}})
    assert not SCHEMA.is_valid({"resources": {"engines": [{**engine, "api_key": "sk-123"}]}})


def test_the_example_is_served_as_it_stands_and_changes_nothing(folder: Path) -> None:
    """Its process and gateway settings are the defaults."""
    examined = examine(EXAMPLE, {})
    assert examined.problems == examined.notes == []
    document = examined.source.document
    assert (document.server, document.gateway) == (Document().server, Document().gateway)


def test_the_example_names_every_setting(tmp_path: Path) -> None:
    """Those that are commented out too: with the signs taken away each is a setting, and the file is still read."""
    path = tmp_path / "beffroi.yaml"
    path.write_text(uncommented(EXAMPLE.read_text("utf-8")))
    load(path, {})
    assert places(plain(path.read_text())) - {"gateway.guard.hidden_text", "gateway.guard.template_token"} == {
        setting.name for setting in reference()
    } - {"gateway.guard"}
    examined = examine(path, ENVIRON | {"GPU1_KEY": "k"})
    assert {problem.name for problem in examined.problems} <= {
        "server.tls.certificate",
        "server.tls.key",
        "server.tls.client_ca",
        "resources.engines[0].ca_file",
        "server.mail.ca_file",
        "resources.secret_stores[0].ca_file",
    }


def test_each_setting_of_the_example_has_its_sentence_above_it() -> None:
    """And its variable."""
    text = EXAMPLE.read_text("utf-8")
    flat = " ".join(line.strip().lstrip("# ") for line in text.splitlines())
    for setting in reference():
        assert setting.sentence in flat, setting.name
        assert f"${setting.variable}" in text
