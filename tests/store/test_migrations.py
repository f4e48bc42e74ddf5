# SPDX-License-Identifier: Apache-2.0
"""The schema: what the migrations build is what the code expects, forward and back, with rows in it."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, inspect, select
from sqlalchemy.exc import DatabaseError, IntegrityError

from beffroi.store.engine import HEAD, current, downgrade, open_engine, reading, serialise, upgrade
from beffroi.store.tables import events, exchanges, keys, metadata, organisations, projects

EVENT = {
    "actor": "cli",
    "action": "cli:key:create",
    "subject": "key_1",
    "organisation": "default",
    "project": "default",
}
KEY = {
    "public": "abc",
    "hash": b"\x00\x01",
    "pepper_id": 1,
    "slot": 3,
    "organisation": "default",
    "project": "default",
    "name": "first",
    "models": ["m"],
    "expires_at": None,
    "revoked": False,
    "limits": {"requests_per_minute": 5},
    "created_at": 1,
    "created_by": "cli",
    "revoked_at": None,
    "rotated_from": None,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a database without tables is, of either kind."""
    return tmp_path / "beffroi.db" if request.param == "sqlite" else request.getfixturevalue("postgres").empty()


@pytest.fixture
def engine(place: Path | str) -> Iterator[Engine]:
    engine = open_engine(place)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def old(place: Path | str) -> Iterator[Engine]:
    """Without tables."""
    engine = open_engine(place)
    yield engine
    engine.dispose()


def test_migrations_build_exactly_the_tables_that_the_code_declares(engine: Engine) -> None:
    """A column added to `tables` without a migration, or the other way round, is caught here."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_upgrade_is_idempotent_and_keeps_rows(engine: Engine) -> None:
    """Every start upgrades; what is there stays."""
    with engine.begin() as connection:
        connection.execute(insert(events).values(id="evt_1", at_ns=1, before=None, after={"a": 1}, **EVENT))
    upgrade(engine)
    with reading(engine) as connection:
        assert connection.execute(select(events.c.after)).scalar_one() == {"a": 1}


def test_the_default_tenant_is_there_from_the_first_table(engine: Engine) -> None:
    """D23: organisation and project `default` exist before anything else is created."""
    with reading(engine) as connection:
        assert connection.execute(select(organisations.c.id)).scalars().all() == ["default"]
        assert connection.execute(select(projects.c.organisation, projects.c.id)).all() == [("default", "default")]


def test_down_and_up_again_on_a_filled_database(engine: Engine) -> None:
    """Going back drops what the step made, rows or not, and the way forward is open again."""
    with engine.begin() as connection:
        connection.execute(insert(keys).values(id="key_1", **KEY))
    downgrade(engine, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    upgrade(engine)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(keys)).scalar_one() == 0


def test_a_key_must_belong_to_a_tenant_that_exists_and_own_its_slot_alone(engine: Engine) -> None:
    """Foreign keys are enforced (SQLite does not by itself), and a slot is never shared but with a successor."""
    with engine.begin() as connection:
        connection.execute(insert(keys).values(id="key_1", **KEY))
        connection.execute(insert(keys).values(id="key_2", **{**KEY, "public": "n", "rotated_from": "key_1"}))
    wrongs = (
        {"project": "nowhere", "slot": 4, "public": "x"},
        {"public": "y"},  # a slot that is another's
        {"slot": 5},  # a public id that is another's
        {"public": "z", "rotated_from": "key_1"},  # a second successor
    )
    for wrong in wrongs:
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(insert(keys).values(id="key_3", **{**KEY, **wrong}))


def test_a_database_of_the_first_release_keeps_its_keys_and_gives_them_back(old: Engine) -> None:
    """Up to rotated keys with rows in it; going back drops the old key of each pair, as two cannot have one slot there."""
    engine = old
    upgrade(engine, "0001")
    before = {name: value for name, value in KEY.items() if name != "rotated_from"}
    with engine.begin() as connection:
        connection.execute(insert(keys).values(id="key_1", **before))
        connection.execute(insert(keys).values(id="key_2", **{**before, "slot": 4, "public": "other"}))
    upgrade(engine)
    with engine.begin() as connection:
        rows = connection.execute(select(keys.c.id, keys.c.slot, keys.c.limits, keys.c.rotated_from)).all()
        assert rows == [("key_1", 3, {"requests_per_minute": 5}, None), ("key_2", 4, {"requests_per_minute": 5}, None)]
        connection.execute(insert(keys).values(id="key_3", **{**KEY, "public": "new", "rotated_from": "key_1"}))
    downgrade(engine, "0001")
    with reading(engine) as connection:
        rows = connection.execute(select(keys.c.id, keys.c.slot).order_by(keys.c.id)).all()
    assert rows == [("key_2", 4), ("key_3", 3)]


def test_two_writers_that_read_first_wait_for_each_other(engine: Engine) -> None:
    """A transaction takes the write lock at its start, so read-then-write never fails for a stale view."""
    failures: list[BaseException] = []

    def add(name: str) -> None:
        try:
            for number in range(20):
                with engine.begin() as connection:
                    serialise(connection)
                    connection.execute(select(func.count()).select_from(events)).scalar_one()
                    values = {"id": f"evt_{name}{number}", "at_ns": number, "before": None, "after": None, **EVENT}
                    connection.execute(insert(events).values(**values))
        except DatabaseError as error:
            failures.append(error)

    threads = [Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 40


def test_a_reader_does_not_wait_for_a_writer(engine: Engine) -> None:
    """WAL: while somebody writes, `reading` sees the last committed state at once."""
    done: list[float] = []

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(insert(events).values(id="evt_1", at_ns=1, before=None, after=None, **EVENT))
            sleep(0.5)

    thread = Thread(target=write)
    thread.start()
    sleep(0.1)
    begun = monotonic()
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 0
    done.append(monotonic() - begun)
    thread.join()
    assert done[0] < 0.3


def test_a_read_only_engine_refuses_writes(engine: Engine, place: Path | str) -> None:
    """What the offline verifier opens cannot change the ledger."""
    assert current(engine) == HEAD
    reader = open_engine(place, read_only=True)
    with reading(reader) as connection:
        assert connection.execute(select(func.count()).select_from(exchanges)).scalar_one() == 0
    with pytest.raises(DatabaseError), reader.begin() as connection:
        connection.execute(insert(events).values(id="evt_1", at_ns=1, before=None, after=None, **EVENT))
    reader.dispose()
