# SPDX-License-Identifier: Apache-2.0
"""Prices have dates, classes are priced apart, and a bound is a bound."""

from hypothesis import example, given
from hypothesis import strategies as st

from beffroi.core.money import parse_nano
from beffroi.core.price import FREE, Price, Tokens, bound_of, cost_of, price_at

SOURCE = Price("2025-06", input=parse_nano("0.9"), output=parse_nano("4"), reasoning=parse_nano("21"))


def test_the_source_s_worked_example_costs_0_0008054_euro() -> None:
    """A French prompt of 26 characters is 6 tokens (one per four characters, whole ones); 200 come back."""
    prompt = "Bonjour, comment vas-tu  ?"
    assert len(prompt) == 26
    cost = cost_of(Tokens(input=len(prompt) // 4, output=200), SOURCE)
    assert cost.total == 805_400
    assert (cost.input, cost.output) == (5_400, 800_000)


def test_a_million_tokens_of_each_class_cost_the_listed_price() -> None:
    """0.9, 4 and 21 €."""
    million = 1_000_000
    cost = cost_of(Tokens(million, 0, million, million), SOURCE)
    assert (cost.input, cost.output, cost.reasoning) == (900_000_000, 4_000_000_000, 21_000_000_000)


def test_cached_input_costs_as_much_as_input_unless_it_is_listed() -> None:
    """A listed zero is a price too."""
    assert cost_of(Tokens(cached=1_000_000), SOURCE).cached == SOURCE.input
    listed = Price("x", input=900, cached=0)
    assert cost_of(Tokens(cached=1_000_000), listed).cached == 0


def test_each_class_is_rounded_once_and_the_total_is_their_sum() -> None:
    """Two halves of a nano-unit in two classes make two, not one."""
    price = Price("x", input=500_000, output=500_000)
    cost = cost_of(Tokens(input=1, output=1), price)
    assert (cost.input, cost.output, cost.total) == (1, 1, 2)


def test_the_price_in_force_is_the_latest_whose_date_has_come() -> None:
    """Whatever the order of the list; before the first, nothing is charged."""
    old, new, future = Price("a", 100), Price("b", 200), Price("c", 300)
    prices = (future, old, new)
    assert price_at(prices, 99) is FREE
    assert price_at(prices, 100) is old
    assert price_at(prices, 299) is new
    assert price_at(prices, 300) is future


def test_of_two_prices_with_one_date_the_later_in_the_list_holds() -> None:
    """So that a correction can be appended."""
    first, second = Price("a", 100), Price("b", 100)
    assert price_at((first, second), 100) is second


counts = st.integers(0, 10**9)
nano = st.integers(0, 10**12) | st.integers(0, 2_000_000)


@given(st.tuples(counts, counts, counts, counts), st.tuples(nano, nano, nano, st.none() | nano))
@example((1, 1, 1, 1), (500_000, 500_000, 500_000, None))
@example((1, 1, 1, 1), (500_000, 500_000, 500_000, 500_000))
def test_no_split_of_the_tokens_costs_more_than_the_bound(
    split: tuple[int, int, int, int], each: tuple[int, int, int, int | None]
) -> None:
    """Whatever part turns out cached or reasoned: a hard budget relies on it."""
    price = Price("x", input=each[0], output=each[1], reasoning=each[2], cached=each[3])
    tokens = Tokens(*split)
    bound = bound_of(tokens.input + tokens.cached, tokens.completion, price)
    assert cost_of(tokens, price).total <= bound
    fewer = Tokens(tokens.input // 2, tokens.cached // 3, tokens.output // 2, tokens.reasoning // 3)
    assert cost_of(fewer, price).total <= bound


@given(counts, counts)
def test_the_bound_is_tight(input_tokens: int, output_tokens: int) -> None:
    """It holds back at most four nano-units more than the dearest split costs."""
    dearest = cost_of(Tokens(input=input_tokens, reasoning=output_tokens), SOURCE).total
    assert bound_of(input_tokens, output_tokens, SOURCE) - dearest <= 4


def test_nothing_is_held_for_a_free_model() -> None:
    """Zero is zero."""
    assert bound_of(1000, 1000, FREE) == 0
