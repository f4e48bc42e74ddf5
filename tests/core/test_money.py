# SPDX-License-Identifier: Apache-2.0
"""Money is exact: integers of nano-units, rounded half up once."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beffroi.core.money import MOST, NANO, amount, parse_nano, show, to_cents, to_decimal, upper_bound

tokens = st.integers(0, 10**12)
prices = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("tokens", "price", "nano"),
    [
        (1_000_000, parse_nano("0.9"), 900_000_000),
        (1_000_000, parse_nano("4"), 4_000_000_000),
        (1_000_000, parse_nano("21"), 21_000_000_000),
        (6, parse_nano("0.9"), 5_400),
        (200, parse_nano("4"), 800_000),
    ],
)
def test_the_source_s_prices_per_million_give_its_amounts(tokens: int, price: int, nano: int) -> None:
    """0.9, 4 and 21 € per million tokens."""
    assert amount(tokens, price) == nano


@pytest.mark.parametrize(
    ("tokens", "price", "nano"), [(1, 499_999, 0), (1, 500_000, 1), (3, 500_000, 2), (1, 1_499_999, 1)]
)
def test_half_a_nano_unit_rounds_up(tokens: int, price: int, nano: int) -> None:
    """Half up, not to even."""
    assert amount(tokens, price) == nano


@given(tokens, prices)
def test_an_amount_is_within_half_a_nano_unit_of_the_exact_product(tokens: int, price: int) -> None:
    """One rounding, never two."""
    exact = Fraction(tokens * price, 1_000_000)
    assert -Fraction(1, 2) <= exact - amount(tokens, price) < Fraction(1, 2)
    assert upper_bound(tokens, price) - 1 < exact <= upper_bound(tokens, price)


@pytest.mark.parametrize(
    ("text", "nano"), [("0.9", 900_000_000), (4, 4 * NANO), ("21.00", 21 * NANO), (0.1, 10**8), ("1e-9", 1)]
)
def test_amounts_are_read_as_people_write_them(text: str | float, nano: int) -> None:
    """Strings, integers and the floats that YAML makes."""
    assert parse_nano(text) == nano


@pytest.mark.parametrize(
    "text",
    [
        "",
        "free",
        "-1",
        "nan",
        "inf",
        "1e-10",
        "0.0000000001",
        "1.0000000000000000000000000000000000000001",
        "1e999999999",
        "1e13",
        "1,5",
    ],
)
def test_what_is_no_amount_is_refused_with_its_text(text: str) -> None:
    """Nothing is rounded in silence, and no exponent makes a number of a million digits."""
    with pytest.raises(ValueError, match=r"amount of money|finer|more than") as caught:
        parse_nano(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, MOST * NANO))
def test_reading_gives_back_what_was_shown(nano: int) -> None:
    """`show` and `parse_nano` are inverse."""
    assert parse_nano(show(nano).removesuffix(" EUR")) == nano
    assert to_decimal(nano) * NANO == nano


def test_the_worked_example_is_shown_in_full() -> None:
    """0.0008054 €, no exponent."""
    assert show(805_400) == "0.0008054 EUR"
    assert to_decimal(805_400) == Decimal("0.0008054")
    assert show(0) == "0 EUR"
    assert show(100 * NANO) == "100 EUR"


@pytest.mark.parametrize(("nano", "cents"), [(4_999_999, 0), (5_000_000, 1), (15_000_000, 2), (10**18, 10**11)])
def test_an_invoice_line_rounds_half_up_to_the_cent(nano: int, cents: int) -> None:
    """The exact sum is rounded once."""
    assert to_cents(nano) == cents
