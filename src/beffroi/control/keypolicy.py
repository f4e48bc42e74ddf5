# SPDX-License-Identifier: Apache-2.0
"""What an organisation's policy says of its keys: how long they may live, and when they are rotated.

In: `organisations.policy`. Out: a `KeyPolicy`; what a policy leaves out is twelve months and no rotation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from beffroi.control.rotation.shapes import Schedule
from beffroi.control.tenancy.scope import Scope
from beffroi.store.tables import organisations


class KeyPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What keys must obey. `max_key_days`: None: they may live for ever; `rotation`: of every key without its own."""

    max_key_days: Annotated[int, Meta(ge=1, le=36_500)] | None = 366
    rotation: Schedule | None = None


def policy_of(scope: Scope) -> KeyPolicy:
    """The policy of the scope's organisation."""
    kept = scope.connection.scalar(scope.select(organisations, organisations.c.policy))
    return msgspec.convert(kept or {}, KeyPolicy)
