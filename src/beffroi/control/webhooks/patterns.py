# SPDX-License-Identifier: Apache-2.0
"""Which events a webhook wants: `*`, or an action of the grammar `door:subject:verb` with `*` for any of its parts.

In: patterns, actions. Out: whether one fits. `key:rotate` is short for `*:key:rotate`: through whichever door.
"""

from collections.abc import Iterable


def fits(pattern: str, action: str) -> bool:
    """Whether an action is one that the pattern means."""
    if pattern == "*":
        return True
    wanted, found = pattern.split(":"), action.split(":")
    if len(wanted) == len(found) - 1:
        wanted.insert(0, "*")
    return len(wanted) == len(found) and all(each in ("*", part) for each, part in zip(wanted, found, strict=True))


def fit(patterns: Iterable[str], action: str) -> bool:
    """Whether one of them means it."""
    return any(fits(pattern, action) for pattern in patterns)
