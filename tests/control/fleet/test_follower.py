# SPDX-License-Identifier: Apache-2.0
"""Following the list of changes, over both backings: whoever changed a row, the key table on disk is as the database has it."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, insert, update

from beffroi.control.bus import Bus
from beffroi.control.fleet import replicas, sharing
from beffroi.control.fleet.follower import Follower
from beffroi.control.fleet.table import MOST, prune
from beffroi.control.snapshots import KeyFiles
from beffroi.core.state import load_keys
from beffroi.store.tables import keys, organisations, projects
from beffroi.store.vault import Vault, VaultError
from tests.store.test_migrations import KEY

SECRET = "x" * 32


class Nobody:
    """A turn that nobody else wants."""

    def __call__(self) -> Any:
        return self

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """Without workers: what is held is held at once."""
    bus = Bus(0, 1, 1, lambda _worker, _boot: None)
    await bus.start(tmp_path / "bus.sock")
    yield bus
    await bus.close()


def following(database: Engine, data: Path, bus: Bus, place: int = 0, **more: Any) -> Follower:
    files = KeyFiles(data, [], {1: b"pepper"})
    acts, reads = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
    return Follower(database, files, bus, acts=acts, reads=reads, turn=Nobody(), place=place, **more)


def changed(database: Engine, *statements: Any) -> None:
    with database.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def on_disk(data: Path) -> dict[str, bool]:
    """Key id → whether it is revoked."""
    return {key.id: key.revoked for key in load_keys(data).keys}


def key(number: int) -> Any:
    return insert(keys).values(id=f"key_{number}", **{**KEY, "slot": number, "public": f"p{number}"})


@pytest.mark.anyio
async def test_a_row_that_anybody_changes_is_on_disk_after_one_look(database: Engine, tmp_path: Path, bus: Bus) -> None:
    """Made, revoked, removed: by statements of which this process was told nothing."""
    follower = following(database, tmp_path, bus)
    changed(database, key(1), key(2))
    await follower.step()
    assert on_disk(tmp_path) == {"key_1": False, "key_2": False}
    revision = load_keys(tmp_path).revision
    changed(database, update(keys).where(keys.c.id == "key_1").values(revoked=True))
    await follower.step()
    assert on_disk(tmp_path) == {"key_1": True, "key_2": False}
    await follower.step()
    assert load_keys(tmp_path).revision == revision + 1, "nothing new is nothing written"
    changed(database, delete(keys).where(keys.c.id == "key_2"))
    await follower.step()
    assert on_disk(tmp_path) == {"key_1": True, "key_2": True}, "a key whose row is gone is refused"


@pytest.mark.anyio
async def test_a_tenant_that_is_suspended_is_closed_and_open_again(database: Engine, tmp_path: Path, bus: Bus) -> None:
    """By its state, whoever wrote it."""
    follower = following(database, tmp_path, bus)
    await follower.step()
    changed(database, update(organisations).values(state="suspended"))
    await follower.step()
    assert load_keys(tmp_path).closed == {"default"}
    changed(database, update(organisations).values(state="active"), update(projects).values(state="suspended"))
    await follower.step()
    assert load_keys(tmp_path).closed == {"default/default"}


@pytest.mark.anyio
async def test_who_was_away_for_too_long_reads_everything(database: Engine, tmp_path: Path, bus: Bus) -> None:
    """More changes than are looked at one by one, and changes that are forgotten."""
    follower = following(database, tmp_path, bus)
    changed(database, key(1))
    await follower.step()
    changed(database, *(key(number) for number in range(2, 30)))
    changed(database, *(update(keys).values(name=f"n{number}") for number in range(MOST // 28)))
    await follower.step()
    assert len(on_disk(tmp_path)) == 29
    changed(database, update(keys).where(keys.c.id == "key_7").values(revoked=True), key(30))
    with database.begin() as connection:
        prune(connection, 1)
    await follower.step()
    assert on_disk(tmp_path)["key_7"]
    assert len(on_disk(tmp_path)) == 30


@pytest.mark.anyio
async def test_an_act_that_is_undone_changes_nothing(database: Engine, tmp_path: Path, bus: Bus) -> None:
    """The list is written in the transaction of the act."""
    follower = following(database, tmp_path, bus)
    changed(database, key(1))
    await follower.step()
    with database.connect() as connection, connection.begin() as act:
        connection.execute(update(keys).values(revoked=True))
        act.rollback()
    await follower.step()
    assert on_disk(tmp_path) == {"key_1": False}


@pytest.mark.anyio
async def test_everywhere_waits_for_each_replica_and_names_the_one_that_is_late(
    database: Engine, tmp_path: Path, bus: Bus
) -> None:
    """A replica counts from the moment it enters until it leaves, or has been silent for as long as keys are trusted."""
    vault = Vault.shared(SECRET)
    sharing.peppers(database, vault)

    def enter(connection: Connection, name: str = "rep_1") -> None:
        replicas.enter(connection, name, boot="b", address=f"of {name}", workers=1)

    with database.begin() as connection:
        enter(connection)
        enter(connection, "rep_2")
    follower = following(database, tmp_path, bus, vault=vault, replica="rep_1", trusted=60.0, enter=enter)
    changed(database, key(1))
    await follower.step()
    late, fleet = await follower.everywhere(0.3)
    assert [(one.id, one.address) for one in late] == [("rep_2", "of rep_2")]
    assert fleet == 2
    waiting = asyncio.create_task(follower.everywhere(5.0))
    await asyncio.sleep(0.05)
    with database.begin() as connection:
        replicas.report(connection, "rep_2", follower.place)
    assert await waiting == ([], 2)
    changed(database, key(2))
    await follower.step()
    with database.begin() as connection:
        replicas.leave(connection, "rep_2")
    assert await follower.everywhere(1.0) == ([], 1)


@pytest.mark.anyio
async def test_a_replica_that_was_struck_off_enters_again(database: Engine, tmp_path: Path, bus: Bus) -> None:
    """Nobody may forget one that serves without it noticing."""
    vault = Vault.shared(SECRET)
    sharing.peppers(database, vault)

    def enter(connection: Connection) -> None:
        replicas.enter(connection, "rep_1", boot="b", address="here", workers=1)

    follower = following(database, tmp_path, bus, vault=vault, replica="rep_1", trusted=60.0, enter=enter)
    changed(database, key(1))
    await follower.step()
    assert [one.id for one in await follower.fleet()] == ["rep_1"]
    with database.begin() as connection:
        replicas.leave(connection, "rep_1")
    changed(database, key(2))
    await follower.step()
    follower.hear("beffroi_held")
    assert [one.id for one in await follower.fleet()] == ["rep_1"]


def test_peppers_are_made_once_and_open_with_the_fleet_s_secret_alone(database: Engine) -> None:
    """Every replica verifies every key; a database alone verifies none."""
    first = sharing.peppers(database, Vault.shared(SECRET))
    assert sharing.peppers(database, Vault.shared(SECRET)) == first
    assert sharing.peppers(database, Vault.shared("y" * 32 + "," + SECRET)) == first
    with pytest.raises(VaultError, match="fleet_secret"):
        sharing.peppers(database, Vault.shared("y" * 32))
