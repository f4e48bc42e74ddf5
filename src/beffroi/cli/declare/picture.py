# SPDX-License-Identifier: Apache-2.0
"""What a plan looks like: what is added, what changes, what is taken away, so that one sees at once whether to go on.

In: a plan as the admin API gives it. Out: lines. `+` is new, `~` changes, `-` goes; a field that changes shows both values.
"""

from collections.abc import Iterator
from typing import Any

from beffroi.cli.show import BAD, DIM, GOOD, STRONG, WARN, iso, moment, paint, safe

_SIGNS = {"create": ("+", GOOD), "update": ("~", WARN), "delete": ("-", BAD)}
_MOST = 12  # of the parts of a list that are shown
_DONE = {"create": "added", "update": "changed", "delete": "removed"}
_TO_DO = {"create": "to add", "update": "to change", "delete": "to remove"}


def plan(changes: list[dict[str, Any]]) -> Iterator[str]:
    """The changes, a line each, and below it a line for each of its fields."""
    for change in changes:
        sign, style = _SIGNS[change["act"]]
        name = safe(str(change["name"]))
        note = paint("  (was kept by hand, from now on by apply)", DIM) if change["adopted"] else ""
        yield f"  {paint(sign, style)} {paint(change['kind'], STRONG)} {name}{note}"
        wide = max((len(field["name"]) for field in change["fields"]), default=0)
        for field in change["fields"]:
            after = value(field["name"], field["after"])
            shown = after if change["act"] == "create" else f"{value(field['name'], field['before'])} → {after}"
            yield f"      {paint(field['name'].ljust(wide), DIM)}  {shown}"


def summary(
    changes: list[dict[str, Any]], *, unchanged: int, by_hand: int = 0, left: int = 0, done: bool = False
) -> str:
    """One line: how many of each."""
    words = _DONE if done else _TO_DO
    counts = {act: sum(change["act"] == act for change in changes) for act in words}
    parts = [f"{count} {words[act]}" for act, count in counts.items() if count]
    told = ", ".join(parts) or ("nothing changed" if done else "nothing to do")
    more = [f"{unchanged} as declared"] if unchanged else []
    if by_hand:
        more.append(f"{by_hand} of all kept by hand (--adopt changes that)")
    if left:
        more.append(f"{left} no longer in the file (--prune removes {'it' if left == 1 else 'them'})")
    return f"{told}; {', '.join(more)}." if more else f"{told}."


def value(name: str, found: Any) -> str:
    """A value on one line, as a person reads it."""
    if name == "expires":
        return "never" if found is None else moment(int(found) * 1_000_000_000).text
    if name == "terms":
        return "; ".join(_term(one) for one in found or ()) or "nothing"
    if found is None:
        return "all" if name in ("models", "endpoints") else "none"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, list):
        shown = ", ".join(safe(str(one)) for one in found[:_MOST])
        return (shown + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")) or "none"
    return safe(str(found)) or "none"


def _term(one: dict[str, Any]) -> str:
    limits = one.get("limits") or {}
    what = f"tier {one['tier']}" if one.get("tier") else ", ".join(f"{name} {limit}" for name, limit in limits.items())
    return safe(what or "no limit") + (f" from {iso(one['since'])}" if one["since"] else "")
