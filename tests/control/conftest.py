# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the control plane: an empty ledger, a journal directory, and a shipper between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from beffroi.control.rows import Recovered
from beffroi.control.shipping import Shipper
from beffroi.store.engine import open_engine, upgrade


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The journal directory."""
    return tmp_path / "journal"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """An empty ledger."""
    database = open_engine(tmp_path / "beffroi.db")
    upgrade(database)
    yield database
    database.dispose()


@pytest.fixture
def charged() -> list[Recovered]:
    """What quota counters were told."""
    return []


@pytest.fixture
def shipper(database: Engine, spool: Path, charged: list[Recovered]) -> Shipper:
    """A shipper that is stepped by hand."""
    return Shipper(database, spool, charge=charged.append)
