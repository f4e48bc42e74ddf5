# SPDX-License-Identifier: Apache-2.0
"""Control's hand on the shared counters: orphans charged, lost spend restored from the ledger."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Engine, insert

from beffroi.control.budgets import Budgets
from beffroi.control.rows import Recovered
from beffroi.core.clock import SystemClock
from beffroi.core.price import Cost, Tokens
from beffroi.core.snapshot import KeyRecord, Limits
from beffroi.gateway.quota.counters import MappedCounters
from beffroi.gateway.quota.layout import WORD, region_of
from beffroi.gateway.quota.scopes import account_of
from beffroi.gateway.quota.terms import Ask, Used
from beffroi.store.tables import exchanges

MONTH = KeyRecord("key_month", "a" * 12, b"h" * 32, 1, 0, limits=Limits(hard_budget=1_000_000))
TOTAL = KeyRecord("key_total", "b" * 12, b"h" * 32, 1, 1, limits=Limits(soft_budget=1_000_000, budget_period="total"))
NONE = KeyRecord("key_none", "c" * 12, b"h" * 32, 1, 2)


def worker(data: Path) -> MappedCounters:
    """The counters as a worker uses them."""
    return MappedCounters(data / "counters.bin", worker=0, workers=1, clock=SystemClock(), zone="Europe/Paris")


def spend(counters: MappedCounters, key: KeyRecord, nano: int) -> None:
    """One request of that cost."""
    counters.settle(counters.reserve(key, "m", None, Ask(10, 5, nano, nano)), Used(10, 5, nano))


@pytest.fixture
def ledger(database: Engine) -> Callable[..., Engine]:
    """Fills the ledger."""
    return lambda *rows: filled(database, *rows)


def filled(engine: Engine, *rows: tuple[KeyRecord, int, int]) -> Engine:
    """A ledger with one exchange for each key, cost and age in seconds."""
    for number, (key, nano, age) in enumerate(rows):
        row: dict[str, Any] = {}
        for column in exchanges.c:
            row[column.name] = (
                None if column.nullable else [] if column.name == "findings" else column.type.python_type()
            )
        row |= {"request_id": f"req_{number}", "attempt": 1, "key_id": key.id, "output_nano": nano}
        row["ended_ns"] = time.time_ns() - age * 1_000_000_000
        with engine.begin() as connection:
            connection.execute(insert(exchanges).values(row))
    return engine


def orphan(key: KeyRecord, nano: int) -> Recovered:
    """An exchange whose worker died."""
    return Recovered("req_x", 1, key.slot, Tokens(), Cost(output=nano), time.time_ns())


def test_an_orphan_is_charged_to_its_key(tmp_path: Path) -> None:
    """On top of what the key has spent."""
    counters, budgets = worker(tmp_path), Budgets(tmp_path, zone="Europe/Paris")
    spend(counters, MONTH, 100)
    budgets.charge(orphan(MONTH, 40))
    assert budgets.spent([MONTH, NONE])[MONTH.id].spent == counters.spent(account_of(MONTH)).spent == 140
    assert set(budgets.spent([MONTH, NONE])) == {MONTH.id}


def test_an_orphan_of_a_key_whose_lock_is_held_is_charged_later(tmp_path: Path) -> None:
    """A frozen worker may hold it; nothing is forgotten."""
    counters, budgets = worker(tmp_path), Budgets(tmp_path, zone="Europe/Paris")
    spend(counters, MONTH, 100)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:  # another process that holds the key's lock until its end
        fd = os.open(tmp_path / "counters.bin", os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, region_of(MONTH.slot) * WORD)
        os.write(theirs, b"1")
        time.sleep(0.5)
        os._exit(0)
    os.read(ours, 1)
    budgets.charge(orphan(MONTH, 40))
    assert budgets.spent([MONTH])[MONTH.id].spent == 100
    os.waitpid(pid, 0)
    budgets.settle()
    assert budgets.spent([MONTH])[MONTH.id].spent == 140


def test_spend_that_the_counters_lost_is_restored_from_the_ledger(
    tmp_path: Path, ledger: Callable[..., Engine]
) -> None:
    """A lost file, as after a power cut: each key has the sum of its own period, and no key more than the ledger has."""
    month = 40 * 86_400
    engine = ledger((MONTH, 300, 0), (MONTH, 5000, month), (TOTAL, 7, 0), (TOTAL, 70, month), (NONE, 9, 0))
    budgets = Budgets(tmp_path, zone="Europe/Paris")
    budgets.restore(engine, [MONTH, TOTAL, NONE])
    spent = {key: one.spent for key, one in budgets.spent([MONTH, TOTAL]).items()}
    assert spent == {MONTH.id: 300, TOTAL.id: 77}
    assert worker(tmp_path).spent(account_of(MONTH)).spent == 300


def test_restoring_takes_nothing_back(tmp_path: Path, ledger: Callable[..., Engine]) -> None:
    """What is spent and not in the ledger yet stays spent."""
    engine = ledger((MONTH, 300, 0))
    spend(worker(tmp_path), MONTH, 800)
    budgets = Budgets(tmp_path, zone="Europe/Paris")
    budgets.restore(engine, [MONTH])
    assert budgets.spent([MONTH])[MONTH.id].spent == 800


@pytest.mark.parametrize("restart", [False, True])
def test_a_new_key_begins_with_nothing_spent(tmp_path: Path, restart: bool) -> None:
    """Although a database that was restored from a copy gives it a slot that another key had."""
    counters, budgets = worker(tmp_path), Budgets(tmp_path, zone="Europe/Paris")
    spend(counters, MONTH, 800)
    if restart:
        budgets.close()
        budgets = Budgets(tmp_path, zone="Europe/Paris")
    budgets.begin(MONTH.slot)
    assert budgets.spent([MONTH])[MONTH.id].spent == 0


def test_what_a_key_and_its_successor_spent_is_restored_as_one(ledger: Callable[..., Engine], tmp_path: Path) -> None:
    """They share a slot, so the ledger's sums of both are one budget's; that of the revoked one too."""
    new = structs.replace(MONTH, id="key_new", public="n" * 12)
    revoked = structs.replace(MONTH, id="key_gone", public="g" * 12, revoked=True)
    database = ledger((MONTH, 300, 0), (new, 40, 0), (revoked, 5, 0), (TOTAL, 1, 0))
    budgets = Budgets(tmp_path, zone="Europe/Paris")
    budgets.restore(database, (revoked, MONTH, new, TOTAL))
    assert [spent.spent for spent in budgets.spent((MONTH, new)).values()] == [345, 345]
    budgets.close()
