# SPDX-License-Identifier: Apache-2.0
"""Keys are made with permissions and changed: what the gateway is told, what is refused, what is recorded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, update

from beffroi.control.keys import By
from beffroi.control.keyshapes import KeyAsk, KeyChange, LimitsAsk, RotateAsk, networks
from beffroi.control.slots import next_slot
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import SOCKET, Actor, acting
from beffroi.core.errors import BadRequest, Conflict, KeyNotFound, ObjectNotFound, PermissionDenied, PreconditionFailed
from beffroi.core.state import load_keys
from beffroi.store.administration import ai_systems, quotas
from beffroi.store.tables import keys, organisations
from tests.control.rotation.rig import BY, DAY, Rig, plan
from tests.control.test_budgets import filled

pytestmark = pytest.mark.anyio
OWNER = By(Actor("adk_1", "owner", Role.OWNER, "default"), "default")


@pytest.fixture
def rig(tmp_path: Path, place: Path | str) -> Iterator[Rig]:
    """The service of keys, over either kind of database."""
    rig = Rig(tmp_path, place=place)
    yield rig
    rig.close()


async def change(rig: Rig, key: str, *, by: By = BY, if_match: int | None = None, **what: Any) -> Any:
    """Change a key, as a body would say it."""
    return await rig.service.change(key, msgspec.convert(what, KeyChange), by, if_match)


def known(rig: Rig, key: str) -> Any:
    """A key as workers know it."""
    return next(each for each in load_keys(rig.data).keys if each.id == key)


async def test_a_budget_given_to_a_key_finds_what_the_key_has_spent_in_its_period(rig: Rig) -> None:
    """Or it would begin at nothing, and jump to the ledger's sum when control is next started."""
    key, _ = await rig.key()
    other, _ = await rig.key(name="other")
    month = 40 * DAY
    filled(rig.engine, (known(rig, key), 300, 0), (known(rig, key), 5000, month), (known(rig, other), 70, 0))
    shown = await change(rig, key, limits={"hard_budget": "1"})
    assert rig.budgets.spent([known(rig, key)])[key].spent == 300
    await change(rig, key, limits={"budget_period": "total"})
    await change(rig, other, limits={"requests_per_minute": 5})
    assert rig.budgets.spent([known(rig, key)])[key].spent == 5300
    assert shown.waiting == []


async def test_a_key_is_made_with_all_that_it_may(rig: Rig) -> None:
    """What was asked is what workers know; a successor has it too."""
    with rig.engine.begin() as connection:
        connection.execute(
            insert(ai_systems).values(
                id="sys_1", organisation="default", name="s", purpose="p", owner="o", models=[], created_at=1
            )
        )
    limits = {"requests_per_hour": 5, "input_tokens_per_day": 7, "monthly_cap": "12.5"}
    key, _ = await rig.key(
        plan(), models=["n"], endpoints=["chat", "models"], addresses=["10.0.0.0/8", "192.0.2.7"], system="sys_1",
        owner="team", limits=msgspec.convert(limits, LimitsAsk),
    )  # fmt: skip
    new = await rig.service.rotate(key, RotateAsk(60), BY)
    for each in (key, new.id):
        record = known(rig, each)
        assert (record.models, record.endpoints) == (frozenset("m"), frozenset(("chat", "models")))
        assert (record.addresses, record.system) == (("10.0.0.0/8", "192.0.2.7/32"), "sys_1")
        assert (record.limits.requests_per_hour, record.limits.monthly_cap) == (5, 12_500_000_000)
        assert (rig.row(each).owner, rig.row(each).rotation["every_days"]) == ("team", 90)


async def test_what_is_named_changes_and_nothing_else(rig: Rig) -> None:
    """Null takes away; a change that changes nothing is none."""
    key, _ = await rig.key(addresses=["10.0.0.0/8"], owner="x")
    shown = await change(rig, key, endpoints=["chat"], limits={"concurrency": 3})
    assert (shown.revision, shown.endpoints, shown.addresses, shown.owner) == (1, ["chat"], ["10.0.0.0/8"], "x")
    shown = await change(rig, key, addresses=None, endpoints=None, limits={"requests_per_minute": 9})
    assert (known(rig, key).addresses, known(rig, key).endpoints) == ((), None)
    assert (known(rig, key).limits.concurrency, known(rig, key).limits.requests_per_minute) == (3, 9)
    shown = await change(rig, key, limits={"concurrency": None})
    assert known(rig, key).limits.concurrency is None and shown.revision == 3
    assert (await change(rig, key, owner="x")).revision == 3
    sent = len(rig.workers.sent)
    await change(rig, key, owner="y")  # which workers need not know
    assert len(rig.workers.sent) == sent


async def test_a_change_is_an_event_with_what_was_and_what_is(rig: Rig) -> None:
    """Of what changed alone."""
    key, _ = await rig.key()
    await change(rig, key, name="other", owner="")
    from beffroi.store.engine import reading
    from beffroi.store.tables import events

    with reading(rig.engine) as connection:
        row = connection.execute(events.select().where(events.c.action == "cli:key:update")).one()
    assert (row.subject, row.before, row.after) == (key, {"name": "app"}, {"name": "other"})


async def test_who_changes_what_somebody_else_changed_is_told(rig: Rig) -> None:
    """By the revision that he saw."""
    key, _ = await rig.key()
    await change(rig, key, owner="a", if_match=0)
    with pytest.raises(PreconditionFailed):
        await change(rig, key, owner="b", if_match=0)
    with pytest.raises(PreconditionFailed):
        await change(rig, key, owner="a", if_match=0)
    assert rig.row(key).owner == "a"


async def test_a_key_that_a_file_keeps_is_changed_there(rig: Rig) -> None:
    """But revoked and rotated wherever it must be."""
    key, _ = await rig.key()
    with rig.engine.begin() as connection:
        connection.execute(update(keys).values(managed_by="file"))
    with pytest.raises(Conflict, match="configuration file"):
        await change(rig, key, owner="b")
    new = await rig.service.rotate(key, RotateAsk(60), BY)
    assert rig.row(new.id).managed_by == "file"
    await rig.service.revoke(new.id, BY)
    assert rig.row(key).revoked


async def test_a_key_lives_as_long_as_the_policy_says(rig: Rig) -> None:
    """Twelve months without one; longer for the operator alone, or where the policy says so."""
    key, _ = await rig.key()
    assert rig.row(key).expires_at - rig.row(key).created_at == 365 * DAY
    with pytest.raises(BadRequest, match="twelve months"):
        await rig.key(expires_in_days=400)
    with pytest.raises(PermissionDenied, match="max_key_days"):
        await rig.service.create(KeyAsk(name="k", long_lived=True), OWNER)
    with pytest.raises(PermissionDenied):
        await change(rig, key, by=OWNER, expires_in_days=None)
    assert rig.row((await rig.key(long_lived=True))[0]).expires_at is None
    with rig.engine.begin() as connection:
        connection.execute(update(organisations).values(policy={"max_key_days": 30}))
    made = await rig.service.create(KeyAsk(name="k"), OWNER)
    assert made.expires_at is not None and rig.row(made.id).expires_at - rig.row(made.id).created_at == 30 * DAY
    with pytest.raises(BadRequest, match="30 days"):
        await rig.service.create(KeyAsk(name="k", expires_in_days=40), OWNER)
    rig.age(made.id, 20)
    with pytest.raises(BadRequest):  # no life is made longer by changing it again and again
        await change(rig, made.id, by=OWNER, expires_in_days=30)
    assert (await change(rig, made.id, by=OWNER, expires_in_days=9)).revision == 1
    with rig.engine.begin() as connection:
        connection.execute(update(organisations).values(policy={"max_key_days": 3650}))
    assert await rig.service.create(KeyAsk(name="k", expires_in_days=3000), OWNER)


async def test_networks_lie_within_those_of_the_policy(rig: Rig) -> None:
    """A key without any gets them."""
    with rig.engine.begin() as connection:
        connection.execute(update(organisations).values(policy={"addresses": ["10.0.0.0/8", "2001:db8::/32"]}))
    key, _ = await rig.key()
    assert known(rig, key).addresses == ("10.0.0.0/8", "2001:db8::/32")
    assert known(rig, (await rig.key(addresses=["10.1.0.0/16"]))[0]).addresses == ("10.1.0.0/16",)
    with pytest.raises(BadRequest, match="lies outside"):
        await rig.key(addresses=["11.0.0.0/16"])
    with pytest.raises(BadRequest, match="lies outside"):
        await change(rig, key, addresses=["0.0.0.0/0"])


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1", "10.0.0.1/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("2001:DB8::/32", "2001:db8::/32")],
)
def test_a_network_has_one_spelling(text: str, found: str) -> None:
    """Each stands once."""
    assert networks([text, found]) == [found]


@pytest.mark.parametrize(("text", "said"), [("10.0.0.1/8", "did you mean 10.0.0.0/8"), ("home", "write one such as"), ("10.0.0.0/33", "write one")])  # fmt: skip
def test_what_is_no_network_is_refused_with_what_was_meant(text: str, said: str) -> None:
    """Bits beyond the length are a doubt, not a network."""
    with pytest.raises(BadRequest, match=said):
        networks([text])


async def test_what_does_not_exist_is_refused(rig: Rig) -> None:
    """A model, a project, an AI system, a store; and a key that is gone cannot be changed."""
    for ask, said in (
        ({"models": ["x"]}, "no model"),
        ({"project": "nowhere"}, "no project"),
        ({"system": "sys_x"}, "no AI system"),
    ):
        with pytest.raises(BadRequest, match=said):
            await rig.key(**ask)
    with pytest.raises(BadRequest, match="no secret store `x`"):
        await rig.key(plan(delivery={"store": "x", "path": "p"}))
    key, _ = await rig.key()
    with pytest.raises(BadRequest, match="no secret store `x`"):
        await change(rig, key, rotation={"every_days": 1, "delivery": {"store": "x", "path": "p"}})
    with pytest.raises(KeyNotFound):
        await change(rig, "key_x", owner="a")
    await rig.service.revoke(key, BY)
    with pytest.raises(BadRequest, match="is revoked"):
        await change(rig, key, owner="a")


async def test_the_end_of_a_key_that_was_rotated_is_not_moved(rig: Rig) -> None:
    """Its overlap ends when it was said to."""
    key, _ = await rig.key()
    await rig.service.rotate(key, RotateAsk(60), BY)
    with pytest.raises(BadRequest, match="ends with its overlap"):
        await change(rig, key, expires_in_days=10)


async def test_the_operator_reaches_a_key_wherever_it_is_and_nobody_else_does(rig: Rig) -> None:
    """By its id, in the organisation that it has; the event is that organisation's."""
    with rig.engine.begin() as connection:
        connection.execute(insert(organisations).values(id="acme", name="Acme", created_at=1))
    key, _ = await rig.key()
    acme = By(Actor("adk_2", "theirs", Role.OWNER, "acme"), "acme")
    for act in (rig.service.show(key, acme), rig.service.revoke(key, acme), change(rig, key, by=acme, owner="x")):
        with pytest.raises(KeyNotFound):
            await act
    with pytest.raises(PermissionDenied):
        await rig.service.show(key, By(acme.actor, "default"))
    with pytest.raises(ObjectNotFound):
        await rig.service.create(KeyAsk(name="k"), By(SOCKET, "nowhere"))
    assert (await change(rig, key, by=By(SOCKET, "*"), owner="x")).owner == "x"
    await rig.service.revoke(key, By(SOCKET, "*"))
    assert rig.row(key).revoked


async def test_a_slot_is_never_given_twice(rig: Rig) -> None:
    """To keys and quotas, whatever was restored or removed since."""
    drawn = [rig.row((await rig.key())[0]).slot for _ in range(3)]
    with rig.engine.begin() as connection:
        connection.execute(
            insert(quotas).values(
                id="quo_1",
                slot=50,
                organisation="default",
                each_end_user=False,
                created_at=1,
                project="",
                key_id="",
                model="",
            )
        )
    drawn.append(rig.row((await rig.key())[0]).slot)
    with acting(rig.engine, SOCKET, "default") as scope:
        drawn.append(next_slot(scope))
    drawn.append(rig.row((await rig.key())[0]).slot)
    assert drawn == [0, 1, 2, 51, 52, 53]
