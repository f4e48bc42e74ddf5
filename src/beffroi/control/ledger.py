# SPDX-License-Identifier: Apache-2.0
"""Questions to the ledger: who used how much of what, and what it costs. Sums are exact integers.

In: a scope, a span of time, what to group by. Out: plain rows for pages, the API and the command line.
"""

from collections.abc import Sequence
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import ColumnElement, case, func, literal_column

from beffroi.control.tenancy.scope import Scope
from beffroi.control.verify import verify
from beffroi.core.errors import BadRequest
from beffroi.store.tables import exchanges

__all__ = ["CLASSES", "GROUPS", "id_at", "moment", "usage", "verify"]

CLASSES = ("input", "cached", "output", "reasoning")
_t = exchanges.c
_COLUMNS = {
    "key": _t.key_id,
    "model": _t.model,
    "project": _t.project,
    "system": _t.system,
    "organisation": _t.organisation,
    "engine": _t.engine,
    "endpoint": _t.endpoint,
    "outcome": _t.outcome,
    "user": _t.end_user,
}
GROUPS = (*_COLUMNS, "day", "class")
# A request has one first attempt; or none at all, and then one row that says why it was refused.
_first = (_t.attempt == 1) | ((_t.attempt == 0) & (_t.attempts == 0))
# Days begin at local midnight, which SQL cannot tell alike in every dialect. All zones are whole quarters of an hour
# from UTC: SQL sums quarters, and Python puts each into its day.
_QUARTER_NS = 900 * 1_000_000_000
# A request id begins with its time of arrival, so a span of time is a span of the primary key. An exchange ends at most
# so long after it arrived, or before it when the clock was set back meanwhile.
_LONGEST_S = 8 * 86_400
_SET_BACK_S = 86_400
_LAST_S = 9_000_000_000  # the year 2255: nanoseconds of later moments do not fit into what a database counts with

Row = dict[str, str | int | None]


def usage(
    scope: Scope,
    *,
    since: int | None = None,
    until: int | None = None,
    by: Sequence[str] = ("key", "model"),
    zone: str = "Europe/Paris",
    project: str | None = None,
    keys: frozenset[str] | None = None,
    model: str | None = None,
) -> list[Row]:
    """Sums over the exchanges that a scope sees and that ended in a span of time, one row per group and currency.

    Args:
        since, until: Unix seconds, the first included and the second not.
        keys: ids of keys; None: all.
        by: any of `GROUPS`. `day` is the local day in `zone` on which an exchange ended, as YYYY-MM-DD; `class` gives
            each token class a row of its own, with zero in the columns of the others.

    Each row has its groups, `currency`, `requests` (each counted once, with its first attempt), `refused` (of them, those
    that no engine was asked for), `<class>_tokens` and `<class>_nano` per class, and `cost_nano`, their sum.

    Raises:
        BadRequest: an unknown group or zone.
    """
    for name in by:
        if name not in GROUPS:
            near = "".join(f" Did you mean {word}?" for word in get_close_matches(name, GROUPS, n=1))
            raise BadRequest(f"usage cannot be grouped by {name!r}; choose from {', '.join(GROUPS)}.{near}", param="by")
    days = _Days(zone) if "day" in by else None
    groups: dict[str, ColumnElement[Any]] = {name: _COLUMNS[name] for name in by if name in _COLUMNS}
    if days is not None:
        groups["quarter"] = _t.ended_ns // literal_column(
            str(_QUARTER_NS)
        )  # PostgreSQL takes no two parameters for one
    groups["currency"] = _t.currency
    sums = [
        func.sum(case((_first, 1), else_=0)).label("requests"),
        func.sum(case((_t.state == "refused", 1), else_=0)).label("refused"),
        *(func.sum(_t[f"{kind}_tokens"]).label(f"{kind}_tokens") for kind in CLASSES),
        *(func.sum(_t[f"{kind}_nano"]).label(f"{kind}_nano") for kind in CLASSES),
    ]
    wanted = {"project": project, "model": model}
    query = (
        scope.select(exchanges, *(column.label(name) for name, column in groups.items()), *sums)
        .where(*_span(since, until))
        .where(*(_COLUMNS[name] == value for name, value in wanted.items() if value is not None))
        .group_by(*groups.values())
    )
    if keys is not None:
        query = query.where(_t.key_id.in_(keys))
    folded: dict[tuple[str | None, ...], list[int]] = {}
    plain = [name for name in by if name != "class"]
    for row in scope.connection.execute(query).mappings():
        names = (str(days(row["quarter"])) if name == "day" and days else row[name] for name in (*plain, "currency"))
        totals = folded.setdefault(tuple(names), [0] * len(sums))
        for place, column in enumerate(sums):
            totals[place] += int(row[column.name])
    rows = [_row(plain, group, totals) for group, totals in folded.items()]
    if "class" in by:
        rows = [part for row in rows for part in _by_class(row)]
    return sorted(rows, key=lambda row: [_order(name, row[name]) for name in (*by, "currency")])


def _order(group: str, value: str | int | None) -> str:
    return str(CLASSES.index(str(value)) if group == "class" else value or "")


def moment(text: str | None, name: str, zone: str) -> int | None:
    """Unix seconds as they are, or the midnight of `zone` with which a day (YYYY-MM-DD) begins.

    Raises:
        BadRequest: it is neither, or no moment of 1970 to 2255.
    """
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            seconds = int(text)
        else:
            seconds = int(datetime.combine(date.fromisoformat(text), time(), ZoneInfo(zone)).timestamp())
    except (ValueError, OverflowError):  # the first and the last day of all may have no midnight in a zone
        seconds = -1
    if not 0 <= seconds <= _LAST_S:
        raise BadRequest(f"`{name}` is Unix seconds or a day such as 2026-01-31", param=name)
    return seconds


def _span(since: int | None, until: int | None) -> list[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        conditions += [_t.ended_ns >= since * 1_000_000_000, _t.request_id >= id_at(since - _LONGEST_S)]
    if until is not None:
        conditions += [_t.ended_ns < until * 1_000_000_000, _t.request_id < id_at(until + _SET_BACK_S)]
    return conditions


def id_at(seconds: int) -> str:
    """The first id that a request of this second can have: a range of time is a range of ids."""
    return f"req_{max(0, seconds) * 1000:012x}"


class _Days:
    """The local day of a quarter of an hour; each quarter is worked out once."""

    def __init__(self, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise BadRequest(f"{zone!r} is not a time zone; write one such as Europe/Paris", param="zone") from None
        self._known: dict[int, str] = {}

    def __call__(self, quarter: int) -> str:
        day = self._known.get(quarter)
        if day is None:
            day = self._known[quarter] = datetime.fromtimestamp(quarter * 900, self._zone).date().isoformat()
        return day


def _row(names: list[str], group: tuple[str | None, ...], totals: list[int]) -> Row:
    row: Row = dict(zip((*names, "currency"), group, strict=True))
    columns = ("requests", "refused", *(f"{kind}_tokens" for kind in CLASSES), *(f"{kind}_nano" for kind in CLASSES))
    row.update(zip(columns, totals, strict=True))
    row["cost_nano"] = sum(totals[-len(CLASSES) :])
    return row


def _by_class(row: Row) -> list[Row]:
    parts = []
    for kind in CLASSES:
        part = {**row, "class": kind, "cost_nano": row[f"{kind}_nano"]}
        for other in CLASSES:
            if other != kind:
                part[f"{other}_tokens"] = part[f"{other}_nano"] = 0
        parts.append(part)
    return parts
