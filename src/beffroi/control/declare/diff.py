# SPDX-License-Identifier: Apache-2.0
"""What it takes to make what is there what a file wants: a pure function of the two.

In: things wanted, things there. Out: changes in an order in which each can be made, and what stands in the way.
What a file does not name is left alone; with `prune`, what an earlier `apply` made in the organisations that the file
names, and the file names no longer, is taken away.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from beffroi.config.problems import Place
from beffroi.control.declare.state import HOUSE, KINDS, Thing

Act = Literal["create", "update", "delete"]
APPLY = "apply"
APPLY_HOUSE = "apply:house"  # a quota that the operator applied: an organisation's own files cannot change it
HOUSE_KEPT = "house"  # a quota that the operator set by hand
_KEPT = {
    "file": ("is kept by the configuration file", "take it out of one of the two files"),
    HOUSE_KEPT: ("was set by the operator of the installation", "ask there to change it, and take it out here"),
    APPLY_HOUSE: ("was set by the operator of the installation", "ask there to change it, and take it out here"),
}
_NOT_ADOPTED = frozenset({"tier"})  # its versions are not changed, new ones are made
_USUAL = {"policy.max_key_days": 365, "policy.rotation_overlap_hours": 24, "limits.budget_period": "month"}
_PRUNED = frozenset({"project"})  # these are never deleted, what was used in them is in the ledger: they are suspended
_encoder = msgspec.json.Encoder(order="deterministic")


class Field(msgspec.Struct, frozen=True):
    """One field that changes."""

    name: str
    before: Any = None
    after: Any = None


class Change(msgspec.Struct, frozen=True):
    """One change. `wanted` is what the file says, `held` what is there; one of them is None at a creation or deletion.

    Attributes:
        adopted: it was kept by hand, and is kept by `apply` from now on.
    """

    act: Act
    fields: tuple[Field, ...]
    wanted: Thing | None = None
    held: Thing | None = None
    adopted: bool = False

    @property
    def thing(self) -> Thing:
        """The one, or the other."""
        found = self.wanted if self.wanted is not None else self.held
        if found is None:
            raise ValueError("a change is of something")
        return found


class Obstacle(msgspec.Struct, frozen=True):
    """Why something cannot be made so, with the place in the file."""

    place: Place
    message: str
    remedy: str


class Difference(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        unchanged: how many things are as the file wants them; by_hand: how many that it declares are kept by hand.
        left: how many `prune` would take away.
    """

    changes: tuple[Change, ...]
    obstacles: tuple[Obstacle, ...]
    unchanged: int
    by_hand: int
    left: int


def compare(
    wanted: Sequence[Thing],
    held: Sequence[Thing],
    *,
    prune: bool = False,
    adopt: bool = False,
    operator: bool = False,
) -> Difference:
    """The difference.

    Args:
        adopt: what was made by hand is kept by `apply` from then on; operator: he may change what he has set.
    """
    mine = (APPLY, APPLY_HOUSE) if operator else (APPLY,)
    may = ("", *mine, HOUSE_KEPT) if operator else ("", *mine)
    there = {thing.ref: thing for thing in held}
    named = {thing.ref for thing in wanted}
    changes: list[Change] = []
    obstacles: list[Obstacle] = []
    unchanged = 0
    gone = [thing for thing in _orphans(wanted, held, mine) if thing.ref not in named]
    if prune:
        changes += [_removal(thing) for thing in reversed(_in_order(gone))]
    for thing in _in_order(wanted):
        before = there.get(thing.ref)
        change = _change(thing, before, adopt=adopt and before is not None and before.managed_by in ("", HOUSE_KEPT))
        if change is None:
            unchanged += 1
        elif before is not None and before.managed_by not in may:
            said, remedy = _KEPT.get(before.managed_by, _KEPT["file"])
            obstacles.append(Obstacle(thing.place, f"the {thing.label} {said}", remedy))
        else:
            changes.append(change)
    by_hand = 0 if adopt else sum(thing.managed_by == "" for thing in held if thing.ref in named)
    return Difference(tuple(changes), tuple(obstacles), unchanged, by_hand, 0 if prune else len(gone))


def _in_order(things: Iterable[Thing]) -> list[Thing]:
    return sorted(things, key=lambda thing: KINDS.index(thing.ref.kind))


def _orphans(wanted: Sequence[Thing], held: Sequence[Thing], mine: tuple[str, ...]) -> list[Thing]:
    """What `apply` keeps where this file speaks: in the organisations that it names, and tiers of the house if it has any."""
    spoken = {thing.ref.organisation for thing in wanted}
    return [
        thing
        for thing in held
        if thing.managed_by in mine
        and thing.ref.organisation in spoken
        and (thing.ref.organisation == HOUSE or thing.ref.kind != "organisation")
        and not (thing.ref.kind in _PRUNED and thing.fields["state"] == "suspended")
    ]


def _removal(thing: Thing) -> Change:
    if thing.ref.kind in _PRUNED:
        after = msgspec.structs.replace(thing, fields={**thing.fields, "state": "suspended"})
        return Change("update", (Field("state", "active", "suspended"),), after, thing)
    return Change("delete", (), held=thing)


def _change(wanted: Thing, held: Thing | None, *, adopt: bool) -> Change | None:
    if held is None:
        fields = tuple(Field(name, None, value) for name, value in wanted.fields.items() if not _nothing(name, value))
        return Change("create", fields, wanted)
    names = [
        *wanted.fields,
        *(name for name in held.fields if name.startswith("limits.") and name not in wanted.fields),
    ]
    fields = tuple(
        Field(name, held.fields.get(name), wanted.fields.get(name))
        for name in names
        if held.fields.get(name) != wanted.fields.get(name)
    )
    adopted = adopt and held.ref.kind not in _NOT_ADOPTED
    return Change("update", fields, wanted, held, adopted) if fields or adopted else None


def _nothing(name: str, value: Any) -> bool:
    """Whether a new thing need not say that: it is what everything new is."""
    return _USUAL.get(name) == value or value is None or value in ("", "active", [], {})


def fingerprint(held: Iterable[Thing]) -> str:
    """A sum over what was there when a plan was made: an `apply` that finds another one is refused."""
    rows = [
        [*thing.ref, thing.fields, thing.id, thing.revision, thing.managed_by]
        for thing in sorted(held, key=lambda one: one.ref)
    ]
    return hashlib.sha256(_encoder.encode(rows)).hexdigest()[:32]
