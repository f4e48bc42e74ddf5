# SPDX-License-Identifier: Apache-2.0
"""Rotations by themselves: when they begin, what they wait for, when the old key ends, what is seen of a fault."""

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from beffroi.control.keys import By
from beffroi.control.rotation import service
from beffroi.control.rotation.shapes import Schedule
from beffroi.control.rotation.steps import due_at
from beffroi.control.tenancy.scope import CONTROL, SOCKET, looking
from beffroi.core.errors import BadRequest, Conflict, ObjectNotFound
from beffroi.store.administration import replicas, rotations
from beffroi.store.tables import keys, open_intents, organisations
from tests.control.rotation.rig import BY, DAY, Rig, plan

pytestmark = pytest.mark.anyio
STORE = {"store": "s", "path": "team/app"}


def stored(rig: Rig) -> str | None:
    """What lies in the store."""
    path = rig.data / "store/default/team/app"
    return path.read_text().strip() if path.exists() else None


async def link(rig: Rig) -> str:
    """A link to the successor: its token."""
    identifier = rig.rotation().id
    act = await rig.service.act(BY, lambda scope: service.link(scope, identifier, rig.service.pepper(), None))
    return str(act[0][1])


async def fetch(rig: Rig, token: str) -> Any:
    """What is behind a link."""
    return (await rig.service.act(By(CONTROL, "*"), lambda scope: service.fetch(scope, token, "192.0.2.1")))[0]


async def test_a_key_is_rotated_by_its_schedule(rig: Rig) -> None:
    """Announced a week before, made and delivered on the day, ended once it is idle; each step is an event."""
    key, old = await rig.key(plan(notice_seconds=7 * DAY, delivery=STORE), expires_in_days=300)
    await rig.go(82 * DAY)
    assert rig.acts() == ["cli:key:create"]
    await rig.go(DAY + 60)
    assert (rig.rotation().state, rig.rotation().successor, stored(rig)) == ("announced", "", None)
    await rig.go(7 * DAY)
    successor = rig.opens(stored(rig))
    assert successor is not None and rig.opens(old) is not None
    assert successor.slot == rig.row(key).slot and rig.row(successor.id).rotation == rig.row(key).rotation
    assert rig.rotation().state == "overlap"
    await rig.go(DAY + 3700)
    assert rig.opens(old) is None and rig.opens(stored(rig)) == successor
    assert [act.partition(":")[2] for act in rig.acts()] == [
        "key:create", "rotation:announce", "key:create", "rotation:make", "key:rotate", "rotation:deliver", "key:rotate",
        "rotation:end",
    ]  # fmt: skip
    await rig.go(100 * DAY)
    assert rig.row(successor.id).expires_at is not None


async def test_an_old_key_that_is_used_lives_until_its_overlap_ends(rig: Rig) -> None:
    """Then it is refused, used or not."""
    _, old = await rig.key(plan(delivery=STORE), long_lived=True)
    await rig.go(90 * DAY)
    key = rig.rotation().key_id
    for _ in range(6):
        rig.now += DAY
        rig.use(key, rig.now - 3600)
        await rig.go()
        assert rig.opens(old) is not None
    rig.use(key, rig.now)
    await rig.go(DAY + 5)
    assert rig.opens(old) is None and rig.rotation().state == "ended"


async def test_what_is_not_shipped_yet_ends_no_key(rig: Rig) -> None:
    """Idle is what the ledger shows, as far as it is; nor is a key idle while a request of it runs."""
    _, old = await rig.key(plan(delivery=STORE), long_lived=True)
    await rig.go(90 * DAY)
    rig.complete = 20 * DAY
    await rig.go(2 * DAY)
    assert rig.opens(old) is not None
    rig.complete = 0
    flight = dict.fromkeys(open_intents.columns.keys(), 0) | {
        "request_id": "req_1", "key_id": rig.rotation().key_id, "organisation": "default", "project": "default",
        "model": "m", "endpoint": "chat", "engine": "e", "price_version": "", "currency": "EUR", "boot": "b",
    }  # fmt: skip
    with rig.engine.begin() as connection:
        connection.execute(insert(open_intents).values(flight))
    await rig.go(2 * DAY)
    assert rig.opens(old) is not None
    with rig.engine.begin() as connection:
        connection.execute(open_intents.delete())
    await rig.go(3600)
    assert rig.opens(old) is None


async def test_a_machine_of_the_fleet_that_is_silent_keeps_old_keys_alive(rig: Rig) -> None:
    """It may serve, and nobody knows whom; until it is heard of, or struck off."""
    if rig.engine.dialect.name != "postgresql":
        return  # one machine has no fleet
    key, old = await rig.key(plan(delivery=STORE, idle_seconds=3600), long_lived=True)
    rig.age(key, 90)
    await rig.go()
    with rig.engine.begin() as connection:
        row = {"id": "r", "boot": "b", "seen_ns": int((rig.now - 60) * 1e9), "keys": 0, "workers": 1}
        connection.execute(insert(replicas).values(row))
    for _ in range(4):
        await rig.go(3600)
    assert rig.opens(old) is not None
    with rig.engine.begin() as connection:
        connection.execute(update(replicas).values(seen_ns=int(rig.now * 1e9)))
    await rig.go(3600)
    assert rig.opens(old) is None


async def test_a_policy_rotates_keys_without_a_schedule(rig: Rig) -> None:
    """Without mail and store somebody has to ask for the link; until then nothing ends."""
    with rig.engine.begin() as connection:
        connection.execute(update(organisations).values(policy={"rotate_every_days": 30, "rotation_overlap_hours": 48}))
    key, old = await rig.key()
    rig.age(key, 23)
    for days in (0, 7, 3):
        await rig.go(days * DAY + 5)
    found = rig.rotation()
    assert (found.state, found.plan["overlap_seconds"]) == ("made", 2 * DAY)
    assert "nobody has fetched" in found.fault and rig.opens(old) is not None
    fetched = await fetch(rig, await link(rig))
    assert rig.opens(fetched.key) is not None
    assert fetched.old_expires_at - time.time() == pytest.approx(2 * DAY, abs=5)
    assert rig.rotation().state == "overlap"


async def test_a_link_answers_once_and_a_new_one_ends_the_one_before(rig: Rig) -> None:
    """Lost on its way, it is asked for again: the text of before opens nothing any more."""
    rig.age((await rig.key(plan(), long_lived=True))[0], 90)
    await rig.go()
    first, second = await link(rig), await link(rig)
    with pytest.raises(ObjectNotFound):
        await fetch(rig, first)
    lost = await fetch(rig, second)
    with pytest.raises(ObjectNotFound):
        await fetch(rig, second)
    assert rig.opens(lost.key) is not None
    again = await fetch(rig, await link(rig))
    assert rig.opens(lost.key) is None and rig.opens(again.key) is not None
    assert again.id == lost.id
    rig.use(again.id, rig.now)
    with pytest.raises(Conflict, match="in use"):
        await link(rig)


async def test_a_link_ends_and_its_text_with_it(rig: Rig) -> None:
    """Nothing is left in the table; wrong secrets lead nowhere either."""
    rig.age((await rig.key(plan(link_seconds=300), long_lived=True))[0], 90)
    await rig.go()
    token = await link(rig)
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), token.partition(".")[0], "x", "", "a." + "b" * 43):
        with pytest.raises(ObjectNotFound):
            await fetch(rig, wrong)
    secret = token.partition(".")[2]
    kept = b"".join(file.read_bytes() for file in rig.data.rglob("*") if file.is_file())
    assert secret.encode() not in kept and secret not in repr(tuple(rig.rotation()))
    with rig.engine.begin() as connection:
        connection.execute(update(rotations).values(sealed_until=1))
    with pytest.raises(ObjectNotFound):
        await fetch(rig, token)


async def test_a_store_that_fails_is_tried_again_and_seen(rig: Rig, tmp_path: Path) -> None:
    """With longer and longer waits; the old key goes on, no successor lies about, and one event tells of it."""
    (tmp_path / "store").write_text("a file where a directory should be")
    _, old = await rig.key(plan(delivery=STORE), long_lived=True)
    await rig.go(90 * DAY)
    found = rig.rotation()
    assert (found.state, found.attempts, found.next_at - int(rig.now)) == ("announced", 1, 30)
    assert "cannot read" in found.fault
    waits = []
    for _ in range(10):
        await rig.go(rig.rotation().next_at - int(rig.now))
        waits.append(rig.rotation().next_at - int(rig.now))
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert rig.opens(old) is not None
    assert rig.acts().count("control:rotation:fail") == 1
    (tmp_path / "store").unlink()
    await rig.go(3600)
    assert rig.opens(stored(rig)) is not None
    assert (rig.rotation().state, rig.rotation().fault, rig.rotation().attempts) == ("overlap", "", 0)


async def test_a_worker_that_does_not_know_the_successor_holds_its_delivery_up(rig: Rig) -> None:
    """Who finds a new key in a store must be let in with it."""
    await rig.key(plan(delivery=STORE), long_lived=True)
    rig.workers.missing = [1]
    await rig.go(90 * DAY)
    assert "w01" in rig.rotation().fault and stored(rig) is None
    rig.workers.missing = []
    await rig.go(60)
    assert rig.opens(stored(rig)) is not None


async def test_a_key_that_is_revoked_or_rotated_by_hand_is_not_rotated_any_more(rig: Rig) -> None:
    """The announcement is taken back; a successor that nobody has is revoked with it."""
    from beffroi.control.keyshapes import RotateAsk

    key, _ = await rig.key(plan(notice_seconds=DAY), long_lived=True, name="a")
    await rig.go(89 * DAY)
    await rig.service.revoke(key, BY)
    await rig.go(2 * DAY)
    assert rig.rotation().state == "cancelled"
    with rig.engine.begin() as connection:
        connection.execute(rotations.delete())
    key, _ = await rig.key(plan(notice_seconds=DAY), long_lived=True, name="b")
    rig.age(key, 89)
    await rig.go()
    await rig.service.rotate(key, RotateAsk(60), BY)
    with looking(rig.engine, SOCKET, "default") as scope:
        states = [row.state for row in scope.connection.execute(scope.select(rotations))]
    assert sorted(states) == ["cancelled", "overlap"]


async def test_a_rotation_is_begun_at_once_or_given_up(rig: Rig) -> None:
    """By its schedule, or not at all where it has none."""
    key, _ = await rig.key(plan(), long_lived=True)

    async def begin() -> Any:
        return (await rig.service.act(BY, lambda scope: (service.begin(scope, key, 0), [])))[0]

    rotation = await begin()
    with pytest.raises(Conflict, match=rotation.id):
        await begin()
    await rig.go(2)
    made = rig.rotation()
    assert made.state == "made"
    await rig.service.act(BY, lambda scope: service.cancel(scope, rotation.id, None))
    assert rig.rotation().state == "cancelled" and rig.row(made.successor).revoked
    with pytest.raises(BadRequest, match="rotated already"):
        await begin()
    other, _ = await rig.key(name="other")
    with pytest.raises(BadRequest, match="no schedule"):
        await rig.service.act(BY, lambda scope: (service.begin(scope, other, 0), []))


@pytest.mark.parametrize(
    ("life", "every", "overlap", "due"),
    [(365, 90, 7, 90), (30, 90, 7, 23), (10, 90, 7, 5), (1, 90, 30, 0.5), (None, 90, 7, 90), (365, 1, 7, 1)],
)
def test_a_key_is_rotated_before_it_expires_and_not_in_the_first_half_of_its_life(
    life: int | None, every: int, overlap: int, due: float
) -> None:
    """A successor lives as long: it must not be due as soon as it is made."""
    ends = None if life is None else life * DAY
    row: Any = keys.c and type("Row", (), {"created_at": 0, "expires_at": ends})
    assert due_at(row, Schedule(every_days=every, overlap_seconds=overlap * DAY)) == due * DAY
