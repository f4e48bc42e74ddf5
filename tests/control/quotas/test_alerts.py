# SPDX-License-Identifier: Apache-2.0
"""Who is told that a budget nears its end, on both backings: once per period and level, whoever restarts in between."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from beffroi.control.budgets import Budgets
from beffroi.control.quotas.alerts import Alerts
from beffroi.control.rows import Recovered
from beffroi.control.tenancy.scope import EVERY, SOCKET, acting, looking
from beffroi.control.webhooks import service as webhooks
from beffroi.control.webhooks.shapes import WebhookAsk
from beffroi.core.clock import SystemClock
from beffroi.core.price import Cost, Tokens
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, MappedCounters, Used
from beffroi.gateway.quota.calendar import KIND_SHIFT, TOTAL
from beffroi.store.administration import budget_alerts, outbox
from beffroi.store.tables import events
from beffroi.store.vault import Vault

KEY = KeyRecord(
    "key_1", "p" * 12, b"h", 1, 1, "a", "p", name="bot", limits=Limits(hard_budget=100, budget_period="total")
)
QUOTA = QuotaRecord("quo_1", 2, "a", terms=(Dated(0, Limits(soft_budget=1000, monthly_cap=400)),))
HOUSE = QuotaRecord("quo_2", 3, terms=(Dated(0, Limits(monthly_cap=10_000)),))
USERS = QuotaRecord("quo_3", 4, "a", each_end_user=True, terms=(Dated(0, Limits(hard_budget=1000)),))
LATER = QuotaRecord("quo_4", 5, "a", model="m", terms=(Dated(int(time.time()) + 9999, Limits(hard_budget=1)),))
QUOTAS = (QUOTA, HOUSE, USERS, LATER)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[MappedCounters]:
    """A worker that spends."""
    made = MappedCounters(tmp_path / "counters.bin", worker=0, workers=1, clock=SystemClock())
    made.know(QUOTAS)
    yield made
    made.close()


@pytest.fixture
def budgets(tmp_path: Path) -> Iterator[Budgets]:
    """Control's view."""
    made = Budgets(tmp_path, zone="Europe/Paris", quotas=QUOTAS)
    yield made
    made.close()


def spend(worker: MappedCounters, nano: int) -> None:
    """One request of that cost."""
    worker.settle(worker.reserve(KEY, "m", "ann", Ask(0, 0, min(nano, 10), 0)), Used(0, 0, nano))


def told(engine: Engine) -> list[tuple[str, str, str, int]]:
    """Organisation, subject, budget and level of each event, in their order."""
    with looking(engine, SOCKET, EVERY) as scope:
        rows = scope.connection.execute(scope.select(events).order_by(events.c.id)).all()
    return [
        (row.organisation, row.subject, row.after["budget"], row.after["percent"])
        for row in rows
        if row.action == "control:budget:alert"
    ]


def test_each_level_is_told_once_also_by_a_process_that_starts_anew(
    engine: Engine, worker: MappedCounters, budgets: Budgets
) -> None:
    """The event says of what, how much, and of which budget."""
    alerts = Alerts(engine, budgets)
    spend(worker, 49)
    assert alerts.look([KEY], QUOTAS) == 0
    spend(worker, 1)
    assert alerts.look([KEY], QUOTAS) == 1
    assert alerts.look([KEY], QUOTAS) == 0
    assert Alerts(engine, budgets).look([KEY], QUOTAS) == 0
    spend(worker, 33)
    assert Alerts(engine, budgets).look([KEY], QUOTAS) == 1
    assert told(engine) == [("a", "key_1", "hard_budget", 50), ("a", "key_1", "hard_budget", 80)]
    with looking(engine, SOCKET, "a") as scope:
        after: Any = scope.connection.execute(
            scope.select(events, events.c.after).order_by(events.c.id.desc())
        ).scalar()
    assert (after["spent_nano"], after["limit_nano"], after["period"], after["scope"]) == (83, 100, "total", "key bot")


def test_several_levels_and_budgets_at_once_are_all_told(
    engine: Engine, worker: MappedCounters, budgets: Budgets
) -> None:
    """Of the key, the organisation's soft budget and its cap; neither end users' budgets nor those of terms to come."""
    spend(worker, 100)
    budgets.charge(orphan(400))
    assert Alerts(engine, budgets).look([KEY], QUOTAS) == 7
    assert sorted(told(engine)) == sorted(
        [("a", "key_1", "hard_budget", each) for each in (50, 80, 100)]
        + [("a", "quo_1", "monthly_cap", each) for each in (50, 80, 100)]
        + [("a", "quo_1", "soft_budget", 50)]
    )


def orphan(nano: int) -> Recovered:
    """An exchange whose worker died."""
    return Recovered("req_x", 1, KEY.slot, Tokens(), Cost(output=nano), time.time_ns(), "a", "p", "m", "ann")


def test_a_webhook_is_told_in_the_same_transaction(
    engine: Engine, worker: MappedCounters, budgets: Budgets, tmp_path: Path
) -> None:
    """Those that want it; one of another organisation is not."""
    vault = Vault.open(tmp_path)
    for organisation, wanted in (("a", ["budget:*"]), ("a", ["key:*"]), ("b", ["budget:*"])):
        with acting(engine, SOCKET, organisation) as scope:
            webhooks.create(scope, WebhookAsk(url=f"https://hooks.example/{wanted[0][0]}", events=wanted), vault)
    spend(worker, 60)
    Alerts(engine, budgets).look([KEY], QUOTAS)
    with looking(engine, SOCKET, EVERY) as scope:
        rows = scope.connection.execute(scope.select(outbox)).all()
    assert [(row.organisation, row.event, row.payload["after"]["percent"]) for row in rows] == [
        ("a", "control:budget:alert", 50)
    ]


def test_rows_of_long_ago_are_forgotten(engine: Engine, worker: MappedCounters, budgets: Budgets) -> None:
    """Those of now stay, and those of a budget that does not renew, however old: told once is told for good."""
    alerts = Alerts(engine, budgets)
    spend(worker, 60)
    alerts.look([KEY], QUOTAS)
    with acting(engine, SOCKET, "a") as scope:
        old = {"slot": 9, "budget": "hard_budget", "period": 0, "percent": 50, "at_ns": 5}
        for row in (old, old | {"slot": 8, "period": TOTAL << KIND_SHIFT}):
            scope.connection.execute(scope.insert(budget_alerts).values(row))
    alerts.forget()
    with looking(engine, SOCKET, "a") as scope:
        assert [
            row.slot for row in scope.connection.execute(scope.select(budget_alerts).order_by(budget_alerts.c.slot))
        ] == [1, 8]
