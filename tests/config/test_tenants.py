# SPDX-License-Identifier: Apache-2.0
"""Files of tenants: every fault is told at once with its line and its remedy, and what is written reads back the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beffroi.config import tenants
from beffroi.config.json_schema import tenants_schema
from beffroi.config.load import Invalid

GOOD = """\
tiers:
  - name: standard
    title: Standard
    limits: {output_tokens_per_hour: 150000, monthly_cap: 1000}
    credit: 200
organisations:
  - id: acme
    name: Acme
    projects: [{id: chat, name: Chat}]
    members: [{email: ada@acme.example, role: admin}]
    service_accounts: [{name: ci, role: developer, project: chat}]
    systems: [{name: helpdesk, purpose: Answers, owner: ada@acme.example, models: [small]}]
    keys:
      - name: intranet
        project: chat
        models: [small]
        addresses: [10.0.0.0/8]
        limits: {requests_per_minute: 60, hard_budget: "10.50"}
        expires: 2027-01-31
        secret_to: file:intranet.key
    quotas:
      - {project: chat, tier: standard}
      - {model: small, limits: {concurrency: 4}}
    webhooks: [{url: "https://acme.example/hook", events: ["key:*"]}]
"""
BAD = """\
organisations:
  - id: Acme Corp
    projcts: []
    members:
      - {email: ada, role: boss}
    keys:
      - name: a
        limits: {requests_per_minute: 0, hard_budget: -1}
        expires: tomorrow
        secret_to: /tmp/x
      - name: a
        addresses: [10.0.0.7/8]
        models: []
    quotas:
      - {}
      - {tier: x, limits: {concurrency: 2}}
      - {model: m, terms: [{tier: x}, {tier: y}]}
    webhooks: [{url: ftp://x.example}]
"""
TOLD = {
    2: ["id: `Acme Corp` is no id"],
    3: ["did you mean `projects`?"],
    5: ["`ada` is no mail address", "must be `owner` or"],
    8: ["must be a whole number", "-1 is not an amount of money"],
    9: ["`tomorrow` is no day or moment"],
    10: ["write `file:PATH`"],
    11: ["there are two keys `a`"],
    12: ["write 10.0.0.0/8"],
    13: ["the key could do nothing"],
    15: ["limits nothing"],
    16: ["for the same requests already", "has `tier` and `limits`"],
    17: ["begins when another one does"],
    18: ["is no address"],
}


def test_every_fault_is_told_at_once_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(BAD)
    problems = tenants.read(file).problems
    assert [problem.spot.line for problem in problems] == sorted(problem.spot.line for problem in problems)
    assert all(problem.remedy and problem.spot.name == str(file) for problem in problems)
    for line, sentences in TOLD.items():
        said = " | ".join(str(problem) for problem in problems if problem.spot.line == line)
        assert all(sentence in said for sentence in sentences), (line, said)
    assert {problem.spot.line for problem in problems} == TOLD.keys()


def test_a_file_that_is_not_there_is_a_fault_too(tmp_path: Path) -> None:
    told = tenants.read(tmp_path / "none.yaml")
    assert "cannot be read" in str(told.problems[0])
    with pytest.raises(Invalid):
        told.sound()


def test_yaml_toml_and_json_say_the_same(tmp_path: Path) -> None:
    found = tenants.parse(GOOD, "t.yaml").sound()
    toml = '[[organisations]]\nid = "acme"\n[[organisations.keys]]\nname = "a"\nlimits = {concurrency = 2}\n'
    assert tenants.parse(toml, "t.toml", toml=True).sound().organisations[0].keys[0].limits.concurrency == 2
    as_json = json.dumps(tenants.as_plain(found))
    assert tenants.parse(as_json, "t.json").sound() == found
    assert tenants.take(json.loads(as_json)).sound() == found


def test_what_is_written_reads_back_as_the_same() -> None:
    found = tenants.parse(GOOD, "t.yaml").sound()
    text = tenants.as_yaml(tenants.as_plain(found))
    assert tenants.parse(text, "t.yaml").sound() == found
    assert text.count("    keys:\n      - name: intranet\n") == 1, text


def test_the_schema_for_editors_takes_what_the_reader_takes() -> None:
    validator = jsonschema.Draft202012Validator(tenants_schema())
    validator.validate(tenants.as_plain(tenants.parse(GOOD, "t.yaml").sound()))
    assert not validator.is_valid({"organisations": [{"id": "a", "projcts": []}]})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["organisations", "tiers", "id", "name", "keys", "limits", "quotas", "terms", "since", "models", "url", "events",
         "webhooks", "members", "email", "role", "expires", "addresses", "hard_budget", "x"]), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(_json)
def test_no_document_however_wrong_makes_the_reader_fail(value: Any) -> None:
    """It tells faults or finds none; it never raises."""
    for problem in tenants.take(value).problems:
        assert problem.message
