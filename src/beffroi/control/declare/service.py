# SPDX-License-Identifier: Apache-2.0
"""Plans, applies and exports tenants. Blocking, in one transaction: an `apply` is done whole, or not at all.

In: a scope, a document. Out: a plan; what was done; a document. A plan that was looked at names what was there then: when
something else is there, the `apply` is refused, and nothing is changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from beffroi.config import tenants
from beffroi.config.declaration import Declaration
from beffroi.config.problems import dotted
from beffroi.config.tenants import Told
from beffroi.control.declare import held
from beffroi.control.declare.diff import Change, Difference, Obstacle, compare, fingerprint
from beffroi.control.declare.making import TENANTS, Kind, Work, make
from beffroi.control.declare.making_keys import KEYS
from beffroi.control.declare.making_quotas import LIMITS
from beffroi.control.declare.references import missing
from beffroi.control.declare.shapes import Applied, ApplyAsk, ChangeShown, Fault, PlanAsk, PlanShown
from beffroi.control.declare.state import HOUSE, Thing, wanted
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest, PermissionDenied, PreconditionFailed
from beffroi.core.snapshot import Config

MAKING: dict[str, Kind] = {**TENANTS, **KEYS, **LIMITS}
_MOST = 5  # faults that one sentence tells
CHANGES = 1_000  # of one apply: it is one transaction, and other writers wait for it (5 ms a change), revocations too


class Planned(msgspec.Struct, frozen=True):
    """A plan, the difference that it shows, and where keys go, by what they are called."""

    shown: PlanShown
    difference: Difference
    secrets: dict[str, str] = {}


def plan(scope: Scope, ask: PlanAsk, config: Config, now: int) -> Planned:
    """What an `apply` of the document would do in the scope, which is one of the actor's organisation or of all.

    Raises:
        PermissionDenied: the document speaks of another organisation than the actor's.
    """
    told = tenants.take(ask.document)
    if told.problems:
        return _faulty(told)
    zone = config.settings.time_zone
    things = wanted(_resolved(told.declaration, config), zone)
    _must_reach(scope, things)
    there = _there(scope, things, now)
    models = frozenset(model.id for model in config.models)
    difference = compare(things, there, prune=ask.prune, adopt=ask.adopt, operator=scope.actor.organisation == EVERY)
    obstacles = (*difference.obstacles, *missing(things, there, models))
    secrets = _secrets(told.declaration)
    creates = {change.thing.label for change in difference.changes if change.act == "create"}
    shown = PlanShown(
        base=fingerprint(there),
        changes=tuple(_shown(change) for change in difference.changes),
        faults=tuple(_fault(one) for one in obstacles),
        unchanged=difference.unchanged,
        by_hand=difference.by_hand,
        left=difference.left,
        secrets_to=tuple(to for label, to in secrets.items() if label in creates),
    )
    return Planned(shown, difference, secrets)


def apply(scope: Scope, ask: ApplyAsk, work: Work) -> Applied:
    """Do it. The scope keeps for `apply`.

    Raises:
        BadRequest: the document has faults. PreconditionFailed: something else is there than what the plan was made from.
        And what the services raise; whoever brings the transaction undoes all.
    """
    planned = plan(scope, ask, work.config, work.now)
    if planned.shown.faults:
        told = "; ".join(f"{dotted(fault.place)}: {fault.message}" for fault in planned.shown.faults[:_MOST])
        raise BadRequest(f"{len(planned.shown.faults)} faults: {told}", param="document")
    if ask.base is not None and ask.base != planned.shown.base:
        raise PreconditionFailed("something was changed since the plan was made; look at a new plan", param="base")
    if (count := len(planned.difference.changes)) > CHANGES:
        raise BadRequest(
            f"{count} changes are more than one apply takes ({CHANGES}); apply the file in parts", param="document"
        )
    work.secrets_to = planned.secrets
    for change in planned.difference.changes:
        with within(scope, change) as inner:
            make(work, inner, change, MAKING)
    return Applied(planned.shown.changes, tuple(work.secrets), planned.shown.unchanged)


@contextmanager
def within(scope: Scope, change: Change) -> Iterator[Scope]:
    """The scope in which a change is made: that of its organisation; of all, where an organisation is made."""
    thing = change.thing
    made = thing.ref.kind == "organisation" and change.held is None
    if made or scope.organisation == thing.ref.organisation:
        yield scope
        return
    with scope.within(thing.ref.organisation) as inner:
        yield inner


def _must_reach(scope: Scope, things: Sequence[Thing]) -> None:
    for thing in things:
        if scope.actor.organisation not in (EVERY, thing.ref.organisation):
            whose = "the house" if thing.ref.organisation == HOUSE else f"the organisation `{thing.ref.organisation}`"
            mine = scope.actor.organisation
            raise PermissionDenied(f"the file speaks of {whose}, and {scope.actor.name} may act in `{mine}` alone")


def _there(scope: Scope, things: Sequence[Thing], now: int) -> list[Thing]:
    found: list[Thing] = []
    for organisation in sorted({thing.ref.organisation for thing in things}):
        if organisation == HOUSE:
            found += held.tiers_of_house(scope)
        elif organisation == scope.organisation:
            found += held.there(scope, now)
        else:
            with scope.within(organisation) as inner:
                found += held.there(inner, now)
    if HOUSE not in {thing.ref.organisation for thing in things}:
        found += held.tiers_of_house(scope)
    return found


def _resolved(declaration: Declaration, config: Config) -> Declaration:
    """The same with models by their ids: an alias in a file means the model."""
    ids = {alias: model.id for model in config.models for alias in model.aliases}

    def by_id(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else tuple(ids.get(name, name) for name in names)

    replace = msgspec.structs.replace
    organisations = tuple(
        replace(
            one,
            keys=tuple(replace(key, models=by_id(key.models)) for key in one.keys),
            systems=tuple(replace(system, models=by_id(system.models)) for system in one.systems),
            quotas=tuple(replace(quota, model=ids.get(quota.model, quota.model)) for quota in one.quotas),
        )
        for one in declaration.organisations
    )
    return replace(declaration, organisations=organisations)


def _secrets(declaration: Declaration) -> dict[str, str]:
    """Where the keys go, by what they are called."""
    found: dict[str, str] = {}
    for one in declaration.organisations:
        found |= {f"key {one.id}/{key.project}/{key.name}": key.secret_to for key in one.keys if key.secret_to}
        found |= {f"webhook {one.id}/{hook.url}": hook.secret_to for hook in one.webhooks if hook.secret_to}
    return found


def _shown(change: Change) -> ChangeShown:
    return ChangeShown(change.act, change.thing.ref.kind, str(change.thing.ref), change.fields, change.adopted)


def _fault(obstacle: Obstacle) -> Fault:
    return Fault(obstacle.place, obstacle.message, obstacle.remedy)


def _faulty(told: Told) -> Planned:
    """Faults of the document itself: those who send it by hand have not had them told."""
    faults = tuple(Fault((problem.name,), problem.message, problem.remedy) for problem in told.problems)
    return Planned(PlanShown("", (), faults, 0, 0, 0, ()), Difference((), (), 0, 0, 0))
