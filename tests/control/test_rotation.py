# SPDX-License-Identifier: Apache-2.0
"""A key's successor: what it has, what becomes of the old one, and that it holds on disk."""

import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus
from beffroi.control.fleet.table import everything
from beffroi.control.keys import By, Keys
from beffroi.control.keyshapes import KeyAsk, RotateAsk
from beffroi.control.snapshots import KeyFiles, add_pepper
from beffroi.control.tenancy.scope import SOCKET
from beffroi.core.errors import BadRequest
from beffroi.core.key import key_hash
from beffroi.core.snapshot import Config
from beffroi.core.state import load_keys
from beffroi.store.engine import reading
from tests.control.fakes import Answer, Control, Worker, control
from tests.control.test_keys import ask, create, events

pytestmark = pytest.mark.anyio
DAY = 86_400
BY = By(SOCKET, "default")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process that wants one worker."""
    with control(tmp_path_factory.mktemp("c")) as process:
        yield process


@pytest.fixture
async def worker(running: Control) -> AsyncIterator[Worker]:
    """That worker."""
    with Worker(running.data) as joined:
        yield joined


async def rotate(running: Control, key: str, **how: Any) -> Answer:
    """Rotate a key."""
    return await ask(running, "POST", f"/api/v1/keys/{key}/rotate", how)


async def listed(running: Control, key: str) -> Any:
    """A key as it is shown."""
    return (await ask(running, "GET", f"/api/v1/keys/{key}")).json


async def test_a_successor_may_do_the_same_and_counts_in_the_same_place(running: Control, worker: Worker) -> None:
    """Same models, limits, project and slot; another id, public part and hash. The worker holds both when it returns."""
    made = await create(running, name="app", models=["m"], limits={"requests_per_minute": 3, "hard_budget": "10"})
    answer = await rotate(running, made["id"])
    assert (answer.status, answer.json["waiting"]) == (201, [])
    old, new = worker.keys[made["id"]], worker.keys[answer.json["id"]]
    assert (new.slot, new.name, new.models, new.limits, new.project) == (
        old.slot, old.name, old.models, old.limits, old.project,
    )  # fmt: skip
    assert new.hash == key_hash(answer.json["key"], load_keys(running.data).peppers[new.pepper_id]) != old.hash
    assert new.public == answer.json["public"] != old.public == answer.json["old_public"]
    assert worker.loads == 0  # it came as one change, not as a new table
    secret = answer.json["key"].rpartition("-")[2].encode()
    assert not [file for file in running.data.rglob("*") if file.is_file() and secret in file.read_bytes()]


async def test_the_old_key_ends_after_a_day_unless_told_otherwise(running: Control, worker: Worker) -> None:
    """Its end is its expiry, which each worker enforces by itself; an earlier one stays."""
    for how, seconds in (({}, DAY), ({"overlap_seconds": 90}, 90), ({"overlap_seconds": 0}, 0)):
        made = await create(running)
        answer = await rotate(running, made["id"], **how)
        ends = worker.keys[made["id"]].expires_at
        assert ends == answer.json["old_expires_at"] and ends is not None
        assert -2 < ends - time.time() - seconds <= 0
    made = await create(running, expires_in_days=1)
    answer = await rotate(running, made["id"], overlap_seconds=30 * DAY)
    assert answer.json["old_expires_at"] == made["expires_at"]


async def test_a_successor_lives_as_long_as_its_predecessor_was_to_live(running: Control, worker: Worker) -> None:
    """From now on; for ever if that was for ever."""
    for asked, life in (({"expires_in_days": 30}, 30 * DAY), ({"long_lived": True}, None)):
        made = await create(running, **asked)
        expires = (await rotate(running, made["id"])).json["expires_at"]
        assert expires is None if life is None else abs(expires - time.time() - life) < 5


async def test_a_key_has_one_successor(running: Control, worker: Worker) -> None:
    """Whoever asks again is sent to it; and a revoked key has none."""
    made = await create(running, name="once")
    first = (await rotate(running, made["id"])).json
    refused = await rotate(running, made["id"])
    assert refused.status == 400 and first["id"] in refused.json["detail"]
    second = (await rotate(running, first["id"])).json
    assert {worker.keys[key].slot for key in (made["id"], first["id"], second["id"])} == {worker.keys[made["id"]].slot}
    revoked = await create(running)
    await ask(running, "POST", f"/api/v1/keys/{revoked['id']}/revoke")
    assert "is revoked" in (await rotate(running, revoked["id"])).json["detail"]
    assert (await rotate(running, "nobody")).status == 404
    assert (await rotate(running, first["id"], overlap_seconds=-1)).status == 400


async def test_a_name_means_the_newest_key_that_has_it(running: Control, worker: Worker) -> None:
    """Both are accepted for a day; what is shown under the name is the successor, and each names the other."""
    made = await create(running, name="shared name")
    new = (await rotate(running, made["id"])).json
    found = await listed(running, "shared%20name")
    assert (found["id"], found["state"], found["rotated_from"]) == (new["id"], "active", made["id"])
    old = await listed(running, made["id"])
    assert (old["state"], old["rotated_to"]) == ("rotated", new["id"])


async def test_revoking_a_successor_revokes_what_is_left_of_its_predecessors(running: Control, worker: Worker) -> None:
    """Whoever takes an app its key takes it the one before as well."""
    made = await create(running, name="twice")
    new = (await rotate(running, made["id"])).json
    done = await ask(running, "POST", "/api/v1/keys/twice/revoke", {"cut": True})
    assert (done.json["id"], done.json["also"], done.json["cut"]) == (new["id"], [made["id"]], 4)
    assert worker.keys[made["id"]].revoked and worker.keys[new["id"]].revoked
    assert [action for _, action, _ in events(running, made["id"])][-1] == "cli:key:revoke"


async def test_revoking_a_predecessor_ends_its_overlap_alone(running: Control, worker: Worker) -> None:
    """The old key leaked; the new one goes on."""
    made = await create(running)
    new = (await rotate(running, made["id"])).json
    done = await ask(running, "POST", f"/api/v1/keys/{made['id']}/revoke")
    assert done.json["also"] == []
    assert worker.keys[made["id"]].revoked and not worker.keys[new["id"]].revoked


async def test_a_rotation_is_two_events(running: Control, worker: Worker) -> None:
    """The old key's says its end and its successor, the new key's where it comes from."""
    made = await create(running)
    new = (await rotate(running, made["id"])).json
    actor, action, after = events(running, made["id"])[-1]
    assert (actor, action) == ("cli", "cli:key:rotate")
    assert after == {"expires_at": new["old_expires_at"], "rotated_to": new["id"]}
    ((_, action, after),) = events(running, new["id"])
    assert (action, after["rotated_from"]) == ("cli:key:create", made["id"])


async def test_the_end_holds_when_control_is_killed_and_back(tmp_path: Path) -> None:
    """It is in the database and in the workers' files."""
    with control(tmp_path) as alone:
        with Worker(tmp_path):
            made = await create(alone)
            new = (await rotate(alone, made["id"], overlap_seconds=600)).json
        alone.process.kill()
        alone.process.wait()
        on_disk = {key.id: key for key in load_keys(tmp_path).keys}
        assert on_disk[made["id"]].expires_at == new["old_expires_at"]
        alone.start()
        with Worker(tmp_path) as late:
            assert late.keys[made["id"]].expires_at == new["old_expires_at"]
            assert (await listed(alone, made["id"]))["rotated_to"] == new["id"]
            assert (await rotate(alone, made["id"])).status == 400


async def test_a_worker_that_does_not_answer_is_named_and_the_new_key_is_not_lost(tmp_path: Path) -> None:
    """Its text is in this answer only."""
    with control(tmp_path, workers=2) as alone, Worker(tmp_path) as sound:
        made = await create(alone)
        answer = await rotate(alone, made["id"], overlap_seconds=0)
        assert (answer.status, answer.json["waiting"]) == (201, [1])
        assert answer.json["id"] in sound.keys and answer.json["key"].startswith("bf-")


async def test_what_is_used_is_shown_for_each_limit(running: Control, worker: Worker) -> None:
    """Before the first request: nothing of each, all left."""
    made = await create(running, limits={"requests_per_minute": 3, "soft_budget": "2.5", "budget_period": "day"})
    use = {one["name"]: one for one in (await listed(running, made["id"]))["use"]}
    assert set(use) == {"requests_per_minute", "soft_budget"}
    assert (use["requests_per_minute"]["used"], use["requests_per_minute"]["remaining"]) == (0, 3)
    assert (use["soft_budget"]["used"], use["soft_budget"]["limit"]) == (0, 2_500_000_000)


async def test_an_end_that_the_disk_did_not_take_is_told_with_the_next_act(
    tmp_path: Path, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has the rotation, the key table has not: whatever is asked next, refused or not, makes that good."""
    files, sent = KeyFiles(tmp_path, [], add_pepper(tmp_path, {})), []

    class Workers:
        send_delta = staticmethod(sent.append)

        @staticmethod
        async def hold_keys(revision: int, within: float) -> list[int]:
            return []

    budgets = Budgets(tmp_path, zone="Europe/Paris")
    with ThreadPoolExecutor(1) as thread:
        service = Keys(database, thread, files, cast("Bus", Workers), tmp_path, Config, budgets)
        made = await service.create(KeyAsk(name="app"), BY)
        with monkeypatch.context() as patched:
            patched.setattr("beffroi.control.snapshots.os.fdatasync", raising(OSError("the disk is full")))
            with pytest.raises(OSError, match="full"):
                await service.rotate(made.id, RotateAsk(0), BY)
        assert (files.keys[made.id].expires_at or 0) > time.time()
        with pytest.raises(BadRequest, match="rotated already"):
            await service.rotate(made.id, RotateAsk(0), BY)
        assert (files.keys[made.id].expires_at or 0) <= time.time()
        with reading(database) as connection:
            known = everything(connection, None).keys
        assert {key.id: key for key in load_keys(tmp_path).keys} == files.keys == {key.id: key for key in known}
        assert [len(delta.upsert) for delta in sent] == [1, 2]
    budgets.close()
    files.close()


def raising(error: Exception) -> Any:
    """Something to call that fails."""

    def fail(*_: object) -> None:
        raise error

    return fail
