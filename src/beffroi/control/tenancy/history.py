# SPDX-License-Identifier: Apache-2.0
"""Who did what: the events of an organisation, the newest first.

In: a scope, a filter, a page. Out: rows. Blocking.
"""

from typing import Any

from sqlalchemy import ColumnElement, Row, literal, tuple_

from beffroi.control.events import ACTIONS, ACTS, DOORS
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import Event, EventQuery
from beffroi.core.clock import stamp
from beffroi.core.errors import BadRequest
from beffroi.store.tables import events

_SECOND = 1_000_000_000


def last(scope: Scope, query: EventQuery, limit: int, after: tuple[Any, ...] | None) -> list[Row[Any]]:
    """At most `limit` events that pass, before the one that `after` names by its time and id.

    Raises:
        BadRequest: an action that there is not.
    """
    table = events.c
    conditions: list[ColumnElement[bool]] = []
    if after is not None:
        conditions.append(tuple_(table.at_ns, table.id) < tuple_(*map(literal, after)))
    if query.subject is not None:
        conditions.append(table.subject == query.subject)
    if query.actor is not None:
        conditions.append(table.actor == query.actor)
    if query.action is not None:
        conditions.append(table.action.in_(_actions(query.action)))
    if query.since is not None:
        conditions.append(table.at_ns >= query.since * _SECOND)
    if query.until is not None:
        conditions.append(table.at_ns < query.until * _SECOND)
    statement = scope.select(events).where(*conditions).order_by(table.at_ns.desc(), table.id.desc()).limit(limit)
    return list(scope.connection.execute(statement).all())


def _actions(word: str) -> list[str]:
    if word in ACTS:
        return [f"{door}:{word}" for door in DOORS]
    door, _, act = word.partition(":")
    if word in ACTIONS or (door in DOORS and act in ACTS):
        return [word]
    raise BadRequest(f"there is no act `{word[:60]}`; the reference of events lists them", param="action")


def present(row: Row[Any]) -> Event:
    """A row as it is shown."""
    plain = row._asdict()
    return Event(at=stamp(plain.pop("at_ns")), **plain)
