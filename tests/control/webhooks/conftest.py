# SPDX-License-Identifier: Apache-2.0
"""A database with two organisations, on both backings, a vault, and a clock that is set by hand."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from beffroi.control.tenancy import organisations
from beffroi.control.tenancy.scope import EVERY, SOCKET, acting
from beffroi.control.tenancy.shapes import OrganisationAsk
from beffroi.control.webhooks.addresses import networks
from beffroi.control.webhooks.courier import Courier
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.tables import metadata
from beffroi.store.vault import Vault
from tests.control.webhooks.receiver import Receiver, receiver
from tests.servers import Postgres


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """SQLite in a file, and a real PostgreSQL: one for all tests of this folder."""
    if request.param == "sqlite":
        engine = open_engine(tmp_path_factory.mktemp("webhooks") / "beffroi.db")
        upgrade(engine)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        engine = open_engine(server.database())
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: Engine) -> Engine:
    """The organisations `a` and `b`, and nothing else."""
    with database.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    with acting(database, SOCKET, EVERY) as scope:
        for organisation in ("a", "b"):
            organisations.create(scope, OrganisationAsk(name=organisation, id=organisation))
    return database


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault."""
    return Vault.open(tmp_path)


@pytest.fixture
def told() -> Iterator[Receiver]:
    """A program that is told."""
    with receiver() as found:
        yield found


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = time.time() + 60  # acts note their own time: what they did is past by this clock

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def courier(engine: Engine, vault: Vault, clock: Clock) -> Callable[[], Courier]:
    """Makes couriers over one database, as replicas are."""

    async def run(call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(call)

    def make() -> Courier:
        return Courier(engine, vault, networks(["127.0.0.0/8"]), run, run, clock)

    return make
