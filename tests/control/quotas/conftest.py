# SPDX-License-Identifier: Apache-2.0
"""The two organisations of the tests of tenancy, and the tiers that come with Beffroi."""

import pytest
from sqlalchemy import Engine

from beffroi.control.quotas.shipped import ship
from tests.control.tenancy.conftest import engine

__all__ = ["engine", "shipped"]


@pytest.fixture
def shipped(engine: Engine) -> Engine:
    """As a start leaves it."""
    ship(engine)
    return engine
