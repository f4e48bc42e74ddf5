# SPDX-License-Identifier: Apache-2.0
"""Webhooks: made, shown, changed, removed. Blocking; whoever calls brings the scope.

In: a scope, and what somebody asks. Out: rows and their events. A secret is sealed by the vault, and shown when it is made.
"""

import time
from typing import Any

from sqlalchemy import Row, func, select

from beffroi.control import events
from beffroi.control.api.operation import Page
from beffroi.control.tenancy.permissions import Permission
from beffroi.control.tenancy.scope import Scope
from beffroi.control.webhooks import addresses, signature
from beffroi.control.webhooks.courier import context
from beffroi.control.webhooks.patterns import fits
from beffroi.control.webhooks.shapes import Delivery, Made, Webhook, WebhookAsk, WebhookChange
from beffroi.core.errors import BadRequest, Conflict
from beffroi.core.ids import new_id
from beffroi.store.administration import outbox, webhooks
from beffroi.store.vault import Vault

MOST = 50  # webhooks of one organisation
_NAMES = Webhook.__struct_fields__


def create(scope: Scope, ask: WebhookAsk, vault: Vault) -> Made:
    """Make one.

    Raises:
        BadRequest: a URL that cannot be called, an event that there is not, all organisations at once.
        Conflict: there are enough.
    """
    scope.need_one(Permission.WEBHOOKS_WRITE)
    _check(ask.url, ask.events)
    there = scope.connection.scalar(select(func.count()).select_from(scope.select(webhooks, webhooks.c.id).subquery()))
    if (there or 0) >= MOST:
        raise Conflict(f"an organisation has {MOST} webhooks at most; remove one that is not needed")
    identifier, secret = new_id("whk"), signature.new_secret()
    scope.connection.execute(
        scope.insert(webhooks).values(
            id=identifier,
            url=ask.url,
            events=ask.events,
            secret=vault.seal(secret.encode(), context(identifier)),
            created_at=int(time.time()),
            managed_by=scope.keeper,
        )
    )
    scope.record("webhook:create", identifier, None, {"url": ask.url, "events": ask.events})
    return _made(scope.find(webhooks, identifier, "webhook"), secret)


def change(scope: Scope, identifier: str, ask: WebhookChange, if_match: int | None = None) -> Webhook:
    """Change one.

    Raises:
        ObjectNotFound: there is none. PreconditionFailed: not that revision. BadRequest: as `create`.
    """
    scope.need_one(Permission.WEBHOOKS_WRITE)
    row = scope.find(webhooks, identifier, "webhook")
    new: dict[str, Any] = {
        name: value
        for name in ("url", "events", "state")
        if (value := getattr(ask, name)) is not None and value != getattr(row, name)
    }
    _check(new.get("url", row.url), new.get("events", row.events))
    if not new:
        scope.may_change(row, if_match=if_match)
        return shown(row)
    if new.get("state") == "active":
        new |= {"failing_since": None, "fault": ""}
    if new.get("state") == "disabled":
        scope.connection.execute(scope.delete(outbox).where(outbox.c.webhook == identifier))
    told = {name: new[name] for name in ("url", "events", "state") if name in new}
    after = scope.revise(webhooks, row, if_match=if_match, **new)
    scope.record("webhook:update", identifier, {name: getattr(row, name) for name in told}, told)
    return shown(after)


def renew(scope: Scope, identifier: str, vault: Vault, if_match: int | None = None) -> Made:
    """Give one another secret; what is delivered from now on is signed with it. Raises as `change`."""
    scope.need_one(Permission.WEBHOOKS_WRITE)
    row = scope.find(webhooks, identifier, "webhook")
    secret = signature.new_secret()
    after = scope.revise(webhooks, row, if_match=if_match, secret=vault.seal(secret.encode(), context(identifier)))
    scope.record("webhook:renew", identifier)
    return _made(after, secret)


def remove(scope: Scope, identifier: str, if_match: int | None = None) -> None:
    """Remove one, and what waits for it. Raises as `change`."""
    scope.need_one(Permission.WEBHOOKS_WRITE)
    row = scope.find(webhooks, identifier, "webhook")
    scope.may_change(row, if_match=if_match)
    scope.record("webhook:delete", identifier, {"url": row.url, "events": row.events})
    scope.connection.execute(scope.delete(outbox).where(outbox.c.webhook == identifier))
    scope.connection.execute(scope.delete(webhooks).where(webhooks.c.id == identifier))


def listed(scope: Scope, page: Page) -> list[Row[Any]]:
    """Rows of a page, by id."""
    return list(scope.connection.execute(page.window(scope.select(webhooks), webhooks.c.id)).all())


def find(scope: Scope, identifier: str) -> Row[Any]:
    """One row. Raises as `change`."""
    return scope.find(webhooks, identifier, "webhook")


def waiting(scope: Scope, identifier: str, page: Page) -> list[Row[Any]]:
    """What waits for one, by id, which is the order in which it happened. Raises as `change`."""
    find(scope, identifier)
    query = scope.select(outbox).where(outbox.c.webhook == identifier)
    return list(scope.connection.execute(page.window(query, outbox.c.id)).all())


def shown(row: Row[Any]) -> Webhook:
    """As it is shown."""
    return Webhook(*(getattr(row, name) for name in _NAMES))


def delivery(row: Row[Any]) -> Delivery:
    """As it is shown."""
    return Delivery(*(getattr(row, name) for name in Delivery.__struct_fields__))


def _made(row: Row[Any], secret: str) -> Made:
    return Made(*(getattr(row, name) for name in _NAMES), secret=secret)


def _check(url: str, patterns: list[str]) -> None:
    addresses.parse(url)
    known = events.every()
    for pattern in patterns:
        if not any(fits(pattern, action) for action in known):
            raise BadRequest(f"no event is called `{pattern}`; the page `events` lists them", param="events")
