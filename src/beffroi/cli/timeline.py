# SPDX-License-Identifier: Apache-2.0
"""One request as its way through the seven rooms, for people.

In: what control knows of it. Out: text. Times are those that the journal keeps: arrival, the first byte of the answer,
the end of each attempt; what a room took by itself is counted in `/metrics`, not for single requests.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from beffroi.cli import show
from beffroi.core.money import MILLION, NANO

_CLASSES = ("input", "cached", "output", "reasoning")
_ROOMS = ("authenticate", "admit", "inspect", "route", "relay", "settle", "record")
# Where a refusal was made, by its code; a request that could not be read was refused between the first two rooms.
_REFUSED_IN = {
    "rate_limit_exceeded": "admit",
    "insufficient_quota": "admit",
    "limits_unavailable": "admit",
    "prompt_blocked": "inspect",
    "no_engine_available": "route",
    "journal_unavailable": "record",
}
_SOURCES = {
    "engine": "counted by the engine",
    "relayed": "counted as they passed, because the engine's own count never came",
    "recovered": "as far as the journal had seen them when the worker died",
    "none": "nothing was made",
}


def tell(found: dict[str, Any]) -> None:
    """Print it."""
    if not found["attempts"]:
        _running(found)
        return
    attempts, last = found["attempts"], found["attempts"][-1]
    outcome, style = _outcome(last)
    click.echo(f"{found['id']}  {show.paint(outcome, style)}")
    span = f"{_local(last['arrived_at'])} to {_local(last['ended_at'])}, {show.duration(last['total_us'] / 1e6)}"
    what = f"{last['model'] or 'no model'}, {last['endpoint']}, {'streamed' if last['stream'] else 'plain'}"
    click.echo(show.paint(f"{span}\n{what}", show.DIM))
    click.echo()
    stop = _stopped_in(attempts)
    lines = {
        "authenticate": _authenticate(last),
        "read": ["the request was refused here"],
        "admit": [f"price line {last['price_version']}"],
        "inspect": [_verdict(last)],
        "route": [_route(attempts)],
        "relay": list(_relay(attempts)),
        "settle": list(_settle(last)),
        "record": [_record(last)],
    }
    rooms = list(_ROOMS) if stop != "read" else [_ROOMS[0], "read", *_ROOMS[1:]]
    for room in rooms:
        told = lines[room]
        if stop is not None and rooms.index(room) > rooms.index(stop) and room not in ("settle", "record"):
            told = [show.paint("not reached", show.DIM)]
        elif room == stop:
            seen = f" ({', '.join(last['findings'])})" if room == "inspect" and last["findings"] else ""
            told = [show.paint(f"refused: {_code(last)}{seen}", show.BAD)]
        number = str(_ROOMS.index(room) + 1) if room in _ROOMS else " "
        for place, line in enumerate(told):
            click.echo((f" {number} {room:<13} " if place == 0 else " " * 17) + line)


def _stopped_in(attempts: list[dict[str, Any]]) -> str | None:
    last = attempts[-1]
    if last["attempt"] > 0:
        return None
    if last["outcome"] == "client_gone":
        return "admit"
    return _REFUSED_IN.get(last["code"] or "", "read")


def _outcome(attempt: dict[str, Any]) -> tuple[str, str]:
    outcome = attempt["outcome"]
    if outcome == "complete":
        return f"complete, {attempt['status']}", show.GOOD
    style = show.WARN if outcome in ("client_gone", "drained") else show.BAD
    return f"{outcome}, {_code(attempt)}" if attempt["status"] else outcome, style


def _code(attempt: dict[str, Any]) -> str:
    return f"{attempt['status']} {attempt['code'] or ''}".strip()


def _authenticate(last: dict[str, Any]) -> list[str]:
    whose = f"{show.safe(last['key_name'])} ({last['key_id']})"
    of = f"of {last['organisation']}/{last['project']}, from {last['address'] or 'an unknown address'}"
    user = [f"for the end user {show.safe(last['end_user'])}"] if last["end_user"] else []
    return [whose, of, *user]


def _verdict(last: dict[str, Any]) -> str:
    findings = f": {', '.join(last['findings'])}" if last["findings"] else ""
    style = {"block": show.BAD, "annotate": show.WARN}.get(last["verdict"], "")
    return show.paint(last["verdict"] + findings, style)


def _route(attempts: list[dict[str, Any]]) -> str:
    several = len({attempt["model"] for attempt in attempts}) > 1  # a fallback took over
    asked = {(one["model"], one["engine"]): one["engine_kind"] for one in attempts if one["engine"]}
    parts = [
        (f"{model} on " if several else "") + (f"{engine} ({kind})" if kind else engine)
        for (model, engine), kind in asked.items()
    ]
    return ", then ".join(parts) or "no engine"


def _relay(attempts: list[dict[str, Any]]) -> Iterator[str]:
    wide = max(len(attempt["engine"]) for attempt in attempts)
    for attempt in attempts:
        outcome, style = _outcome(attempt)
        first = f", first byte {show.duration(attempt['first_us'] / 1e6)}" if attempt["first_us"] else ""
        took = show.duration(attempt["total_us"] / 1e6)
        yield f"{attempt['attempt']} {attempt['engine']:<{wide}}  {show.paint(outcome, style)}{first}, end {took}"
    last = attempts[-1]
    ended = f", finished by {last['finish_reason']}" if last["finish_reason"] else ""
    yield f"{last['bytes_in']:,} bytes in, {last['bytes_out']:,} bytes out{ended}"


def _settle(last: dict[str, Any]) -> Iterator[str]:
    tokens, nano, price = last["tokens"], last["nano"], last["price"]
    currency = last["currency"]
    used = [kind for kind in _CLASSES if tokens[kind] or nano[kind]]
    if not used:
        yield "no tokens, nothing to pay"
        return
    rates = price["per_million_nano"] if price["agrees"] else None
    places = show.decimals(*(nano[kind] for kind in used), last["cost_nano"])
    wide = max(len(f"{tokens[kind]:,}") for kind in used)
    rows = []
    for kind in used:
        at = f" × {show.money(rates[kind], currency).text} per million" if rates else ""
        rows.append((f"{kind:<9} {tokens[kind]:>{wide},}{at}", show.money(nano[kind], currency, places).text))
    rows.append(("total", show.money(last["cost_nano"], currency, places).text))
    left, right = (max(len(row[side]) for row in rows) for side in (0, 1))
    for place, (text, amount) in enumerate(rows):
        line = f"{text:<{left}}  = {amount:>{right}}"
        yield show.paint(line, show.STRONG) if place == len(rows) - 1 else line
    yield show.paint(f"tokens {_SOURCES.get(last['source'], last['source'])}", show.DIM)
    if price["agrees"] is None:
        yield show.paint(f"the configuration has no price line {price['version']} any more", show.WARN)
    elif not price["agrees"]:
        yield show.paint(f"the price line {price['version']} was another when this was billed", show.WARN)
    elif any((tokens[kind] * rates[kind]) % MILLION for kind in used if rates):
        yield show.paint(f"each amount rounded half up once, to {1 / NANO:.9f} {currency}", show.DIM)


def _record(last: dict[str, Any]) -> str:
    return {
        "settled": f"by w{last['worker']:02d}: intent before the engine, settlement before the end",
        "refused": f"by w{last['worker']:02d}: the refusal alone, no engine was asked",
        "recovered": f"w{last['worker']:02d} died; closed by control from what the journal had last",
        "unmatched": f"by w{last['worker']:02d}: a settlement without an intent; see `beffroi journal verify`",
    }[last["state"]]


def _running(found: dict[str, Any]) -> None:
    last = found["running"][-1]
    click.echo(f"{found['id']}  {show.paint('in progress', show.WARN)}")
    pairs: list[tuple[str, show.Value]] = [
        ("arrived", _local(last["arrived_at"])),
        ("key", f"{last['key_name']} ({last['key_id']})"),
        ("model", last["model"]),
        ("engine", f"{last['engine']}, attempt {last['attempt']}"),
    ]
    if last["progress_at"]:
        tokens = sum(last["tokens"].values())
        cost = show.money(last["cost_nano"], last["currency"]).text
        pairs.append(("so far", f"{tokens:,} tokens, {cost}, at {_local(last['progress_at'])}"))
    show.Output("people").record(pairs, document=found)


def _local(at: str) -> str:
    """To the millisecond, in the local zone."""
    local = datetime.fromisoformat(at).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"
