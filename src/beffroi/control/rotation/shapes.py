# SPDX-License-Identifier: Apache-2.0
"""What is said of rotations: a schedule, where successors go, and a rotation as it is shown.

In: JSON of keys, policies and tables. Out: structs.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

DAY = 86_400
MONTH = 30 * DAY
_Mail = Annotated[str, Meta(max_length=200, pattern=r"^[^\s@,;<>]+@[^\s@,;<>]+$")]


class Delivery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Where a successor goes.

    Attributes:
        store: a secret store of the configuration; empty: a one-time link.
        path, field: where in the store.
    """

    store: Annotated[str, Meta(max_length=64)] = ""
    path: Annotated[str, Meta(max_length=500)] = ""
    field: Annotated[str, Meta(max_length=128)] = "api_key"


class Schedule(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """When a key gets a successor, and how the old one ends.

    Attributes:
        every_days: from the making of a key to that of its successor; earlier where the key would expire before.
        notice_seconds: how long before it is announced.
        overlap_seconds: from the delivery of the successor to the end of the old key at the latest.
        idle_seconds: the old key ends earlier once nobody used it for that long; None: not earlier.
        link_seconds: how long a one-time link lives.
        mail: who is told of each step, and sent the link.
    """

    every_days: Annotated[int, Meta(ge=1, le=366)]
    notice_seconds: Annotated[int, Meta(ge=0, le=MONTH)] = 7 * DAY
    overlap_seconds: Annotated[int, Meta(ge=0, le=MONTH)] = 7 * DAY
    idle_seconds: Annotated[int, Meta(ge=300, le=MONTH)] | None = DAY
    link_seconds: Annotated[int, Meta(ge=300, le=MONTH)] = 3 * DAY
    delivery: Delivery = Delivery()
    mail: Annotated[tuple[_Mail, ...], Meta(max_length=10)] = ()


OPEN = ("announced", "made", "overlap")


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A rotation as it is shown.

    Attributes:
        state: `announced`: nothing has changed yet; `made`: the successor is on its way, the old key as it was; `overlap`:
            it was delivered, both are accepted; `ended`: the old key is refused; `cancelled`: `fault` says why.
        due_at: when the successor is made; ends_at: when the old key ends at the latest; next_at: when it is looked at
            again; None: not any more.
        fault: why the last try came to nothing; `attempts` of them in a row.
        link_until: until when a link can be fetched; None: there is none.
    """

    id: str
    organisation: str
    project: str
    key_id: str
    successor: str
    state: str
    due_at: int
    ends_at: int | None
    next_at: int | None
    plan: Any
    attempts: int
    fault: str
    link_until: int | None
    fetched_at: int | None
    created_at: int
    revision: int
