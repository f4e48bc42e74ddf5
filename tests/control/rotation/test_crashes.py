# SPDX-License-Identifier: Apache-2.0
"""A rotation that is killed wherever it touches the world: between any two of its steps, before and after each.

After each kill another process begins over what is on the disk. Whatever happened, in the end the store holds one successor
that opens, there is no second, and at no moment was nothing open.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from beffroi.control.rotation.stores.file import FileStore
from beffroi.control.rotation.stores.port import StoreSettings
from beffroi.store.engine import reading
from beffroi.store.tables import keys
from tests.control.rotation.rig import DAY, Killed, Rig, plan


class Fate:
    """Kills at the touch with a number."""

    def __init__(self) -> None:
        self.count = 0
        self.at = -1

    def __call__(self, _: str) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


class Fateful(FileStore):
    """The store of files, touched too."""

    fate: Any = None

    async def read(self) -> str | None:
        self.fate("before a read")
        found = await super().read()
        self.fate("after a read")
        return found

    async def write(self, text: str) -> None:
        self.fate("before a write")
        await super().write(text)
        self.fate("after a write")


async def rotate(data: Path, fate: Fate, old: str, seen: list[bool]) -> bool:
    """One process's life: until the rotation has ended, or it is killed; whether it lived."""
    rig = Rig(data, stores=(StoreSettings(name="s", kind="file", directory=str(data / "store")),), touch=fate)
    rig.now += seen.count(True) + 90 * DAY  # past every wait of the lives before
    stored = data / "store/default/app"
    try:
        for _ in range(12):
            await rig.go(2 * 3600)
            there = stored.read_text().strip() if stored.exists() else None
            assert rig.opens(old) or rig.opens(there), "nobody can get in"
            if rig.rotation().state == "ended":
                return True
        raise AssertionError(f"it does not end: {rig.rotation()}")
    except Killed:
        return False
    finally:
        seen.append(True)
        fate.at = -1
        there = stored.read_text().strip() if stored.exists() else None
        assert rig.opens(old) or rig.opens(there), "nobody can get in"
        rig.close()


async def scenario(data: Path, at: int) -> int:
    """A key whose rotation is killed at the touch with that number; how many touches there were."""
    fate = Fate()
    rig = Rig(data, stores=(StoreSettings(name="s", kind="file", directory=str(data / "store")),))
    schedule = plan(idle_seconds=3600, overlap_seconds=DAY, delivery={"store": "s", "path": "app"})
    key, old = await rig.key(schedule, long_lived=True)
    rig.close()
    Fateful.fate = fate
    fate.at = at
    seen: list[bool] = []
    if not await rotate(data, fate, old, seen):
        assert await rotate(data, fate, old, seen)
    rig = Rig(data)
    rig.now += 200 * DAY
    with reading(rig.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(keys).where(keys.c.rotated_from == key)) == 1
    stored = (data / "store/default/app").read_text().strip()
    successor = rig.opens(stored)
    assert successor is not None and successor.id == rig.rotation().successor
    assert rig.opens(old) is None
    rig.close()
    return fate.count


def test_a_kill_between_any_two_steps_loses_nothing_and_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every touch once: commits, the key table, the store."""
    monkeypatch.setattr("beffroi.control.rotation.stores.choose.FileStore", Fateful)
    whole = tmp_path / "whole"
    whole.mkdir()
    touches = asyncio.run(scenario(whole, -1))
    assert touches > 15
    for at in range(1, touches + 1):
        data = tmp_path / str(at)
        data.mkdir()
        asyncio.run(scenario(data, at))
