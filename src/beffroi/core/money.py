# SPDX-License-Identifier: Apache-2.0
"""Money as integers: nano-euro (1 € = 1,000,000,000), an ISO currency beside it; never a float.

In: token counts and prices. Out: amounts, rounded half up once per request and token class (decision D22).
"""

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow

NANO = 1_000_000_000
MILLION = 1_000_000
MOST = 1_000_000_000_000  # whole units; more is a slip of the pen, and sums must stay in 64 bits for long
_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])


def amount(tokens: int, nano_per_million: int) -> int:
    """Nano-euro for `tokens` at a price in nano-euro per million tokens, rounded half up."""
    return (tokens * nano_per_million + MILLION // 2) // MILLION


def upper_bound(tokens: int, nano_per_million: int) -> int:
    """As `amount`, rounded up: what a reservation must hold so that no settlement exceeds it."""
    return -(-tokens * nano_per_million // MILLION)


def parse_nano(text: str | float | Decimal) -> int:
    """Nano-units of an amount written by a person (`"0.9"`, `4`, `21.00`).

    Raises:
        ValueError: not a number, negative, finer than a nano-unit, or more than a million million units.
    """
    try:
        value = Decimal(str(text))
    except ArithmeticError:
        raise ValueError(f"{text!r} is not an amount of money; write a number such as 0.9") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} is not an amount of money; write a number such as 0.9")
    if value > MOST:
        raise ValueError(f"{text!r} is more than {MOST} whole units")
    try:
        nano = _EXACT.multiply(value, NANO)
    except ArithmeticError:
        nano = Decimal("NaN")  # more digits than any amount of whole nano-units has
    if nano != nano.to_integral_value():
        raise ValueError(f"{text!r} is finer than a nano-unit (nine decimals)")
    return int(nano)


def to_decimal(nano: int) -> Decimal:
    """The amount in whole units, exact: 805_400 → Decimal('0.0008054')."""
    return (Decimal(nano) / NANO).normalize() if nano else Decimal(0)


def to_cents(nano: int) -> int:
    """An invoice line: the exact sum rounded half up to the cent."""
    return int((Decimal(nano) / (NANO // 100)).to_integral_value(ROUND_HALF_UP))


def show(nano: int, currency: str = "EUR") -> str:
    """For people: `0.0008054 EUR`."""
    return f"{to_decimal(nano):f} {currency}"
