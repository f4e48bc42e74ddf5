# SPDX-License-Identifier: Apache-2.0
"""The failure matrix: what one worker decides while the centre is away (docs/explanation/when-a-part-fails.md).

In: leases that have not enough room, an ask. Out: a ticket, or the refusal of this worker's own part. Rates and concurrency are
open at limit ÷ workers, soft budgets are open, hard budgets are closed when what was lent of them is used up.
"""

from beffroi.core.errors import CountersUnavailable
from beffroi.gateway.quota.fleet.house_time import HouseTime
from beffroi.gateway.quota.fleet.lease import Lease
from beffroi.gateway.quota.fleet.refusals import Found, refusal
from beffroi.gateway.quota.fleet.share import LocalShare
from beffroi.gateway.quota.fleet.ticket import FleetTicket, take, tightest
from beffroi.gateway.quota.fleet.wire import INPUT, OUTPUT, REQUESTS, TOKENS
from beffroi.gateway.quota.terms import Ask


def admit_alone(leases: tuple[Lease, ...], ask: Ask, time: HouseTime, workers: int) -> FleetTicket:
    """Admit under this worker's part of every limit, or under none.

    Raises:
        CountersUnavailable: a hard budget has no lease left.
        LimitExceeded: this worker's part is used up.
    """
    now = time.now()
    found: list[tuple[Lease, Found]] = []
    alone: list[Lease] = []
    for lease in leases:
        if lease.fits(ask):
            continue
        if lease.hard and lease.bound < ask.bound:
            raise CountersUnavailable(
                f"the counters of the budget {lease.account.of} cannot be reached; try again", retry_after=1.0
            )
        alone.append(lease)
        local = lease.local
        if local is None:
            age = now - lease.seen_ms
            local = lease.local = LocalShare(lease.rule, lease.likely_sums(now, workers), age, workers, now)
        found += [(lease, each) for each in local.refuses(ask, now)]
        running, most = lease.held[0] - lease.running + 1, local.running
        if most is not None and running > max(lease.held[0], most):
            found.append((lease, ("concurrency", running - 1, 0, 1, most, 0)))
    if found:
        raise refusal(found, time)
    for lease in leases:
        if lease in alone:
            _take_alone(lease, ask, now)
        else:
            take(lease, ask)
    limit, remaining = tightest(leases)
    return FleetTicket(leases, ask, now, limit, remaining)


def _take_alone(lease: Lease, ask: Ask, now: int) -> None:
    """Admitted by this worker's own part: the centre hears of it later."""
    local = lease.local
    for quantity, amount in (
        (REQUESTS, 1),
        (TOKENS, ask.tokens),
        (INPUT, ask.tokens - ask.output),
        (OUTPUT, ask.output),
    ):
        if amount and lease.rule.rates[quantity] and local is not None:
            lease.note(quantity, now, amount)
            local.use(quantity, amount, now)
    lease.running -= 1
    lease.bound -= ask.bound
    lease.estimate -= ask.estimate
