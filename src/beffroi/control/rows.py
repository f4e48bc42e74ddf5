# SPDX-License-Identifier: Apache-2.0
"""From journal records to ledger rows: a batch merges what belongs together before the database sees any of it.

In: records, in the order of their boot. Out: tuples in the order of the columns of `exchanges`, and what `writing` makes rows of.
An exchange that begins and ends within one batch costs one insert.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from beffroi.core.record import NO_COST, NO_TOKENS, Cost, Intent, Payload, Progress, Refusals, Settlement, Tokens

Key = tuple[str, int]  # request id, attempt


class Open(msgspec.Struct, gc=False):
    """An intent without its settlement, with the last progress known."""

    intent: Intent
    worker: int
    boot: str
    progress_ns: int | None = None
    tokens: Tokens = NO_TOKENS
    cost: Cost = NO_COST


class Recovered(NamedTuple):
    """An orphan that was closed: what quota counters must be told."""

    request_id: str
    attempt: int
    key_slot: int
    tokens: Tokens
    cost: Cost
    ended_ns: int
    organisation: str = ""
    project: str = ""
    model: str = ""
    end_user: str | None = None


class Batch:
    """What one transaction will write. Nothing of it counts until that transaction is committed.

    Args:
        known: the open intents in the database; only read.
    """

    def __init__(self, known: dict[Key, Open]) -> None:
        self.settled: list[tuple[Any, ...]] = []
        self.opened: dict[Key, Open] = {}
        self.moved: dict[Key, Open] = {}  # open already, with new progress
        self.closed: list[Key] = []
        self.refused: dict[tuple[int, str, str], int] = {}
        self._known = known

    def add(self, worker: int, boot: str, payloads: Sequence[Payload]) -> tuple[int, int]:
        """Take records of one boot; how many intents and settlements of attempts were among them."""
        opened, settled = self.opened, self.settled
        intents = settlements = 0
        for payload in payloads:
            if type(payload) is Settlement:
                key = (payload.request_id, payload.attempt)
                attempt = payload.attempt > 0
                settlements += attempt
                found = opened.pop(key, None)
                if found is not None:
                    settled.append(_row(payload, found.intent.at_ns, "settled", worker, boot))
                elif key in self._known:
                    self.closed.append(key)
                    self.moved.pop(key, None)
                    settled.append(_row(payload, self._known[key].intent.at_ns, "settled", worker, boot))
                else:
                    settled.append(_row(payload, None, "unmatched" if attempt else "refused", worker, boot))
            elif type(payload) is Intent:
                intents += 1
                opened[payload.request_id, payload.attempt] = Open(payload, worker, boot)
            elif type(payload) is Progress:
                self._progress(payload)
            elif type(payload) is Refusals:
                for text, count in payload.counts.items():
                    reason, _, prefix = text.partition(" ")
                    place = (payload.at_s, reason, prefix)
                    self.refused[place] = self.refused.get(place, 0) + count
        return intents, settlements

    def _progress(self, payload: Progress) -> None:
        key = (payload.request_id, payload.attempt)
        fresh = self.opened.get(key)
        found = fresh or self.moved.get(key) or self._known.get(key)
        if found is None:
            return
        moved = Open(found.intent, found.worker, found.boot, payload.at_ns, payload.tokens, payload.cost)
        (self.opened if fresh else self.moved)[key] = moved

    def recover(self, boot: str) -> list[Recovered]:
        """Close every open intent of a dead boot from its last progress, else for nothing."""
        gone = set(self.closed)
        orphans = {key: found for key, found in self._known.items() if found.boot == boot and key not in gone}
        orphans |= {key: found for key, found in self.moved.items() if found.boot == boot}
        self.closed.extend(orphans)
        fresh = {key: found for key, found in self.opened.items() if found.boot == boot}
        for key in fresh:
            del self.opened[key]
        for key in orphans:
            self.moved.pop(key, None)
        recovered = []
        for (request_id, attempt), found in (orphans | fresh).items():
            settlement = _lost(found)
            self.settled.append(_row(settlement, found.intent.at_ns, "recovered", found.worker, boot))
            i = found.intent
            whose = (i.organisation, i.project, i.model, i.end_user)
            recovered.append(
                Recovered(request_id, attempt, i.key_slot, found.tokens, found.cost, settlement.ended_ns, *whose)
            )
        return recovered


def _lost(found: Open) -> Settlement:
    intent = found.intent
    ended = max(intent.at_ns, found.progress_ns or 0)
    return Settlement(
        request_id=intent.request_id,
        attempt=intent.attempt,
        started_ns=intent.at_ns,
        ended_ns=ended,
        key_id=intent.key_id,
        key_slot=intent.key_slot,
        organisation=intent.organisation,
        project=intent.project,
        model=intent.model,
        endpoint=intent.endpoint,
        stream=found.progress_ns is not None,
        engine=intent.engine,
        engine_kind="",
        status=0,
        code=None,
        outcome="lost",
        source="recovered",
        tokens=found.tokens,
        price_version=intent.price_version,
        currency=intent.currency,
        cost=found.cost,
        attempts=intent.attempt,
        finish_reason=None,
        verdict="allow",
        findings=(),
        bytes_in=0,
        bytes_out=0,
        first_us=0,
        total_us=(ended - intent.at_ns) // 1000,
        address="",
        user=intent.end_user,
        system=intent.system,
    )


def _row(s: Settlement, intent_ns: int | None, state: str, worker: int, boot: str) -> tuple[Any, ...]:
    tokens, cost = s.tokens, s.cost
    return (
        s.request_id,
        s.attempt,
        intent_ns,
        s.started_ns,
        s.ended_ns,
        state,
        s.key_id,
        s.key_slot,
        s.organisation,
        s.project,
        s.model,
        s.endpoint,
        s.stream,
        s.engine,
        s.engine_kind,
        s.status,
        s.code,
        s.outcome,
        s.source,
        tokens.input,
        tokens.cached,
        tokens.output,
        tokens.reasoning,
        s.price_version,
        s.currency,
        cost.input,
        cost.cached,
        cost.output,
        cost.reasoning,
        s.attempts,
        s.finish_reason,
        s.verdict,
        msgspec.json.encode(s.findings).decode() if s.findings else "[]",
        s.bytes_in,
        s.bytes_out,
        s.first_us,
        s.total_us,
        s.address,
        s.user,
        worker,
        boot,
        s.system,
    )
