# SPDX-License-Identifier: Apache-2.0
"""A database to apply files of tenants to."""

import pytest
from sqlalchemy import Engine

from beffroi.store.vault import Vault
from tests.control.declare.ground import Ground


@pytest.fixture
def ground(database: Engine) -> Ground:
    """An empty one."""
    return Ground(database, Vault([bytes(32)]))
