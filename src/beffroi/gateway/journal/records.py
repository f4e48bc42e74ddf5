# SPDX-License-Identifier: Apache-2.0
"""Room 7, record: the exchange as journal records.

It writes twice: the intent before a byte goes to an engine, the settlement before the last byte goes to the client.

In: an exchange. Out: `Intent`, `Progress`, `Settlement`; what leaves for the client afterwards is the client's `finish`.
"""

from typing import Protocol

from beffroi.core.clock import Clock
from beffroi.core.errors import EngineError, EngineTimeout, JournalUnavailable
from beffroi.core.exchange import JOURNAL, PAUSE, Exchange
from beffroi.core.price import NO_COST, Cost, Tokens, cost_of
from beffroi.core.record import NO_TOKENS, PROGRESS, Intent, Progress, Settlement
from beffroi.gateway.journal.spool import Journal


class Recording(Protocol):
    """What record needs of the house."""

    journal: Journal
    clock: Clock


async def intend(x: Exchange, house: Recording) -> None:
    """Write what is about to happen, and wait until it is written: one more attempt, on `x.member`.

    Raises:
        JournalUnavailable: it could not be written; nothing may be sent, and the exchange settles as attempt 0.
    """
    key = x.key
    assert key is not None  # noqa: S101 - authenticate came first
    x.attempt += 1
    try:
        house.journal.intent(
            Intent(
                x.id, x.attempt, x.wall_ns, key.id, key.slot, key.organisation, key.project, x.model.spec.id, x.endpoint, x.member.name,
                x.price.version, x.input_estimate, x.price.currency, key.system, _end_user(x),
            ),
            x.journaled,
        )  # fmt: skip
        x.awaiting = JOURNAL
        await PAUSE
    except JournalUnavailable:
        x.attempt = 0
        raise


def progress(x: Exchange, house: Recording, tokens: Tokens) -> None:
    """A stream's tokens so far, in case this process dies."""
    house.journal.append(PROGRESS, Progress(x.id, x.attempt, house.clock.wall_ns(), tokens, cost_of(tokens, x.price)))


def failed_attempt(x: Exchange, house: Recording, failure: EngineError) -> Settlement:
    """An attempt that came to nothing and is followed by another: settled at zero."""
    outcome = "engine_timeout" if isinstance(failure, EngineTimeout) else "engine_gone"
    return _settlement(x, house, outcome, failure.status, failure.code, NO_TOKENS, NO_COST)


def record(x: Exchange, house: Recording) -> None:
    """Write the settlement, then let the last bytes go; without a known key there is nothing to settle."""
    if x.key is None:
        x.recorded(None)
        return
    house.journal.settle(_settlement(x, house, x.outcome, x.status, x.code, x.tokens, x.cost), x.recorded)


def _settlement(
    x: Exchange, house: Recording, outcome: str, status: int, code: str | None, tokens: Tokens, cost: Cost
) -> Settlement:
    key = x.key
    assert key is not None  # noqa: S101 - callers have seen it
    request, model, price = x.request, x.model, x.price
    now = house.clock.mono_ns()
    total = now - x.started
    return Settlement(
        x.id, x.attempt, x.wall_ns, x.wall_ns + total, key.id, key.slot, key.organisation, key.project,
        model.spec.id if model is not None else "", x.endpoint, request is not None and request.stream, x.member_name, x.member_kind,
        status, code, outcome, x.source, tokens, price.version, price.currency, cost, len(x.tried), x.finish_reason, x.verdict, x.findings,
        x.size, x.bytes_out, (x.first_ns - x.started) // 1000 if x.first_ns else 0, total // 1000, x.address,
        _end_user(x), key.system,
    )  # fmt: skip


def _end_user(x: Exchange) -> str | None:
    request = x.request
    return request.user[:128] if request is not None and request.user else None
