# SPDX-License-Identifier: Apache-2.0
"""What a LiteLLM script says is kept, told or refused by name: nothing is dropped in silence."""

import re
from typing import Any

import pytest

from beffroi.control.litellm import terms
from beffroi.control.litellm.fields import VERBS as FIELDS
from beffroi.control.litellm.fields import Fate, sort
from beffroi.control.litellm.verbs import VERBS
from beffroi.core.errors import BadRequest


def test_every_verb_has_its_fields_and_every_table_its_verb() -> None:
    assert {verb.name or f"{verb.method} {verb.path}" for verb in VERBS} == set(FIELDS)
    assert all(
        field.becomes and not field.becomes.endswith(".") for table in FIELDS.values() for field in table.values()
    )


@pytest.mark.parametrize("verb", sorted(FIELDS))
def test_a_field_is_kept_told_or_refused_with_its_name(verb: str) -> None:
    for name, field in FIELDS[verb].items():
        if field.fate is Fate.REFUSED:
            with pytest.raises(BadRequest, match=re.escape(name)) as refusal:
                sort(verb, {name: "something"})
            assert refusal.value.param == name
            assert sort(verb, {name: None}) == ({}, []) and sort(verb, {name: []}) == ({}, [])
        else:
            kept, told = sort(verb, {name: "something"})
            assert (name in kept) is (field.fate is Fate.KEPT) and (len(told) == 1) is (field.fate is Fate.TOLD)
            assert all(name in sentence for sentence in told)


def test_a_field_that_nobody_knows_is_refused_by_name_unless_it_says_nothing() -> None:
    with pytest.raises(BadRequest, match="`colour`"):
        sort("POST /key/generate", {"colour": "blue"})
    assert sort("POST /key/generate", {"colour": None}) == ({}, [])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("12h", 43_200), ("30d", 2_592_000), ("1mo", 2_592_000), ("1w", 604_800)]
)
def test_spans_are_read_as_litellm_writes_them(text: str, seconds: int) -> None:
    assert terms.span(text, "duration") == seconds


@pytest.mark.parametrize("value", ["", "30", "0d", "30x", None, 30, "-1d", "9999999999d"])
def test_what_is_no_span_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest):
        terms.span(value, "duration")


def test_budgets_have_a_period_of_their_own_or_none() -> None:
    assert terms.limits({"max_budget": 10.5, "budget_duration": "30d"}) == {
        "soft_budget": "10.5",
        "budget_period": "month",
    }
    assert terms.limits({"max_budget": 0.1}) == {"soft_budget": "0.1", "budget_period": "total"}
    assert terms.limits({"max_budget": None, "rpm_limit": None}) == {"soft_budget": None, "requests_per_minute": None}
    for value in ("7d", "1h", 30):
        with pytest.raises(BadRequest, match="per day, month, or total"):
            terms.limits({"max_budget": 1, "budget_duration": value})


@pytest.mark.parametrize(
    "said", [{"rpm_limit": 0.5}, {"tpm_limit": True}, {"max_budget": "ten"}, {"max_parallel_requests": -1}]
)
def test_limits_that_are_none_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        terms.limits(said)
    assert refusal.value.param in said
