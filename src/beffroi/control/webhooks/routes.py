# SPDX-License-Identifier: Apache-2.0
"""Operations on webhooks.

In: calls. Out: what `service` answers; a test is delivered at once, and once.
"""

import time

from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.webhooks import outbox, service
from beffroi.control.webhooks.shapes import Delivery, Made, Tested, Webhook, WebhookAsk, WebhookChange
from beffroi.core.ids import new_id

TEST = "control:webhook:test"


async def list_(call: Call) -> Listed[Webhook]:
    """A page of them."""
    return call.listed(await call.read(lambda scope: service.listed(scope, call.page)), service.shown, "id")


async def create(call: Call) -> Made:
    """Its secret is in this answer and nowhere else."""
    return await call.act(lambda scope: service.create(scope, call.ask, call.house.vault))


async def show(call: Call) -> Webhook:
    """One."""
    return service.shown(await call.read(lambda scope: service.find(scope, call.path["id"])))


async def change(call: Call) -> Webhook:
    """Change one."""
    return await call.act(lambda scope: service.change(scope, call.path["id"], call.ask, call.if_match))


async def remove(call: Call) -> None:
    """Remove one."""
    await call.act(lambda scope: service.remove(scope, call.path["id"], call.if_match))


async def renew(call: Call) -> Made:
    """Its secret is in this answer and nowhere else."""
    return await call.act(lambda scope: service.renew(scope, call.path["id"], call.house.vault, call.if_match))


async def deliveries(call: Call) -> Listed[Delivery]:
    """What waits."""
    rows = await call.read(lambda scope: service.waiting(scope, call.path["id"], call.page))
    return call.listed(rows, service.delivery, "id")


async def test(call: Call) -> Tested:
    """Deliver an event that nothing has caused."""
    row = await call.read(lambda scope: service.find(scope, call.path["id"]))
    identifier = new_id("dlv")
    event = {
        "id": new_id("evt"),
        "at_ns": time.time_ns(),
        "actor": call.actor.id,
        "action": TEST,
        "subject": row.id,
        "before": None,
        "after": None,
        "organisation": row.organisation,
        "project": "",
    }
    payload = outbox.described(event)
    outcome = await call.house.courier.send(row.url, row.secret, row.id, identifier, TEST, payload)
    return Tested(not outcome.fault, identifier, outcome.status, outcome.fault, outcome.milliseconds)


_READ, _WRITE = Permission.WEBHOOKS_READ, Permission.WEBHOOKS_WRITE
_SECRET = "the secret of its signatures is in this answer and nowhere else."  # noqa: S105 - a sentence
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/webhooks", list_, _READ, "Webhooks of the organisation.", answer=Webhook, paged=True),
    Operation(
        "POST", "/webhooks", create, _WRITE, f"Make a webhook; {_SECRET}", ask=WebhookAsk, answer=Made, status=201
    ),
    Operation("GET", "/webhooks/{id}", show, _READ, "One webhook, and how it fares.", answer=Webhook),
    Operation(
        "PATCH",
        "/webhooks/{id}",
        change,
        _WRITE,
        "Change what it is told, or where.",
        ask=WebhookChange,
        answer=Webhook,
    ),
    Operation("DELETE", "/webhooks/{id}", remove, _WRITE, "Remove a webhook, and what waits for it.", status=204),
    Operation("POST", "/webhooks/{id}/secret", renew, _WRITE, f"Give it another secret; {_SECRET}", answer=Made),
    Operation(
        "GET", "/webhooks/{id}/deliveries", deliveries, _READ, "What waits to be told.", answer=Delivery, paged=True
    ),
    Operation("POST", "/webhooks/{id}/test", test, _WRITE, "Tell it a test now; what came of it.", answer=Tested),
)
