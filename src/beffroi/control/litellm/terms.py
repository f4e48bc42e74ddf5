# SPDX-License-Identifier: Apache-2.0
"""Spans, periods, amounts and limits: as LiteLLM's scripts write them, and as Beffroi keeps them.

In: `30d`, `1mo`, dollars as floats. Out: seconds, periods, limits; and back, for the answers.
"""

import re
from datetime import UTC, datetime
from typing import Any

from beffroi.core.errors import BadRequest
from beffroi.core.money import to_decimal

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "mo": 30 * 86_400}
_PERIODS = {"day": ("1d", "24h", "daily"), "month": ("30d", "31d", "1mo", "monthly")}
_SPAN = re.compile(r"(\d{1,9})(s|mo|m|h|d|w)")
NAMES = {
    "tpm_limit": "tokens_per_minute",
    "rpm_limit": "requests_per_minute",
    "max_parallel_requests": "concurrency",
}


def span(value: Any, name: str) -> int:
    """Seconds of `30d`.

    Raises:
        BadRequest: it is no span.
    """
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise BadRequest(f"`{name}` is a span of time such as 30s, 12h, 30d or 1mo", param=name)
    return int(found[1]) * _UNITS[found[2]]


def period(value: Any) -> str:
    """The period of a budget.

    Raises:
        BadRequest: budgets have no such period here.
    """
    if value is None:
        return "total"
    for name, words in _PERIODS.items():
        if value in words:
            return name
    raise BadRequest("`budget_duration` can be 1d, 30d, 1mo or null: budgets are per day, month, or total", param="budget_duration")  # fmt: skip


def duration(name: str) -> str | None:
    """The period as LiteLLM would write it."""
    return {"day": "1d", "month": "1mo"}.get(name)


def limits(kept: dict[str, Any]) -> dict[str, Any]:
    """Limits of those fields, by Beffroi's names; None for one that is to be taken away.

    Raises:
        BadRequest: one is no number above zero.
    """
    found: dict[str, Any] = {}
    for name, ours in NAMES.items():
        if name in kept:
            value = kept[name]
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise BadRequest(f"`{name}` is a whole number above zero, or null", param=name)
            found[ours] = value
    if "max_budget" in kept:
        value = kept["max_budget"]
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value < 0):
            raise BadRequest("`max_budget` is an amount of money, or null", param="max_budget")
        found["soft_budget"] = None if value is None else _amount(value)
    if "budget_duration" in kept:
        found["budget_period"] = period(kept["budget_duration"])
    elif found.get("soft_budget") is not None:
        found["budget_period"] = "total"  # LiteLLM never resets a budget without a duration
    return found


def _amount(value: float) -> str:
    """Nine decimals at most, as floats of cents have noise behind them."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def shown(stored: dict[str, Any]) -> dict[str, Any]:
    """Limits as they are stored (nano-units), by LiteLLM's names."""
    budget = next((stored[name] for name in ("soft_budget", "hard_budget") if stored.get(name) is not None), None)
    return {
        **{name: stored.get(ours) for name, ours in NAMES.items()},
        "max_budget": None if budget is None else money(budget),
        "budget_duration": None if budget is None else duration(stored.get("budget_period", "month")),
    }


def money(nano: int) -> float:
    """An amount as LiteLLM's answers have it."""
    return float(to_decimal(nano))


def moment(seconds: int | None) -> str | None:
    """Unix seconds as LiteLLM's answers have them."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
