# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the control plane: an empty ledger, a journal directory, and a shipper between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete

from beffroi.control.rows import Recovered
from beffroi.control.shipping import Shipper
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.tables import metadata


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The journal directory."""
    return tmp_path / "journal"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty ledger is, of either kind: what a test says of one backing, it says of the other."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres").database()
        return url
    return one_machine(tmp_path)


def one_machine(folder: Path) -> Path:
    """An empty ledger of one machine: what backups by Beffroi itself are of."""
    path = folder / "beffroi.db"
    engine = open_engine(path)
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(place: Path | str) -> Iterator[Engine]:
    """An empty ledger."""
    database = open_engine(place)
    yield database
    database.dispose()


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def shared_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A ledger of either kind that many tests have, one after the other; each begins with `emptied`."""
    if request.param == "postgresql":
        database = open_engine(request.getfixturevalue("postgres").database())
    else:
        database = open_engine(one_machine(tmp_path_factory.mktemp("shared")))
    yield database
    database.dispose()


@pytest.fixture
def emptied(shared_database: Engine) -> Engine:
    """An empty ledger, of which making anew would cost more than emptying."""
    with shared_database.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    return shared_database


@pytest.fixture
def charged() -> list[Recovered]:
    """What quota counters were told."""
    return []


@pytest.fixture
def shipper(database: Engine, spool: Path, charged: list[Recovered]) -> Shipper:
    """A shipper that is stepped by hand."""
    return Shipper(database, spool, charge=charged.append)
