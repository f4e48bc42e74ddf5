# SPDX-License-Identifier: Apache-2.0
"""A database that is empty but for two organisations, `a` and `b`, with the projects `p` and `q`; on both backings."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, delete

from beffroi.control.tenancy import organisations, projects
from beffroi.control.tenancy.scope import EVERY, SOCKET, acting
from beffroi.control.tenancy.shapes import OrganisationAsk, ProjectAsk
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.tables import metadata
from tests.servers import Postgres


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """SQLite in a file, and a real PostgreSQL: one for all tests of this folder."""
    if request.param == "sqlite":
        engine = open_engine(tmp_path_factory.mktemp("tenancy") / "beffroi.db")
        upgrade(engine)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        engine = open_engine(server.database())
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: Engine) -> Engine:
    """The two organisations and nothing else."""
    with database.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    with acting(database, SOCKET, EVERY) as scope:
        for organisation in ("a", "b"):
            organisations.create(scope, OrganisationAsk(name="Same", id=organisation))
            with scope.within(organisation) as inner:
                for project in ("p", "q"):
                    projects.create(inner, ProjectAsk(name="Same", id=project))
    return database
