# SPDX-License-Identifier: Apache-2.0
"""What tests of shared limits have in common."""

from collections.abc import Iterator

import pytest

from beffroi.gateway.quota.fleet import centre
from tests.contract.fleet import Fleet
from tests.servers import Valkey, collected


@pytest.fixture(autouse=True)
def cut_connections() -> Iterator[None]:
    """See `collected`."""
    with collected():
        yield


@pytest.fixture
def fleet(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Four workers on one clock."""
    monkeypatch.setattr(centre, "PATIENCE_S", 2.0)
    made = Fleet(valkey.url)
    yield made
    made.close()
