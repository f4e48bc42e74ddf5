# SPDX-License-Identifier: Apache-2.0
"""Tiers by date and quotas on scopes, on both backings: what is made, what gateways are told of it, what is refused."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select

from beffroi.control.keyshapes import LimitsAsk
from beffroi.control.quotas import service, tiers
from beffroi.control.quotas.compiling import records
from beffroi.control.quotas.shapes import TERMS, Assign, Quota, QuotaAsk, QuotaChange, TermAsk, TierAsk
from beffroi.control.quotas.shipped import TIERS, ship
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import EVERY, SOCKET, Actor, Scope, acting, looking
from beffroi.core.errors import (
    BadRequest,
    Conflict,
    KeyNotFound,
    ModelNotFound,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
)
from beffroi.core.money import NANO
from beffroi.core.snapshot import Config, Dated, Limits, ModelSpec, QuotaRecord, Settings
from beffroi.store.administration import changes
from beffroi.store.administration import tiers as table_of_tiers
from beffroi.store.tables import keys

OWNER = Actor("mem_o", "olga", Role.OWNER, "a")
LEAD = Actor("mem_l", "lea", Role.ADMIN, "a", project="p")
VIEWER = Actor("mem_v", "vera", Role.VIEWER, "a")
OTHER = Actor("mem_b", "ben", Role.OWNER, "b")
CONFIG = Config(1, Settings(), (), (ModelSpec(id="m", aliases=("n",), targets=()),))
JUNE = int(datetime(2025, 6, 5, tzinfo=UTC).timestamp())
SOON = int(time.time()) + 86_400


def when(asked: str | int | None, _: str) -> int:
    """Seconds as they are."""
    return int(asked or 0)


def begun(_: int) -> None:
    """No counters here."""


def act(engine: Engine, actor: Actor, do: Callable[[Scope], Any], organisation: str = "a") -> Any:
    """One act of somebody."""
    with acting(engine, actor, organisation) as scope:
        return do(scope)


def limit(engine: Engine, actor: Actor = OWNER, organisation: str = "a", **ask: Any) -> Quota:
    """A quota."""
    made: Quota = act(
        engine, actor, lambda scope: service.create(scope, QuotaAsk(**ask), CONFIG, when, begun), organisation
    )
    return made


def told(engine: Engine) -> dict[str, QuotaRecord]:
    """All that gateways would know."""
    with looking(engine, SOCKET, EVERY) as scope:
        return {record.id: record for record in records(scope)}


def a_key(engine: Engine, organisation: str = "a") -> str:
    """A row of `keys`."""
    row = {
        "id": f"key_{organisation}", "public": organisation * 12, "hash": b"h", "pepper_id": 1, "slot": 7, "name": "bot",
        "organisation": organisation, "project": "p", "limits": {}, "created_at": 0, "created_by": "x", "revoked": False,
    }  # fmt: skip
    with acting(engine, SOCKET, organisation) as scope:
        scope.connection.execute(insert(keys).values(row))
    return str(row["id"])


def test_the_tiers_of_the_reference_service_are_there_from_the_first_start(shipped: Engine) -> None:
    """Its figures, from 2025-06-05; a second start adds nothing."""
    ship(shipped)
    with looking(shipped, OWNER, "a") as scope:
        found = {name: tiers.find(scope, name) for name in ("tier-1", "tier-2", "tier-3", "tier-4", "monthly")}
    assert all(len(versions) == 1 and versions[0].effective_at == JUNE for versions in found.values())
    shown = {
        name: (
            tier.credit_nano and tier.credit_nano // NANO,
            tier.limits.monthly_cap and tier.limits.monthly_cap // NANO,
            tier.limits.output_tokens_per_hour,
            tier.limits.output_tokens_per_day,
        )
        for name, (tier,) in found.items()
    }
    assert shown == {
        "tier-1": (200, 1_000, 150_000, 3_600_000),
        "tier-2": (500, 3_000, 300_000, 7_200_000),
        "tier-3": (1_000, 5_000, 450_000, 10_800_000),
        "tier-4": (4_000, 10_000, 600_000, 14_400_000),
        "monthly": (None, None, None, None),
    }


def test_an_organisation_is_given_a_tier_from_a_day_and_another_from_a_later_day(shipped: Engine) -> None:
    """One quota with two terms; who is given a third for the same day has the last."""
    first = act(shipped, SOCKET, lambda s: service.assign(s, "tier-1", Assign(), CONFIG, when, begun))
    for name in ("tier-3", "tier-2"):
        again = act(shipped, SOCKET, lambda s, n=name: service.assign(s, n, Assign(since=SOON), CONFIG, when, begun))
        assert again.id == first.id
    record = told(shipped)[first.id]
    assert [(term.tier, term.limits.output_tokens_per_hour) for term in record.terms] == [
        ("tier-1@1", 150_000), ("tier-2@1", 300_000),
    ]  # fmt: skip
    assert record.terms[1].since == SOON
    assert (record.organisation, record.project, record.model) == ("a", "", "")
    assert again.in_force is not None
    assert again.in_force.tier == "tier-1@1"
    assert again.scope == "organisation a"


def test_what_an_operator_has_set_the_organisation_cannot_change(shipped: Engine) -> None:
    """Its own limits it can."""
    made = act(shipped, SOCKET, lambda s: service.assign(s, "tier-1", Assign(), CONFIG, when, begun))
    assert made.managed_by == "house"
    for do in (
        lambda s: service.change(s, made.id, QuotaChange(name="x"), when),
        lambda s: service.remove(s, made.id),
    ):
        with pytest.raises(PermissionDenied, match="operator"):
            act(shipped, OWNER, do)
    act(shipped, SOCKET, lambda s: service.change(s, made.id, QuotaChange(name="ours"), when))
    own = limit(shipped, project="p", limits=LimitsAsk(concurrency=3))
    act(shipped, OWNER, lambda s: service.remove(s, own.id))
    assert set(told(shipped)) == {made.id}


def test_an_organisation_cannot_widen_a_tier_that_the_operator_gave_it_by_a_tier_of_its_own(shipped: Engine) -> None:
    """Whether it makes one of that name before or after; where there is no other of the name, it cannot change it."""
    wide = LimitsAsk(output_tokens_per_hour=10**9)
    act(shipped, OWNER, lambda s: tiers.create(s, TierAsk(name="tier-1", limits=wide), when))
    made = act(shipped, SOCKET, lambda s: service.assign(s, "tier-1", Assign(since=JUNE), CONFIG, when, begun))
    act(shipped, OWNER, lambda s: tiers.create(s, TierAsk(name="tier-1", limits=wide), when))
    assert [term.limits.output_tokens_per_hour for term in told(shipped)[made.id].terms] == [150_000]
    assert made.in_force is not None and made.in_force.limits.output_tokens_per_hour == 150_000
    act(shipped, OWNER, lambda s: tiers.create(s, TierAsk(name="ours", limits=LimitsAsk(concurrency=2)), when))
    act(shipped, SOCKET, lambda s: service.assign(s, "ours", Assign(since=JUNE), CONFIG, when, begun))
    for do in (
        lambda s: tiers.create(s, TierAsk(name="ours", limits=wide), when),
        lambda s: tiers.remove(s, "ours", 1),
    ):
        with pytest.raises(PermissionDenied, match="operator"):
            act(shipped, OWNER, do)


def test_terms_put_in_one_by_one_are_as_many_at_most_as_those_given_at_once(shipped: Engine) -> None:
    """Every worker holds them all."""
    made = limit(shipped, terms=[TermAsk(since=at, limits=LimitsAsk(concurrency=1)) for at in range(TERMS)])
    more = QuotaChange(add=TermAsk(since=TERMS, limits=LimitsAsk(concurrency=1)))
    with pytest.raises(BadRequest, match="at most"):
        act(shipped, OWNER, lambda s: service.change(s, made.id, more, when))


def test_what_an_operator_limits_is_his_though_the_organisation_made_the_quota(shipped: Engine) -> None:
    """Or whoever makes one for himself first could take away whatever he is given later."""
    own = limit(shipped, limits=LimitsAsk(concurrency=500))
    given = act(shipped, SOCKET, lambda s: service.assign(s, "tier-1", Assign(since=JUNE), CONFIG, when, begun))
    assert (given.id, given.managed_by) == (own.id, "house")
    with pytest.raises(PermissionDenied, match="operator"):
        act(shipped, OWNER, lambda s: service.remove(s, own.id))


def test_a_tier_s_next_version_reaches_every_quota_that_names_it_on_its_day(shipped: Engine) -> None:
    """The one of before holds until then; a version of the organisation's own goes before the house's."""
    made = limit(shipped, tier="tier-1")
    next_ = TierAsk(name="tier-1", effective=SOON, limits=LimitsAsk(output_tokens_per_hour=9))
    _, changed = act(shipped, SOCKET, lambda s: tiers.create(s, next_, when), EVERY)
    assert changed == [made.id]
    assert [(term.since, term.limits.output_tokens_per_hour) for term in told(shipped)[made.id].terms] == [
        (0, None), (JUNE, 150_000), (SOON, 9),
    ]  # fmt: skip
    own = TierAsk(name="tier-1", limits=LimitsAsk(concurrency=4), credit="12.50", title="Ours")
    tier, changed = act(shipped, OWNER, lambda s: tiers.create(s, own, when))
    assert (tier.organisation, tier.version, tier.state, tier.credit_nano) == ("a", 1, "in force", 12_500_000_000)
    assert changed == [made.id]
    assert told(shipped)[made.id].terms == (Dated(0, Limits(concurrency=4), "tier-1@1"),)


def test_a_version_that_has_been_in_force_stays_and_one_to_come_can_be_taken_back(shipped: Engine) -> None:
    """What was allowed can be read for ever."""
    limit(shipped, tier="tier-2")
    coming = TierAsk(name="tier-2", effective=SOON, limits=LimitsAsk(concurrency=1))
    act(shipped, SOCKET, lambda s: tiers.create(s, coming, when), EVERY)
    with pytest.raises(Conflict, match="in force"):
        act(shipped, SOCKET, lambda s: tiers.remove(s, "tier-2", 1), EVERY)
    act(shipped, SOCKET, lambda s: tiers.remove(s, "tier-2", 2), EVERY)
    with pytest.raises(ObjectNotFound):
        act(shipped, OWNER, lambda s: tiers.remove(s, "tier-2", 1))


def test_a_version_with_the_same_moment_takes_the_place_of_the_one_before(shipped: Engine) -> None:
    """Both can be read."""
    again = TierAsk(name="tier-1", effective=JUNE, limits=LimitsAsk(concurrency=2))
    act(shipped, SOCKET, lambda s: tiers.create(s, again, when), EVERY)
    with looking(shipped, OWNER, "a") as scope:
        assert [(tier.version, tier.state) for tier in tiers.find(scope, "tier-1")] == [
            (1, "replaced"),
            (2, "in force"),
        ]
    made = limit(shipped, tier="tier-1")
    assert told(shipped)[made.id].terms[-1].limits == Limits(concurrency=2)


def test_a_quota_says_whom_it_counts(shipped: Engine) -> None:
    """Project, key and model by whatever name; every scope has one quota at most."""
    key = a_key(shipped)
    made = limit(shipped, key="bot", model="n", limits=LimitsAsk(requests_per_day=5, hard_budget="1.50"))
    assert (made.key, made.project, made.model, made.scope) == (
        key, "p", "m", "model m in this key in project p in organisation a",
    )  # fmt: skip
    record = told(shipped)[made.id]
    assert (record.key_slot, record.slot) == (7, 8)
    assert record.terms == (Dated(0, Limits(requests_per_day=5, hard_budget=1_500_000_000)),)
    with pytest.raises(Conflict, match=made.id):
        limit(shipped, key=key, model="m", limits=LimitsAsk(concurrency=1))
    assert limit(shipped, key=key, model="m", each_end_user=True, limits=LimitsAsk(concurrency=1)).id != made.id


def test_a_quota_of_the_house_is_made_by_an_operator_and_counts_everybody(shipped: Engine) -> None:
    """Its record has no organisation."""
    made = limit(shipped, SOCKET, EVERY, model="m", limits=LimitsAsk(concurrency=9))
    assert (told(shipped)[made.id].organisation, made.scope) == ("", "model m")
    with looking(shipped, OWNER, "a") as scope, pytest.raises(ObjectNotFound):
        scope.find(service.quotas, made.id, "quota")


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        ({"tier": "gold"}, ObjectNotFound),
        ({"tier": "tier-1", "limits": LimitsAsk(concurrency=1)}, BadRequest),
        ({"terms": [TermAsk(since=5, tier="tier-1"), TermAsk(since=5)]}, BadRequest),
        ({"model": "zzz"}, ModelNotFound),
        ({"key": "nobody"}, KeyNotFound),
        ({"project": "zzz"}, ObjectNotFound),
        ({"limits": LimitsAsk(hard_budget="a lot")}, BadRequest),
        ({"each_end_user": True, "limits": LimitsAsk(hard_budget="1", budget_period="total")}, BadRequest),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_makes_no_sense_is_refused_and_nothing_of_it_stays(
    shipped: Engine, ask: dict[str, Any], error: Any
) -> None:
    """Nor does a slot go to waste in the snapshot."""
    with pytest.raises(error):
        limit(shipped, **ask)
    assert told(shipped) == {}


def test_roles_and_projects_hold_here_too(shipped: Engine) -> None:
    """A viewer changes nothing, a lead acts in one project, another organisation sees nothing."""
    with pytest.raises(PermissionDenied):
        limit(shipped, VIEWER, limits=LimitsAsk(concurrency=1))
    made = limit(shipped, LEAD, limits=LimitsAsk(concurrency=1))
    assert made.project == "p"
    with pytest.raises(PermissionDenied):
        limit(shipped, LEAD, project="q", limits=LimitsAsk(concurrency=1))
    with pytest.raises(PermissionDenied):
        act(shipped, OWNER, lambda s: tiers.create(s, TierAsk(name="x"), when), EVERY)
    with pytest.raises(ObjectNotFound):
        act(shipped, OTHER, lambda s: service.remove(s, made.id), "b")


def heard_of(engine: Engine, quota: str) -> int:
    """How often gateways were to look at it."""
    with looking(engine, SOCKET, EVERY) as scope:
        those = select(func.count()).where(changes.c.kind == "quota", changes.c.subject == quota)
        return scope.connection.scalar(those) or 0


def test_a_change_keeps_its_slot_and_says_what_was_before(shipped: Engine) -> None:
    """If-Match is obeyed; doing it twice is as good as once; gateways are to look again."""
    made = limit(shipped, limits=LimitsAsk(concurrency=1))
    slot = told(shipped)[made.id].slot
    change = QuotaChange(terms=[TermAsk(limits=LimitsAsk(concurrency=2)), TermAsk(since=SOON, tier="tier-4")])
    before = heard_of(shipped, made.id)
    after = act(shipped, OWNER, lambda s: service.change(s, made.id, change, when, if_match=0))
    assert heard_of(shipped, made.id) > before
    again = act(shipped, OWNER, lambda s: service.change(s, made.id, change, when, if_match=1))
    assert (after.revision, again.revision) == (1, 1)
    record = told(shipped)[made.id]
    assert record.slot == slot
    assert [term.tier for term in record.terms] == ["", "tier-4@1"]
    with pytest.raises(PreconditionFailed):
        act(shipped, OWNER, lambda s: service.change(s, made.id, QuotaChange(name="x"), when, if_match=0))


def test_tiers_shipped_are_as_many_rows(shipped: Engine) -> None:
    """And of the house."""
    with looking(shipped, SOCKET, EVERY) as scope:
        rows = scope.connection.execute(scope.select(table_of_tiers)).all()
    assert {row.organisation for row in rows} == {EVERY}
    assert len(rows) == len(TIERS)
