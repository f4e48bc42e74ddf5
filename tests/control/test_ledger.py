# SPDX-License-Identifier: Apache-2.0
"""Sums from the ledger: exact, of one organisation, in one currency, by local day."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from beffroi.control import ledger
from beffroi.control.rows import Batch
from beffroi.control.tenancy.scope import EVERY, SOCKET, looking
from beffroi.control.writing import writer
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.core.price import Cost, Tokens
from beffroi.core.record import Intent, Settlement
from beffroi.store.tables import DEFAULT, organisations
from tests.gateway.journal.support import intent, settlement


def usage(database: Engine, *, organisation: str = DEFAULT, **asked: Any) -> list[ledger.Row]:
    """Sums of one organisation."""
    with looking(database, SOCKET, organisation) as scope:
        return ledger.usage(scope, **asked)


def at(text: str) -> int:
    """Unix seconds of a moment in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def add(database: Engine, *settlements: Settlement) -> None:
    """Put exchanges into the ledger as shipping does."""
    batch = Batch({})
    for each in settlements:
        begun: list[Intent] = [intent(each.request_id, each.attempt)] if each.attempt else []
        batch.add(0, "b", [*begun, each])
    with database.begin() as connection:
        writer(database).write(connection, batch)


def ended(moment: str, number: int = 1, **values: Any) -> Settlement:
    """An exchange that ended then, with an id in the shape of a real one."""
    second = at(moment)
    request = f"req_{second * 1000:012x}7000{number:016x}"
    return settlement(request, started_ns=second * 10**9 - 1, ended_ns=second * 10**9, **values)


def test_sums_are_exact_beyond_what_a_float_holds(database: Engine) -> None:
    """2**53 nano-units and one: a float would lose the one."""
    add(database, ended("2026-03-01T10:00:00", 1, cost=Cost(2**53, 0, 0, 0)))
    add(database, ended("2026-03-01T10:00:00", 2, cost=Cost(1, 2, 3, 4), tokens=Tokens(1, 2, 3, 4)))
    (row,) = usage(database, by=())
    assert row["cost_nano"] == 2**53 + 10
    assert (row["input_nano"], row["reasoning_nano"]) == (2**53 + 1, 4)
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"]) == (11, 2, 8, 4)
    assert row["requests"] == 2


def test_groups_come_back_under_the_names_that_were_asked_for(database: Engine) -> None:
    """Key, model, project, database, endpoint, outcome, user, in any order."""
    add(database, ended("2026-03-01T10:00:00", 1, key_id="key_a", model="m1", user="u"))
    add(database, ended("2026-03-01T10:00:00", 2, key_id="key_a", model="m2"))
    add(database, ended("2026-03-01T10:00:00", 3, key_id="key_b", model="m1"))
    rows = usage(database, by=("model", "key"))
    assert [(row["model"], row["key"], row["requests"]) for row in rows] == [
        ("m1", "key_a", 1),
        ("m1", "key_b", 1),
        ("m2", "key_a", 1),
    ]
    assert [(row["user"], row["requests"]) for row in usage(database, by=("user",))] == [(None, 2), ("u", 1)]


def test_a_day_is_local_and_changes_length_with_the_clock(database: Engine) -> None:
    """Paris, 29 March 2026 has 23 hours: it ends at 22:00 UTC, the day before it at 23:00 UTC."""
    for number, moment in enumerate(
        ("2026-03-28T22:59:59", "2026-03-28T23:00:00", "2026-03-29T21:59:59", "2026-03-29T22:00:00")
    ):
        add(database, ended(moment, number))
    rows = usage(database, by=("day",))
    assert [(row["day"], row["requests"]) for row in rows] == [
        ("2026-03-28", 1),
        ("2026-03-29", 2),
        ("2026-03-30", 1),
    ]
    rows = usage(database, by=("day",), zone="Asia/Kathmandu")  # 5 h 45 min from UTC
    assert [(row["day"], row["requests"]) for row in rows] == [("2026-03-29", 2), ("2026-03-30", 2)]


def test_a_span_includes_its_start_and_not_its_end(database: Engine) -> None:
    """Neighbouring spans share nothing and leave nothing out."""
    moments = ("2026-03-01T00:00:00", "2026-03-01T11:59:59", "2026-03-01T12:00:00", "2026-03-02T00:00:00")
    for number, moment in enumerate(moments):
        add(database, ended(moment, number))
    noon, midnight = at("2026-03-01T12:00:00"), at("2026-03-02T00:00:00")
    counts = [
        sum(int(row["requests"] or 0) for row in usage(database, since=since, until=until))
        for since, until in ((None, noon), (noon, midnight), (midnight, None))
    ]
    assert counts == [2, 1, 1]


def test_a_stream_that_began_before_the_span_counts_where_it_ended(database: Engine) -> None:
    """The span is found by request id, which says when it began: long streams must not fall out."""
    began = at("2026-03-01T00:00:00")
    late = settlement(f"req_{began * 1000:012x}7000{1:016x}", ended_ns=(began + 5 * 86_400) * 10**9)
    add(database, late)
    assert usage(database, since=began + 4 * 86_400)[0]["requests"] == 1
    assert usage(database, until=began + 86_400) == []


def test_organisations_do_not_see_each_other(database: Engine) -> None:
    """D23: the organisation is part of every question; it cannot be forgotten."""
    with database.begin() as connection:
        connection.execute(insert(organisations).values(id="acme", name="Acme", created_at=1))
    add(database, ended("2026-03-01T10:00:00", 1), ended("2026-03-01T10:00:00", 2, organisation="acme", project="lab"))
    assert [row["requests"] for row in usage(database, by=())] == [1]
    assert [row["project"] for row in usage(database, by=("project",), organisation="acme")] == ["lab"]
    with pytest.raises(ObjectNotFound):
        usage(database, organisation="nobody")
    rows = usage(database, by=("organisation",), organisation=EVERY)
    assert [(row["organisation"], row["requests"]) for row in rows] == [("acme", 1), ("default", 1)]


def test_currencies_are_never_added_up(database: Engine) -> None:
    """A price list in another currency gives rows of its own."""
    add(database, ended("2026-03-01T10:00:00", 1), ended("2026-03-01T10:00:00", 2, currency="CHF"))
    assert [(row["currency"], row["cost_nano"]) for row in usage(database, by=())] == [("CHF", 29), ("EUR", 29)]


def test_a_request_that_took_two_engines_is_one_request_with_both_bills(database: Engine) -> None:
    """Attempts are rows; people count requests. A refused one counts too, and is told apart."""
    add(
        database,
        ended("2026-03-01T10:00:00", 1, attempt=1, engine="e1"),
        ended("2026-03-01T10:00:00", 1, attempt=2, engine="e2"),
        ended("2026-03-01T10:00:00", 2, attempt=0, outcome="refused", cost=Cost(), tokens=Tokens()),
    )
    (row,) = usage(database, by=())
    assert (row["requests"], row["refused"], row["cost_nano"]) == (2, 1, 58)


def test_token_classes_can_be_rows(database: Engine) -> None:
    """As an invoice lists them; together they are the whole."""
    add(database, ended("2026-03-01T10:00:00", 1, tokens=Tokens(1, 2, 3, 4), cost=Cost(10, 20, 30, 40)))
    rows = {row["class"]: row for row in usage(database, by=("model", "class"))}
    assert {name: (row[f"{name}_tokens"], row["cost_nano"]) for name, row in rows.items()} == {
        "input": (1, 10),
        "cached": (2, 20),
        "output": (3, 30),
        "reasoning": (4, 40),
    }
    assert sum(int(row["input_tokens"] or 0) for row in rows.values()) == 1


@pytest.mark.parametrize("asked", [{"by": ("colour",)}, {"by": ("day",), "zone": "Europe/Atlantis"}])
def test_a_question_that_makes_no_sense_gets_a_reason(database: Engine, asked: dict[str, Any]) -> None:
    """The message names what can be asked."""
    with pytest.raises(BadRequest) as refused:
        usage(database, **asked)
    assert refused.value.param in ("by", "zone")
