# SPDX-License-Identifier: Apache-2.0
"""`/spend/logs`, `/global/spend/report`: what was spent, from the ledger, in the shapes of LiteLLM's reports.

In: asks with days. Out: sums by day, or requests one by one. Amounts are those of the ledger, in the currency of its prices.
"""

import re
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Row

from beffroi.control import ledger
from beffroi.control.litellm import people, terms
from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.keys import found
from beffroi.control.tenancy.scope import Scope
from beffroi.core.clock import stamp
from beffroi.core.errors import BadRequest
from beffroi.store.tables import exchanges, keys, projects

MOST = 10_000  # requests of one answer
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_CLASSES = ledger.CLASSES


def _days(ask: Ask) -> tuple[int | None, int | None]:
    """Unix seconds of the first day's beginning and of the last one's end."""
    zone = ask.house.config.settings.time_zone
    ends: list[int | None] = []
    for name in ("start_date", "end_date"):
        text = ask.given.get(name)
        if text is None:
            ends.append(None)
            continue
        text = str(text)[:10]
        try:
            day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
            if day is not None and name == "end_date":
                day += timedelta(days=1)
        except (ValueError, OverflowError):
            day = None
        if day is None:
            raise BadRequest(f"`{name}` is a day such as 2026-01-31", param=name)
        ends.append(ledger.moment(day.isoformat(), name, zone))
    return ends[0], ends[1]


async def _keys(ask: Ask) -> frozenset[str] | None:
    """The keys that an ask narrows to; None: all."""
    reference, user = ask.given.get("api_key"), ask.given.get("user_id")
    if reference is None and user is None:
        return None

    def read(scope: Scope) -> frozenset[str]:
        if reference is not None:
            return frozenset({str(found(scope, str(reference)).id)})
        mine = scope.select(keys, keys.c.id).where(keys.c.owner == people.owner(scope, user))
        return frozenset(scope.connection.execute(mine).scalars())

    return await ask.read(read)


async def logs(ask: Ask) -> list[dict[str, Any]]:
    """By day where dates are given and nobody wants more; else request by request, the last first."""
    since, until = _days(ask)
    summarize = ask.given.get("summarize")
    ids = await _keys(ask)
    await ask.house.current_ledger()
    dated = since is not None or until is not None
    if dated and str(summarize).lower() != "false" and "request_id" not in ask.given:
        return await _by_day(ask, since, until, ids)
    return await ask.read(lambda scope: _one_by_one(scope, ask, since, until, ids))


async def _by_day(ask: Ask, since: int | None, until: int | None, ids: frozenset[str] | None) -> list[dict[str, Any]]:
    by, zone = ("day", "key", "model"), ask.house.config.settings.time_zone
    rows = await ask.read(lambda scope: ledger.usage(scope, since=since, until=until, by=by, zone=zone, keys=ids))
    days: dict[str, dict[str, Any]] = {}
    for row in rows:
        day = days.setdefault(str(row["day"]), {"startTime": row["day"], "spend": 0, "users": {}, "models": {}})
        cost = int(row["cost_nano"] or 0)
        key, model = str(row["key"]), str(row["model"])
        day["spend"] += cost
        day["models"][model] = day["models"].get(model, 0) + cost
        day[key] = day.get(key, 0) + cost
    return [_money(day) for day in days.values()]


def _money(found: dict[str, Any]) -> dict[str, Any]:
    """Every amount of it as a number of whole units."""
    return {
        name: terms.money(value) if isinstance(value, int) else _money(value) if isinstance(value, dict) else value
        for name, value in found.items()
    }


def _one_by_one(
    scope: Scope, ask: Ask, since: int | None, until: int | None, ids: frozenset[str] | None
) -> list[dict[str, Any]]:
    t = exchanges.c
    query = scope.select(exchanges).order_by(t.request_id.desc(), t.attempt.desc()).limit(MOST)
    if since is not None:
        query = query.where(t.ended_ns >= since * 1_000_000_000)
    if until is not None:
        query = query.where(t.ended_ns < until * 1_000_000_000)
    if ids is not None:
        query = query.where(t.key_id.in_(ids))
    if "request_id" in ask.given:
        query = query.where(t.request_id == str(ask.given["request_id"]))
    rows = scope.connection.execute(query).all()
    if len(rows) == MOST:
        ask.told.append(f"these are the last {MOST} requests; narrow them by day or key")
    return [_request(row) for row in rows]


def _request(row: Row[Any]) -> dict[str, Any]:
    output = row.output_tokens + row.reasoning_tokens
    prompt = row.input_tokens + row.cached_tokens
    return {
        "request_id": row.request_id,
        "call_type": row.endpoint,
        "api_key": row.key_id,
        "team_id": row.project,
        "end_user": row.end_user or "",
        "model": row.model,
        "model_group": row.model,
        "custom_llm_provider": row.engine_kind,
        "spend": terms.money(sum(getattr(row, f"{kind}_nano") for kind in _CLASSES)),
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "startTime": stamp(row.started_ns),
        "endTime": stamp(row.ended_ns),
        "status": "success" if row.status < 400 else "failure",
        "metadata": {},
        "request_tags": [],
    }


async def report(ask: Ask) -> list[dict[str, Any]]:
    """What teams or keys have spent, day by day."""
    group = ask.given.get("group_by", "team")
    if group not in ("team", "api_key"):
        raise BadRequest("`group_by` is team or api_key; `beffroi usage --by user` tells end users", param="group_by")
    since, until = _days(ask)
    ids = await _keys(ask)
    team = ask.given.get("team_id")
    await ask.house.current_ledger()
    by, zone = ("day", "project", "key", "model"), ask.house.config.settings.time_zone

    def read(scope: Scope) -> tuple[list[ledger.Row], dict[str, str]]:
        names = {row.id: row.name for row in scope.connection.execute(scope.select(projects)).all()}
        project = None if team is None else str(team)
        return ledger.usage(scope, since=since, until=until, by=by, zone=zone, project=project, keys=ids), names

    rows, names = await ask.read(read)
    return _by_team(rows, names) if group == "team" else _by_key(rows)


def _line(row: ledger.Row) -> dict[str, Any]:
    prompt = int(row["input_tokens"] or 0) + int(row["cached_tokens"] or 0)
    output = int(row["output_tokens"] or 0) + int(row["reasoning_tokens"] or 0)
    return {
        "model": row["model"],
        "api_key": row["key"],
        "spend": terms.money(int(row["cost_nano"] or 0)),
        "total_tokens": prompt + output,
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "requests": row["requests"],
    }


def _by_team(rows: list[ledger.Row], names: dict[str, str]) -> list[dict[str, Any]]:
    days: dict[str, dict[str, list[ledger.Row]]] = {}
    for row in rows:
        days.setdefault(str(row["day"]), {}).setdefault(str(row["project"]), []).append(row)
    return [
        {
            "group_by_day": f"{day}T00:00:00+00:00",
            "teams": [
                {
                    "team_id": team,
                    "team_name": names.get(team, team),
                    "total_spend": terms.money(sum(int(row["cost_nano"] or 0) for row in those)),
                    "metadata": [_line(row) for row in those],
                }
                for team, those in teams.items()
            ],
        }
        for day, teams in days.items()
    ]


def _by_key(rows: list[ledger.Row]) -> list[dict[str, Any]]:
    found: dict[str, list[ledger.Row]] = {}
    for row in rows:
        found.setdefault(str(row["key"]), []).append(row)
    return [
        {
            "api_key": key,
            "total_cost": terms.money(sum(int(row["cost_nano"] or 0) for row in those)),
            "total_input_tokens": sum(_line(row)["prompt_tokens"] for row in those),
            "total_output_tokens": sum(_line(row)["completion_tokens"] for row in those),
            "model_details": [_line(row) for row in those],
        }
        for key, those in found.items()
    ]
