# SPDX-License-Identifier: Apache-2.0
"""What is to be told: rows written in the transaction of the act, so that what was done is told, and nothing else is.

In: an event and the connection of its act. Out: a row for each webhook that wants it; `courier` delivers them.
A row leaves when it was delivered or given up. A webhook for which `MOST` rows wait is disabled: it takes nothing.
"""

import time
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from beffroi.control.webhooks.patterns import fit
from beffroi.core.clock import stamp
from beffroi.core.ids import new_id
from beffroi.store.administration import outbox, webhooks

MOST = 10_000  # deliveries that may wait for one webhook
_w = webhooks.c
_ACTIVE = select(_w.id, _w.events).where(_w.organisation == bindparam("organisation"), _w.state == "active")
ANYBODY = exists(select(_w.id).where(_w.organisation == bindparam("whose"), _w.state == "active"))
FULL = f"{MOST} deliveries wait for it"


def post(connection: Connection, organisation: str, event: str, payload: dict[str, Any]) -> list[str]:
    """Put an event into the outbox, once per webhook of the organisation that wants it.

    Args:
        event: its action (`api:key:create`). payload: plain data; see `described`.

    Returns:
        Ids of webhooks that were disabled because too much waits for them.
    """
    those = connection.execute(_ACTIVE, {"organisation": organisation}).all()
    full, now = [], int(time.time())
    for webhook in those:
        if not fit(webhook.events, event):
            continue
        if _waiting(connection, webhook.id) >= MOST:
            connection.execute(
                update(webhooks)
                .where(_w.id == webhook.id)
                .values(state="disabled", fault=FULL, revision=_w.revision + 1)
            )
            full.append(webhook.id)
            continue
        connection.execute(
            insert(outbox).values(
                id=new_id("dlv"),
                organisation=organisation,
                webhook=webhook.id,
                event=event,
                payload=payload,
                attempts=0,
                next_at=now,
                created_at=now,
            )
        )
    return full


def _waiting(connection: Connection, webhook: str) -> int:
    some = select(outbox.c.id).where(outbox.c.webhook == webhook).limit(MOST).subquery()
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def described(event: dict[str, Any]) -> dict[str, Any]:
    """The body of a delivery, from a row of `events`: who did what to what. `id` is the same for every webhook."""
    same = ("organisation", "project", "actor", "subject", "before", "after")
    return {"id": event["id"], "type": event["action"], "at": stamp(event["at_ns"])} | {
        name: event[name] for name in same
    }
