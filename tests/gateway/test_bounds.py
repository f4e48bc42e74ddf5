# SPDX-License-Identifier: Apache-2.0
"""The bound that a hard budget holds: the formula of docs/reference/limits.md, and that no answer passes it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beffroi.core.price import Price, bound_of
from beffroi.core.snapshot import Limits
from beffroi.gateway.quota import admit
from tests.client import chat
from tests.gateway.rig import PUBLIC, Rig, plain
from tests.harness import ROOT

HARD = Limits(hard_budget=10**17)
TEMPLATE, TOOLS, MEDIA = 512, 1024, 16384
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/bell.png"}}
TOOL = [{"type": "function", "function": {"name": "bell"}}]
PRICE = Price("p", input=900_000_000, cached=950_000_000, output=4_000_000_000, reasoning=21_000_000_000)


def size(body: dict[str, Any]) -> int:
    """Bytes of the body as the test client sends it."""
    return len(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("path", "body", "spec", "prompt", "output"),
    [
        ("chat/completions", chat("hi", max_tokens=100), {}, lambda n: n + TEMPLATE, 100),
        ("chat/completions", chat("hi", max_tokens=100, n=4), {}, lambda n: n + TEMPLATE, 400),
        ("chat/completions", chat("hi"), {"default_max_tokens": 70}, lambda n: n + TEMPLATE, 70),
        ("chat/completions", chat("hi", tools=TOOL), {}, lambda n: n + TEMPLATE + TOOLS, 1024),
        ("chat/completions", chat("hi") | {"messages": [{"role": "user", "content": [IMAGE, IMAGE]}]}, {"max_model_len": None}, lambda n: n + TEMPLATE + 2 * MEDIA, 1024),
        ("chat/completions", chat("x" * 9000), {"max_model_len": 4096}, lambda n: 4096, 1024),
        ("chat/completions", chat("hi", max_tokens=9000), {"max_model_len": 4096}, lambda n: n + TEMPLATE, 4096),
        ("chat/completions", chat("hi", max_tokens=9000), {"max_output": 300}, lambda n: n + TEMPLATE, 300),
        ("completions", {"prompt": ["x" * 3000] * 3, "max_tokens": 10}, {"max_model_len": 2048}, lambda n: 3 * 2048, 30),
        ("completions", {"prompt": "hi", "max_tokens": 10, "n": 2, "best_of": 5}, {}, lambda n: n + TEMPLATE, 50),
        ("completions", {"prompt": [[1, 2, 3], [4]], "max_tokens": 10}, {}, lambda n: n + TEMPLATE, 20),
        ("embeddings", {"input": ["x" * 3000] * 5}, {"max_model_len": 2048}, lambda n: 5 * 2048, 0),
        ("embeddings", {"input": [1, 2, 3]}, {}, lambda n: n + TEMPLATE, 0),
    ],
)  # fmt: skip
def test_the_bound_is_what_the_page_says(
    path: str, body: dict[str, Any], spec: dict[str, Any], prompt: Any, output: int
) -> None:
    """Input at the dearer of its two prices, output at its dearest class, both rounded up, and two nano-units."""
    body = body | {"model": PUBLIC}
    rig = Rig(limits=HARD, prices=(PRICE,), **spec)
    rig.ask(body, path=f"/v1/{path}")
    held = -(-prompt(size(body)) * 950_000_000 // 1_000_000) + -(-output * 21_000_000_000 // 1_000_000) + 2
    assert rig.counters.asks[-1].bound == held


def test_without_a_hard_budget_nothing_is_bound_and_without_a_price_nothing_is_held() -> None:
    """Soft budgets and rates go by what is likely."""
    rig = Rig(limits=Limits(soft_budget=10**9), prices=(PRICE,))
    rig.ask(chat("hi", model=PUBLIC, max_tokens=100))
    ask = rig.counters.asks[-1]
    assert ask.bound == 0 and ask.estimate > 0 and ask.output == 100
    rig = Rig(limits=HARD, prices=())
    rig.ask(chat("hi", model=PUBLIC))
    assert rig.counters.asks[-1].bound == 0


def test_a_price_of_tomorrow_is_not_held_and_not_charged_today() -> None:
    """Nor is one alone in the list."""
    tomorrow = Price("t", effective=2**33, input=10**9, output=10**9)
    rig = Rig(limits=HARD, prices=(tomorrow,))
    run = rig.ask(chat("hi", model=PUBLIC))
    assert rig.counters.asks[-1].bound == 0
    run.feed(
        plain(
            {
                "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 9},
            }
        )
    )
    assert (run.settlement.cost.total, run.settlement.price_version) == (0, "free")


nano = st.integers(0, 3_000_000) | st.integers(0, 10**11)


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(nano, nano, nano, st.none() | nano),
    st.integers(1, 500), st.integers(1, 4), st.integers(0, 3000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
def test_no_answer_within_its_limits_costs_more_than_its_bound(
    prices: tuple[int, int, int, int | None],
    most: int,
    copies: int,
    length: int,
    a: float,
    b: float,
    c: float,
    d: float,
) -> None:
    """Whatever the prices and however the tokens fall into their classes."""
    price = Price("p", input=prices[0], output=prices[1], reasoning=prices[2], cached=prices[3])
    rig = Rig(limits=HARD, prices=(price,))
    body = chat("x" * length, model=PUBLIC, max_tokens=most, n=copies)
    run = rig.ask(body)
    prompt, completion = int(a * (size(body) + TEMPLATE)), int(b * most * copies)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": int(c * prompt)},
        "completion_tokens_details": {"reasoning_tokens": int(d * completion)},
    }
    run.feed(plain({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}))
    assert run.settlement.tokens.input + run.settlement.tokens.cached == prompt
    assert run.settlement.cost.total <= rig.counters.asks[-1].bound
    assert rig.counters.used[-1].cost == run.settlement.cost.total
    assert rig.counters.used[-1].tokens == prompt + completion


def test_the_page_on_limits_says_these_numbers() -> None:
    """The worked example and the constants are those of the code."""
    page = (ROOT / "docs/reference/limits.md").read_text("utf-8")
    for number in (admit.TEMPLATE_TOKENS, admit.TOOL_TOKENS, admit.MEDIA_TOKENS):
        assert f"{number:,}" in page or str(number) in page
    source = Price("2025-06", input=900_000_000, output=4_000_000_000, reasoning=21_000_000_000)
    held = bound_of(400 + admit.TEMPLATE_TOKENS, 2 * 500, source)
    assert f"{held / 1e9:.9f}" in page
    assert 10**9 // held == 45
    assert f"{(held - 90 * 900 - 300 * 4000) / 1e9:.9f}" in page
