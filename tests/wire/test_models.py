# SPDX-License-Identifier: Apache-2.0
"""The models list, as OpenAI clients and clients of the reference service read it."""

import json

from beffroi.core.snapshot import ModelSpec, Target
from beffroi.wire.openai.models import listing, single

SPEC = ModelSpec(
    "words", (Target("e", "org/words-7b"),), aliases=("w", "default"), owned_by="us", created=7, max_model_len=8192
)


def test_the_list_is_a_list_of_model_objects() -> None:
    """In the order of the configuration; an empty one is a list too."""
    page = json.loads(listing([SPEC, ModelSpec("other", ())]))
    assert page["object"] == "list"
    assert [row["id"] for row in page["data"]] == ["words", "other"]
    assert json.loads(listing([])) == {"object": "list", "data": []}


def test_a_row_has_what_both_kinds_of_clients_read() -> None:
    """OpenAI's four fields, and root, parent, aliases, max_model_len and permission of the reference service."""
    row = json.loads(single(SPEC))
    assert row == json.loads(listing([SPEC]))["data"][0]
    assert (row["id"], row["object"], row["created"], row["owned_by"]) == ("words", "model", 7, "us")
    assert (row["root"], row["parent"], row["aliases"], row["max_model_len"]) == (
        "org/words-7b",
        None,
        ["w", "default"],
        8192,
    )
    (permission,) = row["permission"]
    assert (permission["object"], permission["allow_sampling"], permission["allow_fine_tuning"]) == (
        "model_permission",
        True,
        False,
    )


def test_a_model_without_engine_is_its_own_root() -> None:
    """And an unknown context is null, not zero."""
    row = json.loads(single(ModelSpec("é/x", ())))
    assert (row["root"], row["max_model_len"]) == ("é/x", None)
