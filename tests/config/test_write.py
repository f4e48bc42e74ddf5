# SPDX-License-Identifier: Apache-2.0
"""What Beffroi writes as a configuration reads back as the same data, by its own reader and by others."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from beffroi.config import yaml_text
from beffroi.config.write import to_yaml

SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(-1e6, 1e6).map(lambda value: round(value, 6)),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["off", "No", "y", "1e3", "1e999", "010", "1:30", "~", "", "2026-01-01", ".inf", "a: b", "a #b", "-", "<<"]
    ),
)
NAME = st.sampled_from(["id", "name", "url", "targets", "max_body"])
GROUP = st.dictionaries(NAME, SCALAR | st.lists(SCALAR, max_size=3), min_size=1, max_size=3)
DOCUMENT = st.dictionaries(
    st.sampled_from(["server", "resources"]),
    st.dictionaries(NAME, SCALAR | GROUP | st.lists(GROUP, min_size=1, max_size=3), max_size=3),
    max_size=2,
)


@given(DOCUMENT)
def test_what_is_written_reads_back_as_it_was(document: dict[str, Any]) -> None:
    """Names that look like numbers, switches or comments, empty text, any sign; groups without content are left out."""
    text = to_yaml(document, "Written by a test.")
    kept = {name: group for name, group in document.items() if group}
    assert (yaml_text.read(text, "b.yaml", [])[0] or {}) == kept


@pytest.mark.parametrize(
    "name", ["off", "no", "Yes", "y", "1e3", "010", "1:30", "null", "2026-01-01", "org/M-8B:x", "chat.v1"]
)
def test_names_are_text_for_programs_that_read_the_older_yaml_too(name: str) -> None:
    """Ansible and its like take `off` for false."""
    text = to_yaml({"resources": {"models": [{"id": name, "aliases": [name]}]}}, "")
    assert yaml.safe_load(text) == json.loads(json.dumps({"resources": {"models": [{"id": name, "aliases": [name]}]}}))
