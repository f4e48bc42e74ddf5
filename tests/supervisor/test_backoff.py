# SPDX-License-Identifier: Apache-2.0
"""How long a child that died waits for its next start."""

from beffroi.supervisor.backoff import Backoff


def test_the_first_restart_is_immediate_and_the_next_ones_wait_ever_longer_up_to_five_seconds() -> None:
    """0, then doubling from 0.1 s."""
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(9)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_minute_of_health_forgets_the_past() -> None:
    """59 s do not."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1.0)
    assert backoff.after(59.0) > 0
    assert [backoff.after(60.0), backoff.after(1.0)] == [0.0, 0.1]
