# SPDX-License-Identifier: Apache-2.0
"""What was done is told: at least once, under the same id, for a day; and a program that takes nothing is left alone."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from beffroi.control.tenancy import projects
from beffroi.control.tenancy.scope import SOCKET, acting, looking
from beffroi.control.tenancy.shapes import ProjectAsk
from beffroi.control.webhooks import courier as module
from beffroi.control.webhooks import outbox as box
from beffroi.control.webhooks import service
from beffroi.control.webhooks.courier import GIVE_UP, LEASE, WAITS, Courier
from beffroi.control.webhooks.shapes import Made, WebhookAsk, WebhookChange
from beffroi.core.errors import BeffroiError
from beffroi.store.administration import outbox, webhooks
from beffroi.store.tables import events
from beffroi.store.vault import Vault
from tests.control.webhooks.conftest import Clock
from tests.control.webhooks.receiver import Receiver

pytestmark = pytest.mark.anyio
Make = Callable[[], Courier]


def hook(engine: Engine, vault: Vault, url: str, *patterns: str, organisation: str = "a") -> Made:
    """A webhook, and nothing that waits for it."""
    with acting(engine, SOCKET, organisation) as scope:
        made = service.create(scope, WebhookAsk(url=url, events=list(patterns or ("project:*",))), vault)
        scope.connection.execute(scope.delete(outbox))
        return made


def project(engine: Engine, name: str, organisation: str = "a") -> None:
    """An act that is told."""
    with acting(engine, SOCKET, organisation) as scope:
        projects.create(scope, ProjectAsk(name=name, id=name))


def waiting(engine: Engine) -> list[Any]:
    """What waits, the oldest first."""
    with engine.connect() as connection, connection.begin(), looking(engine, SOCKET, "*") as scope:
        return list(scope.connection.execute(scope.select(outbox).order_by(outbox.c.id)).all())


def row(engine: Engine, identifier: str) -> Any:
    """A webhook as it is."""
    with looking(engine, SOCKET, "*") as scope:
        return scope.connection.execute(scope.select(webhooks).where(webhooks.c.id == identifier)).one()


async def turn(courier: Courier) -> None:
    """One round, to its end."""
    await courier.round()
    if courier._under_way:
        await asyncio.wait(courier._under_way.values())


async def test_an_act_is_told_once_to_each_webhook_that_wants_it(
    engine: Engine, vault: Vault, told: Receiver, courier: Make
) -> None:
    """With who did what to what; not to one that wants something else, nor to another organisation's."""
    hook(engine, vault, f"{told.url}/wants")
    hook(engine, vault, f"{told.url}/all", "*")
    hook(engine, vault, f"{told.url}/door", "cli:project:create")
    hook(engine, vault, f"{told.url}/other", "key:*", "api:*:create")
    hook(engine, vault, f"{told.url}/b", "*", organisation="b")
    project(engine, "one")
    one = courier()
    await turn(one)
    assert sorted(got.path for got in told.got) == ["/all", "/door", "/wants"]
    said = json.loads(told.got[0].body)
    assert said == json.loads(told.got[1].body)
    assert (said["type"], said["organisation"], said["subject"], said["actor"]) == (
        "cli:project:create",
        "a",
        "one",
        "cli",
    )
    assert said["id"].startswith("evt_") and said["at"].endswith("Z")
    assert len({got.headers["webhook-id"] for got in told.got}) == 3
    assert not waiting(engine)
    await turn(one)
    assert len(told.got) == 3


async def test_what_was_undone_is_never_told(engine: Engine, vault: Vault, told: Receiver, courier: Make) -> None:
    """The row is in the transaction of the act."""
    hook(engine, vault, told.url, "*")
    with pytest.raises(BeffroiError), acting(engine, SOCKET, "a") as scope:
        projects.create(scope, ProjectAsk(name="one", id="one"))
        projects.create(scope, ProjectAsk(name="one", id="one"))
    await turn(courier())
    assert not told.got and not waiting(engine)


async def test_a_failure_is_repeated_under_the_same_id_with_longer_waits(
    engine: Engine, vault: Vault, told: Receiver, courier: Make, clock: Clock
) -> None:
    """Until it is taken; then the webhook is well again."""
    made = hook(engine, vault, told.url)
    project(engine, "one")
    told.status = 500
    one = courier()
    for attempt, wait in enumerate(WAITS[:4], 1):
        await turn(one)
        assert len(told.got) == attempt
        (left,) = waiting(engine)
        assert (left.attempts, left.fault, left.next_at) == (attempt, "it answered 500", int(clock.now) + wait)
        clock.now += wait - 1
        await turn(one)
        assert len(told.got) == attempt, "not before its time"
        clock.now += 1
    assert row(engine, made.id).fault == "it answered 500" and row(engine, made.id).failing_since is not None
    told.status = 200
    await turn(one)
    assert not waiting(engine)
    assert len({got.headers["webhook-id"] for got in told.got}) == 1
    assert len({got.body for got in told.got}) == 1
    assert (row(engine, made.id).fault, row(engine, made.id).failing_since) == ("", None)


async def test_after_a_day_without_one_success_it_is_disabled_with_an_event(
    engine: Engine, vault: Vault, told: Receiver, courier: Make, clock: Clock
) -> None:
    """What waits is dropped, what happens later is not told, and enabled again it begins anew."""
    made = hook(engine, vault, told.url)
    project(engine, "one")
    told.status = 500
    one = courier()
    began = clock.now
    while waiting(engine):
        assert clock.now - began < GIVE_UP + WAITS[-1] + 1
        await turn(one)
        clock.now += WAITS[-1]
    assert clock.now - began >= GIVE_UP
    assert (row(engine, made.id).state, row(engine, made.id).fault) == ("disabled", "it answered 500")
    with looking(engine, SOCKET, "a") as scope:
        told_of = scope.connection.execute(
            scope.select(events).where(events.c.action == "control:webhook:disable")
        ).one()
    assert (told_of.subject, told_of.after["fault"]) == (made.id, "it answered 500")
    project(engine, "two")
    assert not waiting(engine)
    with acting(engine, SOCKET, "a") as scope:
        assert service.change(scope, made.id, WebhookChange(state="active")).failing_since is None
    told.status = 200
    project(engine, "three")
    await turn(one)
    assert json.loads(told.got[-1].body)["subject"] == "three"


async def test_a_delivery_is_given_up_after_a_day_while_others_are_taken(
    engine: Engine, vault: Vault, told: Receiver, courier: Make, clock: Clock
) -> None:
    """One event that a program chokes on does not disable it."""
    made = hook(engine, vault, told.url)
    project(engine, "one")
    one = courier()
    told.status = 500
    await turn(one)
    clock.now += GIVE_UP
    told.status = 200
    with acting(engine, SOCKET, "a") as scope:  # meanwhile another was taken
        scope.connection.execute(scope.update(webhooks).values(failing_since=None))
    told.status = 500
    await turn(one)
    assert not waiting(engine) and row(engine, made.id).state == "active"


async def test_one_that_says_it_is_gone_is_disabled_at_once(
    engine: Engine, vault: Vault, told: Receiver, courier: Make
) -> None:
    """410 (RFC 9110)."""
    made = hook(engine, vault, told.url)
    project(engine, "one")
    told.status = 410
    await turn(courier())
    assert row(engine, made.id).state == "disabled" and not waiting(engine)


async def test_of_two_replicas_one_sends(engine: Engine, vault: Vault, told: Receiver, courier: Make) -> None:
    """Whoever claims a row first, at the same moment."""
    hook(engine, vault, told.url)
    for name in ("one", "two", "three"):
        project(engine, name)
    one, two = courier(), courier()
    await asyncio.gather(turn(one), turn(two))
    await turn(one)
    assert sorted(json.loads(got.body)["subject"] for got in told.got) == ["one", "three", "two"]


async def test_what_a_dead_process_had_claimed_is_sent_again_by_another(
    engine: Engine, vault: Vault, told: Receiver, courier: Make, clock: Clock
) -> None:
    """After its lease, under the same id: at least once."""
    hook(engine, vault, told.url)
    project(engine, "one")
    dead, living = courier(), courier()
    assert len(dead._claim(5, [])) == 1
    await turn(living)
    assert not told.got
    clock.now += LEASE
    await turn(living)
    assert len(told.got) == 1 and not waiting(engine)


async def test_a_slow_program_holds_up_no_other(engine: Engine, vault: Vault, told: Receiver, courier: Make) -> None:
    """It has a few deliveries under way, and the rest of the room is for others."""
    hook(engine, vault, f"{told.url}/slow", "cli:project:create")
    for index in range(30):
        project(engine, f"p{index}")
    hook2 = hook(engine, vault, f"{told.url}/quick", "project:update")
    assert not waiting(engine)  # `hook` empties the box: fill it again
    for index in range(30, 60):
        project(engine, f"p{index}")
    one = courier()
    claimed = one._claim(module.AT_ONCE, [])
    assert len(claimed) == module.OF_ONE and hook2.id not in {each.webhook for each in claimed}


def test_one_for_whom_too_much_waits_is_disabled(engine: Engine, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box has an end; the event says why."""
    monkeypatch.setattr(box, "MOST", 3)
    made = hook(engine, vault, "https://h.example/")
    for index in range(5):
        project(engine, f"p{index}")
    assert row(engine, made.id).state == "disabled" and "wait for it" in row(engine, made.id).fault
    assert len(waiting(engine)) == 3
    with looking(engine, SOCKET, "a") as scope:
        query = select(func.count()).select_from(
            scope.select(events).where(events.c.action == "control:webhook:disable").subquery()
        )
        assert scope.connection.scalar(query) == 1


async def test_a_secret_that_does_not_open_is_a_failure_like_any_other(
    engine: Engine, told: Receiver, courier: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A restore without `vault.key`: nothing is sent unsigned."""
    made = hook(engine, Vault.open(tmp_path_factory.mktemp("other")), told.url)
    project(engine, "one")
    await turn(courier())
    assert not told.got and "put back the one" in row(engine, made.id).fault
