# SPDX-License-Identifier: Apache-2.0
"""Keys that have leaked: found in whatever text they stand in, revoked only where they are ours, whole."""

import json
import random
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from beffroi.control import leaks
from beffroi.control.keys import By
from beffroi.control.keyshapes import RotateAsk
from beffroi.control.leaks import Criteria, CriteriaAsk, LeakAsk
from beffroi.control.tenancy import admin_keys
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import SOCKET, Actor
from beffroi.control.tenancy.shapes import AdminKeyAsk
from beffroi.core.errors import BadRequest
from beffroi.core.key import ADMIN, new_key
from beffroi.store.tables import keys, organisations, projects
from tests.control.rotation.rig import BY, DAY, Rig

pytestmark = pytest.mark.anyio
EVERYWHERE = By(SOCKET, "*")


@pytest.fixture
def rig(tmp_path: Path, place: Path | str) -> Iterator[Rig]:
    """The service of keys, over either kind of database."""
    rig = Rig(tmp_path, place=place)
    yield rig
    rig.close()


async def sweep(rig: Rig, text: str, by: By = EVERYWHERE, *, dry_run: bool = False) -> leaks.Swept:
    """Revoke what has leaked."""
    return await leaks.leaked(rig.service, LeakAsk(text, dry_run), by)


def buried(text: str) -> str:
    """A key in a report, between things that look like keys."""
    strange = new_key().text
    return json.dumps({"file": ".env", "line": f'export KEY="{text}"; # {strange[:-1]}x', "others": [strange, "bf-x"]})


async def test_a_key_is_found_in_any_text_and_revoked(rig: Rig) -> None:
    """In the middle of a word, in a dump of UTF-16, twice, beside keys of others and keys that are broken."""
    made = [await rig.key(name=f"k{i}") for i in range(3)]
    text = f"x{made[0][1]}y {buried(made[1][1])} {made[1][1]}" + made[2][1].encode("utf-16").decode("latin-1")
    swept = await sweep(rig, text)
    assert {each.id for each in swept.found} == {key for key, _ in made}
    assert all((each.kind, each.was, each.revoked) == ("key", "active", True) for each in swept.found)
    assert swept.shapes == 4
    assert [rig.opens(each) for _, each in made] == [None] * 3
    assert rig.row(made[0][0]).revoked_why == "leaked"
    again = await sweep(rig, text)
    assert {each.was for each in again.found} == {"revoked"}


async def test_who_knows_the_public_part_alone_revokes_nothing(rig: Rig) -> None:
    """It stands in logs and lists; a text with another secret has a checksum that holds all the same."""
    key, text = await rig.key()
    forged = new_key(public=rig.row(key).public).text
    swept = await sweep(rig, f"{forged} bf-{rig.row(key).public}-… {text[:-1]}")
    assert (swept.found, swept.shapes) == ([], 1)
    assert rig.opens(text) is not None


async def test_a_dry_run_says_what_it_would_be(rig: Rig) -> None:
    """And leaves it."""
    _, text = await rig.key()
    (found,) = (await sweep(rig, text, dry_run=True)).found
    assert (found.was, found.revoked) == ("active", False)
    assert rig.opens(text) is not None


async def test_those_that_a_leaked_key_was_rotated_from_go_with_it(rig: Rig) -> None:
    """As with one that is revoked by name; a leaked predecessor leaves its successor."""
    key, old = await rig.key()
    new = await rig.service.rotate(key, RotateAsk(3600), BY)
    assert [each.id for each in (await sweep(rig, old)).found] == [key]
    assert rig.opens(new.key) is not None
    key, old = await rig.key(name="other")
    new = await rig.service.rotate(key, RotateAsk(3600), BY)
    assert {each.id for each in (await sweep(rig, new.key)).found} == {key, new.id}
    assert rig.opens(old) is None


async def test_a_tenant_finds_its_own_keys_alone(rig: Rig) -> None:
    """Whoever sends another's key learns nothing, and revokes nothing; the operator finds everybody's."""
    with rig.engine.begin() as connection:
        for table, row in (
            (organisations, {"id": "acme", "name": "Acme"}),
            (projects, {"id": "p", "organisation": "acme", "name": "P"}),
        ):
            connection.execute(insert(table).values(row | {"created_at": 1}))
    _, ours = await rig.key()
    acme = Actor("adk_1", "somebody", Role.DEVELOPER, "acme")
    theirs = await rig.service.create(_ask(name="t", project="p"), By(acme, "acme"))
    swept = await sweep(rig, f"{ours} {theirs.key}", By(acme, "acme"))
    assert [each.id for each in swept.found] == [theirs.id]
    assert rig.opens(ours) is not None and rig.opens(theirs.key) is None
    found = (await sweep(rig, f"{ours} {theirs.key}")).found
    assert {each.organisation for each in found} == {"acme", "default"}


def _ask(**what: Any) -> Any:
    from beffroi.control.keyshapes import KeyAsk

    return KeyAsk(**what)


async def test_a_leaked_admin_key_is_revoked_by_who_may(rig: Rig) -> None:
    """Whoever may not is told that it is still good."""

    def make(scope: Any) -> Any:
        return admin_keys.create(scope, AdminKeyAsk(name="a", role=Role.ADMIN), rig.service.peppers), []

    made = (await rig.service.act(BY, make))[0]
    assert made.key.startswith(ADMIN)
    developer = By(Actor("adk_2", "dev", Role.DEVELOPER, "default"), "default")
    (found,) = (await sweep(rig, made.key, developer)).found
    assert (found.kind, found.revoked) == ("admin-key", False)
    (found,) = (await sweep(rig, made.key)).found
    assert (found.kind, found.was, found.revoked) == ("admin-key", "active", True)
    assert (await sweep(rig, made.key)).found[0].was == "revoked"


async def test_nothing_of_the_text_is_kept(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in the log nor in the database; not even of a key that is ours."""
    _, text = await rig.key()
    await sweep(rig, f"a sentence that nobody may read {text}")
    content = b"".join(file.read_bytes() for file in rig.data.rglob("*") if file.is_file())
    written = "".join(capfd.readouterr())
    for secret in ("nobody may read", text.rpartition("-")[2]):
        assert secret.encode() not in content and secret not in written


def test_noise_takes_no_time_and_is_bounded() -> None:
    """Eight megabytes of what almost looks like keys; more keys than are looked up are refused."""
    draw = random.Random(3)
    letters = string.ascii_letters + string.digits
    noise = "".join(f"bf-{''.join(draw.choices(letters, k=12))}-" for _ in range(1000)) * 500
    began = time.monotonic()
    assert leaks.candidates(noise) == {}
    assert time.monotonic() - began < 5
    with pytest.raises(BadRequest, match="send it in parts"):
        leaks.candidates(" ".join(new_key().text for _ in range(leaks.MAX_FOUND + 1)))


async def test_keys_are_revoked_by_what_they_are(rig: Rig) -> None:
    """All that is named must fit; a key that was never used counts from its making; no criterion is refused."""
    made = {name: (await rig.key(name=name, owner=owner))[0] for name, owner in (("a", "x"), ("b", "x"), ("c", "y"))}
    now = int(time.time())
    for key in made.values():
        rig.age(key, 100)
    rig.use(made["a"], now - 5 * DAY)
    rig.use(made["b"], now - 95 * DAY)

    async def fit(**what: Any) -> set[str]:
        ask = CriteriaAsk(criteria=Criteria(**what), dry_run=True)
        return {each.name for each in (await leaks.sweep(rig.service, ask, EVERYWHERE)).found}

    assert await fit(owner="x") == {"a", "b"}
    assert await fit(unused_since=now - 90 * DAY) == {"b", "c"}
    assert await fit(owner="x", unused_since=now - 90 * DAY) == {"b"}
    assert await fit(created_before=now - 101 * DAY) == set()
    assert await fit(project="nowhere") == set()
    with pytest.raises(BadRequest, match="at least one"):
        await fit()
    ask = CriteriaAsk(criteria=Criteria(owner="x", unused_since=now - 90 * DAY), why="stale")
    (gone,) = (await leaks.sweep(rig.service, ask, EVERYWHERE)).found
    assert (gone.name, gone.revoked, rig.row(made["b"]).revoked_why) == ("b", True, "stale")
    assert await fit(owner="x") == {"a"}


async def test_many_are_revoked_in_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one transaction takes; workers are told of each."""
    monkeypatch.setattr(leaks, "MANY", 50)
    key, _ = await rig.key()
    row = rig.row(key)._asdict()
    many = [
        row | {"id": f"key_{n:05}", "public": f"{n:012}", "slot": 10 + n, "owner": "many", "rotated_from": None}
        for n in range(leaks.MANY + 5)
    ]
    with rig.engine.begin() as connection:
        connection.execute(insert(keys), many)
    before = len(rig.workers.sent)
    ask = CriteriaAsk(criteria=Criteria(owner="many"))
    swept = await leaks.sweep(rig.service, ask, EVERYWHERE)
    assert sum(each.revoked for each in swept.found) == leaks.MANY + 5
    assert [len(delta.upsert) for delta in rig.workers.sent[before:]] == [leaks.MANY, 5]
    with rig.engine.begin() as connection:
        connection.execute(update(keys).values(owner=""))
