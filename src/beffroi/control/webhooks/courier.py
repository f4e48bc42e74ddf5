# SPDX-License-Identifier: Apache-2.0
"""Delivers what waits in the outbox, until it is taken or a day has passed; disables a webhook that takes nothing for a day.

In: rows that are due. Out: deliveries, fewer rows, events. A row is claimed before it is sent, by moving its next moment
ahead in a transaction: of several replicas one sends it, and one that dies while it sends has it sent again by another.
So a delivery may come twice, always under the same `webhook-id`; the order among deliveries is not promised.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Engine, update
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.tenancy.scope import CONTROL, EVERY, acting, looking
from beffroi.control.webhooks.addresses import Networks
from beffroi.control.webhooks.deliver import Outcome, Sender
from beffroi.core.errors import BeffroiError
from beffroi.store.administration import outbox, webhooks
from beffroi.store.vault import Vault, VaultError
from beffroi.telemetry import logs

LOOK = 0.5  # seconds between two looks at the outbox
AT_ONCE, OF_ONE = 16, 4  # deliveries under way, and of one webhook
LEASE = 60  # seconds after which another may send what one had claimed
WAITS = (5, 15, 60, 300, 900, 1_800, 3_600)  # seconds after the first, second, … failure; the last for all to come
GIVE_UP = 24 * 3_600  # seconds after the event; and of failure alone, after which a webhook is disabled
log = logs.Logger("control.webhooks")


class Due(NamedTuple):
    """A claimed row, and whom it is for."""

    id: str
    organisation: str
    webhook: str
    event: str
    payload: Any
    attempts: int
    created_at: int
    url: str
    secret: bytes


class Courier:
    """Runs in the control process.

    Args:
        allowed: networks where a webhook may be, beside the internet.
        blocking, writing: run a call that reads, or changes, the database.
    """

    def __init__(
        self,
        engine: Engine,
        vault: Vault,
        allowed: Networks,
        writing: Callable[[Callable[[], Any]], Any],
        blocking: Callable[[Callable[[], Any]], Any],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._vault = vault
        self._sender = Sender(allowed)
        self._writing = writing
        self._blocking = blocking
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._of: dict[str, int] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                try:
                    await self.round()
                except (SQLAlchemyError, OSError, BeffroiError) as error:
                    log.error("the outbox cannot be read; what waits in it is told later", reason=str(error))
                await asyncio.sleep(LOOK)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await self._sender.close()

    async def round(self) -> None:
        """Begin what is due and has room."""
        room = AT_ONCE - len(self._under_way)
        if room <= 0:
            return
        busy = [webhook for webhook, count in self._of.items() if count >= OF_ONE]
        if not await self._blocking(lambda: self._waits(busy)):
            return
        for due in await self._writing(lambda: self._claim(room, busy)):
            self._of[due.webhook] = self._of.get(due.webhook, 0) + 1
            self._under_way[due.id] = asyncio.create_task(self._deliver(due), name=f"delivery {due.id}")

    def _due(self, busy: list[str]) -> Any:
        o = outbox.c
        return (o.next_at <= int(self._clock())) & o.webhook.not_in(busy)

    def _waits(self, busy: list[str]) -> bool:
        with looking(self._engine, CONTROL, EVERY) as scope:
            some = scope.select(outbox, outbox.c.id).where(self._due(busy)).limit(1)
            return scope.connection.execute(some).first() is not None

    def _claim(self, room: int, busy: list[str]) -> list[Due]:
        o, w = outbox.c, webhooks.c
        now = int(self._clock())
        claimed: list[Due] = []
        of = dict(self._of)
        with acting(self._engine, CONTROL, EVERY) as scope:
            query = (
                scope.select(outbox, *(o[name] for name in Due._fields[:7]), w.url, w.secret, o.next_at)
                .join(webhooks, w.id == o.webhook)
                .where(self._due(busy))
                .order_by(o.next_at, o.id)
                .limit(room * 4)
            )
            for row in scope.connection.execute(query).all():
                if len(claimed) == room:
                    break
                if of.get(row.webhook, 0) >= OF_ONE:
                    continue
                mine = scope.connection.execute(
                    update(outbox)
                    .where(o.id == row.id, o.next_at == row.next_at)
                    .values(next_at=now + LEASE, attempts=o.attempts + 1)
                )
                if mine.rowcount == 1:
                    of[row.webhook] = of.get(row.webhook, 0) + 1
                    claimed.append(Due(*row[:-1]))
        return claimed

    async def _deliver(self, due: Due) -> None:
        try:
            outcome = await self.send(due.url, due.secret, due.webhook, due.id, due.event, due.payload)
            await self._writing(lambda: self._note(due, outcome))
        except (SQLAlchemyError, OSError) as error:
            log.error(
                "what came of a delivery could not be noted; it is sent again", delivery=due.id, reason=str(error)
            )
        finally:
            del self._under_way[due.id]
            self._of[due.webhook] -= 1
            if not self._of[due.webhook]:
                del self._of[due.webhook]

    async def send(self, url: str, sealed: bytes, webhook: str, delivery: str, event: str, payload: Any) -> Outcome:
        """Try once, with the secret of a webhook."""
        try:
            secret = self._vault.unseal(sealed, context(webhook)).decode()
        except VaultError as error:
            return Outcome(None, str(error), 0)
        return await self._sender.send(url, secret, delivery, event, msgspec.json.encode(payload))

    def _note(self, due: Due, outcome: Outcome) -> None:
        o, w = outbox.c, webhooks.c
        now = int(self._clock())
        with acting(self._engine, CONTROL, due.organisation) as scope:
            connection = scope.connection
            found = connection.execute(scope.select(webhooks).where(w.id == due.webhook)).one_or_none()
            if found is None or found.state != "active":  # removed or disabled meanwhile: nothing waits for it any more
                connection.execute(scope.delete(outbox).where(o.webhook == due.webhook))
                return
            here = scope.update(webhooks).where(w.id == due.webhook)
            if not outcome.fault:
                connection.execute(scope.delete(outbox).where(o.id == due.id))
                if found.failing_since is not None:
                    connection.execute(here.values(failing_since=None, fault=""))
                return
            since = found.failing_since or now
            connection.execute(here.values(failing_since=since, fault=outcome.fault))
            if outcome.gone or now - since >= GIVE_UP:
                connection.execute(here.values(state="disabled", revision=w.revision + 1))
                connection.execute(scope.delete(outbox).where(o.webhook == due.webhook))
                scope.record(
                    "webhook:disable", due.webhook, {"state": "active"}, {"state": "disabled", "fault": outcome.fault}
                )
                log.warning("a webhook is disabled: it takes nothing", webhook=due.webhook, reason=outcome.fault)
            elif now - due.created_at >= GIVE_UP:
                connection.execute(scope.delete(outbox).where(o.id == due.id))
                log.warning("a delivery is given up", delivery=due.id, webhook=due.webhook, reason=outcome.fault)
            else:
                wait = WAITS[min(due.attempts, len(WAITS) - 1)]
                connection.execute(
                    scope.update(outbox).where(o.id == due.id).values(next_at=now + wait, fault=outcome.fault)
                )


def context(webhook: str) -> str:
    """What the secret of a webhook is sealed for."""
    return f"webhook {webhook}"
