# SPDX-License-Identifier: Apache-2.0
"""The sweep meets a connection for the first time while bytes wait for its client.

In: a connection with a scripted transport. Out: whether it is cut.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from beffroi.core.snapshot import Settings
from beffroi.gateway import sweep
from beffroi.gateway.server import ClientConnection


class Transport:
    """A transport whose client takes what the test says."""

    waiting = 0
    aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def connection() -> Any:
    """A connection that nobody has looked at yet, on a machine that has been up for long."""
    house = SimpleNamespace(view=SimpleNamespace(settings=Settings(write_timeout=60.0)))
    made = ClientConnection(SimpleNamespace(house=house, is_proxy=lambda _: False))  # type: ignore[arg-type]
    made.transport = Transport()  # type: ignore[assignment]
    made.since = 1_000_000.0
    return made


def test_bytes_that_wait_at_the_first_look_are_not_late(connection: Any) -> None:
    """As answers over TLS do: the time-out runs from that look on."""
    connection.transport.waiting = 500
    for now in (1_000_000.0, 1_000_059.0):
        sweep._stalled(connection, now)
        assert sweep._stalled(connection, now) <= 60
    assert sweep._stalled(connection, 1_000_061.0) > 60


def test_a_client_that_takes_something_has_time_again(connection: Any) -> None:
    """Progress is what leaves."""
    connection.transport.waiting = 500
    assert sweep._stalled(connection, 1_000_000.0) == 0
    connection.transport.waiting = 400
    assert sweep._stalled(connection, 1_000_050.0) == 0
    assert sweep._stalled(connection, 1_000_060.0) == 10
