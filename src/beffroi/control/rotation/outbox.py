# SPDX-License-Identifier: Apache-2.0
"""Notices for webhooks, written in the transaction of what they tell of.

In: an event and what it says. Out: a row of `outbox` for each webhook that wants it.
"""

import time
from typing import Any

from beffroi.control.tenancy.scope import Scope
from beffroi.core.ids import new_id
from beffroi.store.administration import outbox, webhooks


def tell(scope: Scope, event: str, payload: dict[str, Any]) -> None:
    """Have webhooks told."""
    now = int(time.time())
    query = scope.select(webhooks, webhooks.c.id, webhooks.c.events).where(webhooks.c.state == "active")
    for hook in scope.connection.execute(query).all():
        if event in hook.events or "*" in hook.events:
            scope.connection.execute(
                scope.insert(outbox).values(
                    id=new_id("evt"), webhook=hook.id, event=event, payload=payload, attempts=0, next_at=now,
                    created_at=now, fault="",
                )
            )  # fmt: skip
