# SPDX-License-Identifier: Apache-2.0
"""What is asked and answered of plans: the bodies of `/plan`, `/apply` and `/export`.

In: JSON. Out: structs. Keys that an `apply` made are in its answer, this once, and nowhere else.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from beffroi.control.declare.diff import Act, Field


class PlanAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of tenants as plain data.

    Attributes:
        prune: whether what an earlier `apply` made and the document names no longer is to go.
        adopt: whether what it declares and was made by hand is kept by `apply` from then on.
    """

    document: dict[str, Any]
    prune: bool = False
    adopt: bool = False


class ApplyAsk(PlanAsk, frozen=True, forbid_unknown_fields=True):
    """The same. `base`: that of the plan which somebody looked at; None: whatever is there."""

    base: Annotated[str, Meta(max_length=64)] | None = None


class ChangeShown(msgspec.Struct, frozen=True):
    """One change. `adopted`: it was kept by hand, and is kept by `apply` from then on."""

    act: Act
    kind: str
    name: str
    fields: tuple[Field, ...] = ()
    adopted: bool = False


class Fault(msgspec.Struct, frozen=True):
    """Why the file cannot be applied: the place in it, as the names and numbers that lead there."""

    place: tuple[str | int, ...]
    message: str
    remedy: str


class PlanShown(msgspec.Struct, frozen=True):
    """What an `apply` would do.

    Attributes:
        base: what was there; an `apply` that finds something else is refused.
        unchanged: things that are as declared; by_hand: declared things that are kept by hand.
        left: things that `prune` would take away.
        secrets_to: files that will be written, for those who write them.
    """

    base: str
    changes: tuple[ChangeShown, ...]
    faults: tuple[Fault, ...]
    unchanged: int
    by_hand: int
    left: int
    secrets_to: tuple[str, ...]


class Secret(msgspec.Struct, frozen=True):
    """A key just made. `secret_to`: where the file wants it."""

    kind: str
    name: str
    id: str
    key: str
    secret_to: str | None = None


class Applied(msgspec.Struct, frozen=True):
    """What was done. `waiting`: workers that do not know of it yet."""

    changes: tuple[ChangeShown, ...]
    secrets: tuple[Secret, ...]
    unchanged: int
    waiting: tuple[int, ...] = ()


class Exported(msgspec.Struct, frozen=True):
    """A file of tenants as plain data."""

    document: dict[str, Any]
