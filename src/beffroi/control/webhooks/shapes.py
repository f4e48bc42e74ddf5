# SPDX-License-Identifier: Apache-2.0
"""Webhooks as the admin API has them.

In: nothing. Out: structs.
"""

from typing import Annotated, Any, Literal

import msgspec

from beffroi.control.webhooks.addresses import LONGEST

_PART = r"(\*|[a-z]+(-[a-z]+)*)"
Url = Annotated[str, msgspec.Meta(min_length=8, max_length=LONGEST, pattern=r"^https?://[!-~]+$")]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=rf"^{_PART}(:{_PART}){{0,2}}$")]
Patterns = Annotated[list[Pattern], msgspec.Meta(min_length=1, max_length=50)]


class WebhookAsk(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A new webhook. `events`: actions of the list of events, `*` for any part of one, or `*` for all."""

    url: Url
    events: Patterns = msgspec.field(default_factory=lambda: ["*"])


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What shall be otherwise; the rest stays. `state`: `active` begins anew after a fault, `disabled` drops what waits."""

    url: Url | None = None
    events: Patterns | None = None
    state: Literal["active", "disabled"] | None = None


class Webhook(msgspec.Struct, frozen=True):
    """A webhook.

    Attributes:
        failing_since: Unix seconds of the first failure since the last delivery that was taken.
        fault: of the last delivery, where it was not taken.
    """

    id: str
    organisation: str
    url: str
    events: list[str]
    state: str
    failing_since: int | None
    fault: str
    created_at: int
    managed_by: str
    revision: int


class Made(Webhook, frozen=True, kw_only=True):
    """A webhook with the secret of its signatures, shown this once."""

    secret: str


class Delivery(msgspec.Struct, frozen=True):
    """What waits to be told. `id` is the `webhook-id`; `next_at`: when it is tried again."""

    id: str
    webhook: str
    event: str
    payload: Any
    attempts: int
    next_at: int
    created_at: int
    fault: str


class Tested(msgspec.Struct, frozen=True):
    """What came of a test. `status` is null where nothing was answered; `fault` is empty where it was taken."""

    delivered: bool
    delivery: str
    status: int | None
    fault: str
    milliseconds: int
