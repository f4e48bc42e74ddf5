# SPDX-License-Identifier: Apache-2.0
"""Single requests: the last ones, those that end just now, and all that is known of one. Never their content.

In: a scope of the ledger, what shipping has just taken in, prices of the configuration. Out: plain data for pages and the command line.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
from sqlalchemy import Row, or_

from beffroi.control.ledger import CLASSES, id_at
from beffroi.control.tenancy.scope import EVERY, Actor, Scope
from beffroi.core.clock import stamp
from beffroi.core.errors import BadRequest, KeyNotFound, ModelNotFound, RequestNotFound
from beffroi.core.price import FREE, Cost, Price, Tokens, cost_of
from beffroi.core.snapshot import Config
from beffroi.store.tables import exchanges, keys, open_intents

MOST = 1000
KEPT = 2000  # requests that `Recent` remembers
LOOK_BACK = 7 * 86_400  # seconds: a filter that finds little does not read the ledger of years
OUTCOMES = (
    "complete", "client_gone", "engine_gone", "engine_timeout", "engine_refused", "refused", "drained",
    "journal_failed", "lost",
)  # fmt: skip
_t = exchanges.c
_NAMES = tuple(exchanges.columns.keys())
_ORGANISATION, _PROJECT = _NAMES.index("organisation"), _NAMES.index("project")
_PREFIX = "req_"
Names = Callable[[str], str]  # key id → name
Of = tuple[str, str]  # organisation, project


class Wanted(msgspec.Struct, frozen=True):
    """A filter; None lets everything pass. `keys` are ids."""

    keys: frozenset[str] | None = None
    model: str | None = None
    outcome: str | None = None

    def __bool__(self) -> bool:
        return not (self.keys is None and self.model is None and self.outcome is None)

    def fits(self, row: dict[str, Any]) -> bool:
        """Whether a row passes."""
        return (
            (self.keys is None or row["key_id"] in self.keys)
            and self.model in (None, row["model"])
            and self.outcome in (None, row["outcome"])
        )


def wanted(config: Config, keys: frozenset[str] | None, model: str | None, outcome: str | None) -> Wanted:
    """A filter as somebody writes it: a model by any of its names; one that was removed may still be in the ledger.

    Raises:
        BadRequest: no such outcome.
    """
    if outcome is not None and outcome not in OUTCOMES:
        near = near_to(outcome, OUTCOMES)
        raise BadRequest(f"there is no outcome `{outcome}`; choose from {', '.join(OUTCOMES)}{near}", param="outcome")
    for spec in config.models:
        if model in spec.aliases:
            model = spec.id
    return Wanted(keys, model, outcome)


def near_to(text: str, words: Iterable[str]) -> str:
    """The end of a sentence that helps after a slip of the pen: `; did you mean …?`, or nothing."""
    near = get_close_matches(text, list(words), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def doubt_model(config: Config, model: str | None) -> None:
    """Called when nothing was found of a model.

    Raises:
        ModelNotFound: no model is called that, now; the sentence names the nearest.
    """
    names = {name for spec in config.models for name in (spec.id, *spec.aliases)}
    if model is not None and model not in names:
        raise ModelNotFound(
            f"there is no model `{model}`, and nothing of one in the ledger{near_to(model, names)}", param="model"
        )


class Recent:
    """The last requests that shipping has committed, in the order in which they ended. Filled by its thread.

    Each organisation and each project has a count of its own, so that nobody learns from a place how busy others are.
    """

    def __init__(self) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self._counts: dict[Of, int] = {}
        self._born = secrets.token_hex(4)
        self._lock = threading.Lock()

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of `exchanges`, just committed."""
        counts = self._counts
        with self._lock:
            self._rows.extend(rows)
            for row in rows:
                organisation = row[_ORGANISATION]
                for of in ((EVERY, ""), (organisation, ""), (organisation, row[_PROJECT])):
                    counts[of] = counts.get(of, 0) + 1

    def since(self, of: Of, place: str | None) -> tuple[list[dict[str, Any]], str, int]:
        """All rows of a tenant after a place, the place to ask from next, and how many between are forgotten already.

        None stands for the place that is now the last. To one that the control process before this one gave, or to any
        other text, everything is new that is remembered: whoever asks may have seen some of it.

        Args:
            of: an organisation (`*`: all) and one of its projects, or empty for all of them.
        """
        born, _, reached = (place or "").partition(".")
        known = born == self._born and reached.isascii() and reached.isdigit() and len(reached) < 19
        with self._lock:
            count = self._counts.get(of, 0)
            mine = [] if place is None else [row for row in self._rows if _belongs(row, of)]
        fresh = max(0, count - int(reached)) if known else len(mine)
        rows = mine[-fresh:] if fresh else []
        shown = [_decoded(dict(zip(_NAMES, row, strict=True))) for row in rows]
        return shown, f"{self._born}.{count}", fresh - len(rows)


def of(actor: Actor, organisation: str) -> Of:
    """Whose requests somebody sees."""
    return organisation, actor.project


def _belongs(row: tuple[Any, ...], of: Of) -> bool:
    return of[0] in (EVERY, row[_ORGANISATION]) and of[1] in ("", row[_PROJECT])


def key_ids(scope: Scope, reference: str) -> frozenset[str]:
    """The keys that a filter means: one by its id or public id, or all of a name.

    Raises:
        KeyNotFound: this scope sees none.
    """
    table = keys.c
    meant = or_(table.id == reference, table.public == reference, table.name == reference)
    found = frozenset(scope.connection.execute(scope.select(keys, table.id).where(meant)).scalars())
    if not found:
        names = set(scope.connection.execute(scope.select(keys, table.name)).scalars())
        near = near_to(reference, names) or "; `beffroi keys list` shows those there are"
        raise KeyNotFound(f"there is no key `{reference}`{near}", param="key")
    return found


def last(scope: Scope, count: int, wanted: Wanted) -> list[dict[str, Any]]:
    """The newest rows that pass, the oldest of them first; with a filter, of the last seven days."""
    query = scope.select(exchanges).order_by(_t.request_id.desc(), _t.attempt.desc()).limit(min(count, MOST))
    if wanted:
        query = query.where(_t.request_id >= id_at(int(time.time()) - LOOK_BACK))
    if wanted.keys is not None:
        query = query.where(_t.key_id.in_(wanted.keys))
    if wanted.model is not None:
        query = query.where(_t.model == wanted.model)
    if wanted.outcome is not None:
        query = query.where(_t.outcome == wanted.outcome)
    rows = [dict(row) for row in scope.connection.execute(query).mappings()]
    return rows[::-1]


def find(scope: Scope, reference: str, names: Names, config: Config) -> dict[str, Any]:
    """All that is known of one request, named by its id or an unmistakable beginning of it.

    Returns:
        `id`, `attempts` (as `shown`, the last one's with `price`), and `running` for one that has not ended.

    Raises:
        RequestNotFound: there is none, or several begin like that.
    """
    begin = reference if reference.startswith(_PREFIX) else _PREFIX + reference
    if not all(char in "0123456789abcdef" for char in begin.removeprefix(_PREFIX)) or len(begin) < 12:
        raise RequestNotFound(
            f"`{reference}` is no request id; write req_ and at least eight of its digits, as `beffroi requests tail` "
            "and the header x-request-id show them",
            param="id",
        )
    rows, running = (
        scope.connection.execute(
            scope.select(table)
            .where(table.c.request_id >= begin, table.c.request_id < begin + "g")
            .order_by(table.c.request_id, table.c.attempt)
            .limit(50)
        ).all()
        for table in (exchanges, open_intents)
    )
    ids = sorted({row.request_id for row in (*rows, *running)})
    if not ids:
        raise RequestNotFound(f"the ledger has no request `{reference}`", param="id")
    if len(ids) > 1:
        raise RequestNotFound(f"several requests begin like that: {', '.join(ids[:5])}", param="id")
    attempts = [shown(row._asdict(), names) for row in rows]
    if attempts:
        attempts[-1]["price"] = _worked_out(rows[-1], config)
    return {"id": ids[0], "attempts": attempts, "running": [_running(row, names) for row in running] or None}


def shown(row: dict[str, Any], names: Names) -> dict[str, Any]:
    """A row for pages: times in ISO 8601, amounts by token class."""
    left_out = {"request_id", "intent_ns", "started_ns", "ended_ns", "key_slot", "boot"}
    left_out |= {f"{kind}_{unit}" for kind in CLASSES for unit in ("tokens", "nano")}
    plain = {name: value for name, value in row.items() if name not in left_out}
    return {
        "id": row["request_id"],
        "arrived_at": stamp(row["started_ns"]),
        "ended_at": stamp(row["ended_ns"]),
        "key_name": names(row["key_id"]),
        **plain,
        "stream": bool(row["stream"]),
        "tokens": {kind: row[f"{kind}_tokens"] for kind in CLASSES},
        "nano": {kind: row[f"{kind}_nano"] for kind in CLASSES},
        "cost_nano": sum(row[f"{kind}_nano"] for kind in CLASSES),
    }


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"findings": msgspec.json.decode(row["findings"])}


def _running(row: Row[Any], names: Names) -> dict[str, Any]:
    return {
        "attempt": row.attempt,
        "arrived_at": stamp(row.at_ns),
        "progress_at": None if row.progress_ns is None else stamp(row.progress_ns),
        "key_id": row.key_id,
        "key_name": names(row.key_id),
        "model": row.model,
        "engine": row.engine,
        "tokens": {kind: getattr(row, f"{kind}_tokens") for kind in CLASSES},
        "cost_nano": sum(getattr(row, f"{kind}_nano") for kind in CLASSES),
        "currency": row.currency,
    }


def prices(config: Config) -> Iterable[Price]:
    """Every price there is."""
    yield FREE
    for model in config.models:
        yield from model.prices


def _worked_out(row: Row[Any], config: Config) -> dict[str, Any]:
    """The bill as a sum: what a million tokens of each class cost by the price line that the record pins.

    `agrees`: that line, as the configuration has it now, gives the amounts that were billed; None: it is gone.
    """
    price = next((each for each in prices(config) if each.version == row.price_version), None)
    found: dict[str, Any] = {"version": row.price_version, "per_million_nano": None, "agrees": None}
    if price is None:
        return found
    tokens = Tokens(*(getattr(row, f"{kind}_tokens") for kind in CLASSES))
    billed = Cost(*(getattr(row, f"{kind}_nano") for kind in CLASSES))
    rates = (price.input, price.input if price.cached is None else price.cached, price.output, price.reasoning)
    return found | {
        "per_million_nano": dict(zip(CLASSES, rates, strict=True)),
        "agrees": cost_of(tokens, price) == billed and price.currency == row.currency,
    }
