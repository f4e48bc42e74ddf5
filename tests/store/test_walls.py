# SPDX-License-Identifier: Apache-2.0
"""The second wall on PostgreSQL: a query that forgets its condition shows nothing of another organisation."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Table, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from tests.control.tenancy.alike import fill
from tests.servers import Postgres

from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import EVERY, Actor, Scope, acting
from beffroi.store import administration, tables
from beffroi.store.engine import downgrade, open_engine, upgrade
from beffroi.store.server import passes_walls

ANNE = Actor("mem_a", "anne", Role.OWNER, "a")


def owned() -> dict[Table, Any]:
    """Every table with rows of tenants, and the column that says whose."""
    found = {table: table.c.organisation for table in tables.metadata.sorted_tables if "organisation" in table.c}
    return found | {tables.organisations: tables.organisations.c.id}


@pytest.fixture(scope="module")
def engine(postgres: Postgres) -> Iterator[Engine]:
    """A PostgreSQL with two organisations that look alike, as a role that is no superuser but owns the tables."""
    engine = open_engine(postgres.database())
    with engine.begin() as connection:
        assert not passes_walls(connection)
        fill(connection, ("a", "b"))
    yield engine
    engine.dispose()


def count(connection: Any, table: Table) -> int:
    """Rows that a query without any condition sees."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


def test_every_table_of_tenants_has_its_wall(engine: Engine) -> None:
    """A table that a later migration adds without one is found here; the owner of the tables is kept out as well."""
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"))
        assert set(rows.scalars()) == {table.name for table in owned()}
        rows = connection.execute(
            text("SELECT tablename FROM pg_policies WHERE cmd = 'ALL' AND qual LIKE '%beffroi.%'")
        )
        assert set(rows.scalars()) == {table.name for table in owned()}


@pytest.mark.parametrize("table", owned(), ids=lambda table: table.name)
def test_a_forgotten_condition_shows_nothing_of_another_organisation(engine: Engine, table: Table) -> None:
    """Reading, changing and deleting all rows of a table, in a scope of one organisation, leaves the other's alone."""
    column = owned()[table]
    with engine.begin() as connection:
        every = count(connection, table)
        others = connection.scalar(select(func.count()).where(column != "a"))
        assert others, "the test has nothing to find"
        Scope(connection, ANNE, "a")
        seen = set(connection.execute(select(column).distinct()).scalars())
        assert seen == ({"a", EVERY} if table is administration.tiers else {"a"})
        changed = connection.execute(update(table).values({column.name: column})).rowcount
        assert 0 < changed < every
        if table is not tables.organisations and table is not tables.projects:  # others hang on those
            assert connection.execute(delete(table)).rowcount == changed
        Scope(connection, Actor("x", "x", Role.OPERATOR, EVERY), EVERY)
        assert connection.scalar(select(func.count()).where(column != "a")) == others
        connection.rollback()


def test_nothing_can_be_written_into_another_organisation(engine: Engine) -> None:
    """Neither inserted nor moved there; nor can a tenant write a tier of the house."""
    row = {"id": "sva_x", "name": "x", "role": "viewer", "created_at": 1}
    for statement in (
        insert(administration.service_accounts).values(organisation="b", **row),
        update(administration.members).values(organisation="b"),
        update(administration.tiers).values(organisation=EVERY),
    ):
        with pytest.raises(DBAPIError, match="row-level security"), acting(engine, ANNE, "a") as scope:
            scope.connection.execute(statement)


def test_who_says_nothing_sees_nothing(engine: Engine) -> None:
    """A session that never said whose rows it wants, as another program's would be."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SET beffroi.organisation = ''")
        for table in owned():
            assert count(connection, table) == 0, table.name
        connection.rollback()


def test_a_user_whom_no_wall_stops_is_known(postgres: Postgres) -> None:
    """A start says so in the log; on SQLite there is no such wall to pass."""
    url = postgres.database()
    database = url.rpartition("/")[2]
    super_user = f"postgresql://postgres@localhost:{postgres.port}/{database}?host={postgres.folder}"
    engine = open_engine(super_user)
    with engine.begin() as connection:
        assert passes_walls(connection)
    engine.dispose()


def test_a_scope_ends_with_its_transaction(engine: Engine) -> None:
    """The connection goes back to the pool as the house's: nothing of a tenant sticks to it."""
    with acting(engine, ANNE, "a") as scope:
        assert count(scope.connection, tables.organisations) == 1
    with engine.begin() as connection:
        assert count(connection, tables.organisations) == 3
        with Scope(connection, Actor("x", "x", Role.OPERATOR, EVERY), EVERY).within("a") as inner:
            assert count(inner.connection, tables.organisations) == 1
        assert count(connection, tables.organisations) == 3


def test_the_walls_go_and_come_back_with_their_migration(postgres: Postgres) -> None:
    """Down to the release before, with rows in it, and up again."""
    url = postgres.database()
    engine = open_engine(url)
    with engine.begin() as connection:
        fill(connection, ("a",))
    downgrade(engine, "0002")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL beffroi.organisation = ''")
        assert count(connection, tables.events) == 2
    upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL beffroi.organisation = ''")
        assert count(connection, tables.events) == 0
    engine.dispose()
    postgres.drop(url)
