# SPDX-License-Identifier: Apache-2.0
"""What one admitted request holds of several leases, and what its headers say.

In: leases, an ask. Out: a ticket; leases that have less room.
"""

import msgspec

from beffroi.gateway.quota.fleet.lease import Lease
from beffroi.gateway.quota.terms import Ask
from beffroi.gateway.quota.windows import REQUESTS_RESET


class FleetTicket(msgspec.Struct, gc=False):
    """What one admitted request holds."""

    leases: tuple[Lease, ...]
    ask: Ask
    at_ms: int
    requests_limit: int | None
    requests_remaining: int
    open: bool = True
    rest: "tuple[FleetTicket, ...]" = ()  # what it holds by another ask, after it moved

    @property
    def requests_reset(self) -> int:
        """Seconds until the minute is whole again if nothing more is sent."""
        return REQUESTS_RESET


def take(lease: Lease, ask: Ask) -> None:
    """Take what a request asks out of a lease that has it."""
    lease.requests -= 1
    lease.tokens -= ask.tokens
    lease.input -= ask.tokens - ask.output
    lease.output -= ask.output
    lease.running -= 1
    lease.bound -= ask.bound
    lease.estimate -= ask.estimate
    lease.total += 1


def tightest(leases: tuple[Lease, ...]) -> tuple[int | None, int]:
    """The tightest limit on requests per minute, and what is left of it."""
    found = [(max(0, lease.room + lease.requests), lease.most) for lease in leases if lease.most is not None]
    if not found:
        return None, 0
    remaining, limit = min(found)
    return limit, remaining
