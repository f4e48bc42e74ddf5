# SPDX-License-Identifier: Apache-2.0
"""A revocation holds on every worker within a second while a hundred things a second are written.

And the end of a key that the disk did not take is told without anybody asking for anything.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from beffroi.control.keyshapes import RotateAsk
from beffroi.control.turns import Turns
from tests.control.fakes import Worker, control
from tests.control.rotation.rig import BY, Rig
from tests.control.test_keys import create

pytestmark = [pytest.mark.alone, pytest.mark.anyio]
RATE, SECONDS = 100, 3


async def test_a_revocation_is_not_held_up_by_a_hundred_writes_a_second(tmp_path: Path) -> None:
    """Keys are made, changed and rotated meanwhile, over the socket; 15 revocations, each within a second on both workers."""
    with control(tmp_path, workers=2) as running, Worker(tmp_path, 0), Worker(tmp_path, 1):
        victims = [await create(running, name=f"victim {n}") for n in range(15)]
        target = await create(running, name="target")
        written, late = 0, 0.0
        stop = asyncio.Event()

        async def write(n: int) -> None:
            nonlocal written
            act: tuple[str, str, Any] = (
                ("POST", "/api/v1/keys", {"name": f"w{n}"}),
                ("PATCH", f"/api/v1/keys/{target['id']}", {"owner": f"o{n}"}),
            )[n % 2]
            answer = await asyncio.to_thread(running.ask, *act)
            assert answer.status < 300, answer.text
            written += 1

        async def writers() -> None:
            nonlocal late
            began, writes = time.monotonic(), set()
            for n in range(RATE * SECONDS):
                late = max(late, time.monotonic() - began - n / RATE)
                await asyncio.sleep(max(0.0, began + n / RATE - time.monotonic()))
                writes.add(asyncio.create_task(write(n)))
            await asyncio.gather(*writes)
            stop.set()

        writing = asyncio.create_task(writers())
        took = []
        for victim in victims:
            await asyncio.sleep(0.15)
            began = time.monotonic()
            answer = await asyncio.to_thread(running.ask, "POST", f"/api/v1/keys/{victim['id']}/revoke", {})
            took.append((time.monotonic() - began) * 1000)
            assert answer.status == 200 and answer.json["workers"] == 2
        await writing
        print(
            f"revocations: {sorted(took)[7]:.0f} ms median, {max(took):.0f} ms at most; {written} writes in {SECONDS} s"
        )
        assert written == RATE * SECONDS
        assert max(took) < 1000


async def test_what_the_disk_did_not_take_is_told_as_soon_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for anything: the old key of a rotation ends on workers all the same."""
    rig = Rig(tmp_path)
    monkeypatch.setattr("beffroi.control.acts.CATCH_UP", 0.02)
    keeping = asyncio.create_task(rig.service.keep_up())
    try:
        key, old = await rig.key()
        with monkeypatch.context() as patched:
            patched.setattr("beffroi.control.snapshots.os.fdatasync", _full)
            with pytest.raises(OSError, match="full"):
                await rig.service.rotate(key, RotateAsk(0), BY)
            await asyncio.sleep(0.1)
            assert rig.opens(old) is not None
        for _ in range(100):
            await asyncio.sleep(0.02)
            if rig.opens(old) is None:
                break
        assert rig.opens(old) is None and len(rig.workers.sent[-1].upsert) == 2
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        rig.close()


def _full(_: int) -> None:
    raise OSError("the disk is full")


async def test_those_in_a_hurry_wait_for_one_alone() -> None:
    """Each queue in its order; whoever gives up waiting holds nobody up."""
    turns, order = Turns(), []

    async def act(name: str, *, urgent: bool = False) -> None:
        async with turns.take(urgent=urgent):
            order.append(name)
            await asyncio.sleep(0.01)

    waiting = [asyncio.create_task(act(f"a{n}")) for n in range(4)]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(act(f"u{n}", urgent=True)) for n in range(2)]
    await asyncio.sleep(0.002)
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["a0", "u0", "u1", "a1", "a3"]
    async with asyncio.timeout(1):
        await act("after")
