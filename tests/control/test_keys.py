# SPDX-License-Identifier: Apache-2.0
"""Keys over the socket of a real control process, with real links acknowledging."""

import asyncio
import contextlib
import json
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.core import bus as messages
from beffroi.core.key import key_hash
from beffroi.core.state import load_keys
from tests.control.fakes import Answer, Control, Worker, control

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process that wants two workers."""
    with control(tmp_path_factory.mktemp("c"), workers=2) as process:
        yield process


@contextlib.asynccontextmanager
async def workers(running: Control, count: int = 2) -> AsyncIterator[list[Worker]]:
    """Workers on its bus."""
    with contextlib.ExitStack() as stack:
        those = [stack.enter_context(Worker(running.data, slot)) for slot in range(count)]
        yield those


async def ask(running: Control, method: str, path: str, body: Any = None) -> Answer:
    """One request, off the loop that the workers need."""
    return await asyncio.to_thread(running.ask, method, path, body)


async def create(running: Control, **what: Any) -> Any:
    """A new key."""
    answer = await ask(running, "POST", "/api/v1/keys", {"name": "k", **what})
    assert answer.status == 201, answer.text
    return answer.json


def events(running: Control, subject: str) -> list[tuple[str, str, Any]]:
    """What was recorded about a key: who, what, what it is now."""
    with contextlib.closing(sqlite3.connect(running.data / "beffroi.db")) as database:
        rows = database.execute("select actor, action, after from events where subject = ? order by at_ns", (subject,))
        return [(actor, action, json.loads(after)) for actor, action, after in rows]


async def test_a_new_key_works_at_once_on_every_worker(running: Control) -> None:
    """Its text is in the answer, its hash on the workers, and nowhere is the text kept."""
    async with workers(running) as those:
        made = await create(running, name="app", models=["n"], limits={"requests_per_minute": 3, "hard_budget": "10.5"})
        assert made["waiting"] == []
        for worker in those:
            record = worker.keys[made["id"]]
            assert record.hash == key_hash(made["key"], load_keys(running.data).peppers[record.pepper_id])
            assert record.models == frozenset({"m"})  # `n` is an alias
            assert (record.limits.requests_per_minute, record.limits.hard_budget) == (3, 10_500_000_000)
    secret = made["key"].rpartition("-")[2].encode()
    for file in running.data.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), file


async def test_a_key_lives_a_year_unless_told_otherwise(running: Control) -> None:
    """Longer needs a word, and then for ever is possible."""
    async with workers(running):
        year = time.time() + 365 * 86_400
        assert abs((await create(running))["expires_at"] - year) < 60
        assert (await create(running, long_lived=True))["expires_at"] is None
        assert abs((await create(running, expires_in_days=30))["expires_at"] - time.time() - 30 * 86_400) < 60
        assert (await create(running, expires_in_days=800, long_lived=True))["expires_at"] > year
        refused = await ask(running, "POST", "/api/v1/keys", {"name": "k", "expires_in_days": 800})
        assert (refused.status, refused.json["param"]) == (400, "expires_in_days")


async def test_revocation_returns_when_every_worker_refuses_the_key(running: Control) -> None:
    """And says in how many milliseconds."""
    async with workers(running) as those:
        key = (await create(running))["id"]
        done = await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {})
        assert all(worker.keys[key].revoked for worker in those)
        assert (done.status, done.json["workers"], done.json["cut"]) == (200, 2, None)
        assert 0 < done.json["milliseconds"] < 1000
        assert not any(worker.was_cut for worker in those)
    assert [(actor, action) for actor, action, _ in events(running, key)] == [
        ("cli", "cli:key:create"),
        ("cli", "cli:key:revoke"),
    ]


async def test_cutting_ends_the_open_streams_of_every_worker(running: Control) -> None:
    """Only when asked for."""
    async with workers(running) as those:
        key = (await create(running))["id"]
        done = await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {"cut": True})
        assert done.json["cut"] == 4
        assert [worker.was_cut for worker in those] == [[key], [key]]


async def test_a_worker_that_does_not_cut_is_named_and_the_others_cut(running: Control) -> None:
    """It may have confirmed the revocation before it hung; or not, and the others do not wait for it."""
    async with workers(running, 1) as (sound,):
        key = (await create(running))["id"]
        _, hung = await asyncio.open_unix_connection(str(running.data / "bus.sock"))
        hung.write(messages.frame(messages.Hello(1, 1, "h", 1, 100)))  # it holds all revisions to come
        await asyncio.sleep(0.1)
        failed = await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {"cut": True})
        assert (failed.status, failed.json["code"]) == (503, "not_acknowledged")
        assert "w01 did not confirm" in failed.json["detail"] and "cut" in failed.json["detail"]
        assert sound.was_cut == [key]
        hung.close()
        failed = await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {"cut": True})
        assert failed.status == 503 and "(w01)" in failed.json["detail"]
        assert sound.was_cut == [key, key]


async def test_a_worker_that_does_not_confirm_is_named_and_finds_the_key_revoked(running: Control) -> None:
    """Loudly, within five seconds; the revocation holds on disk."""
    async with workers(running, 1):
        key = (await create(running))["id"]
        began = time.monotonic()
        failed = await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {})
        assert 4.5 < time.monotonic() - began < 8
        assert (failed.status, failed.json["code"]) == (503, "not_acknowledged")
        assert "w01" in failed.json["detail"] and "w00" not in failed.json["detail"]
    with Worker(running.data, 1) as late:
        assert late.keys[key].revoked


async def test_no_verb_of_litellm_calls_a_key_refused_that_a_worker_may_still_accept(running: Control) -> None:
    """Deleted, blocked, or its team blocked: as loudly as a revocation, and true on disk all the same."""
    async with workers(running):
        gone, blocked = [(await create(running))["id"] for _ in range(2)]
    asked = {
        "/key/delete": {"keys": [gone]}, "/key/block": {"key": blocked}, "/team/block": {"team_id": "default"},
        "/team/update": {"team_id": "default", "blocked": True},
    }  # fmt: skip
    async with workers(running, 1):
        failed = await asyncio.gather(*(ask(running, "POST", path, body) for path, body in asked.items()))
        assert [each.status for each in failed] == [503] * 4
        assert all("w01" in each.json["error"]["message"] for each in failed)
    async with workers(running) as those:
        assert all(each.keys[gone].revoked and each.keys[blocked].endpoints == frozenset() for each in those)
        await ask(running, "POST", "/team/unblock", {"team_id": "default"})


async def test_revoking_twice_is_as_good_as_once(running: Control) -> None:
    """A command that was cut off may be given again; there is one event."""
    async with workers(running):
        key = (await create(running))["id"]
        for _ in range(2):
            assert (await ask(running, "POST", f"/api/v1/keys/{key}/revoke", {})).status == 200
    assert [action for _, action, _ in events(running, key)].count("cli:key:revoke") == 1


async def test_a_key_is_named_by_id_public_part_or_a_name_that_only_it_has(running: Control) -> None:
    """Of two keys with one name none is revoked by it."""
    async with workers(running):
        one = await create(running, name="one of a kind")
        answer = await ask(running, "POST", "/api/v1/keys/one%20of%20a%20kind/revoke", {})
        assert answer.json["id"] == one["id"]
        two = [await create(running, name="twin") for _ in range(2)]
        refused = await ask(running, "POST", "/api/v1/keys/twin/revoke", {})
        assert (refused.status, refused.json["code"]) == (404, "key_not_found")
        answer = await ask(running, "POST", f"/api/v1/keys/{two[0]['public']}/revoke", {})
        assert answer.json["id"] == two[0]["id"]
        assert (await ask(running, "POST", "/api/v1/keys/nobody/revoke", {})).status == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "k", "colour": "red"}, "colour"),
        ({"name": "k", "models": ["x"]}, "there is no model `x`; there are `m`"),
        ({"name": "k", "limits": {"concurrency": 0}}, "concurrency"),
        ({"name": "k", "limits": {"hard_budget": "ten"}}, "not an amount"),
        ({"name": "k", "limits": {"budget_period": "week"}}, "week"),
        ({"name": "k", "project": "nowhere"}, "there is no project `nowhere`"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b'{"name":"' + b"x" * 100_000 + b'"}', "body is over"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_the_reason(running: Control, body: Any, said: str) -> None:
    """Problem details, and nothing was made."""
    before = load_keys(running.data)
    refused = running.ask("POST", "/api/v1/keys", body)
    assert refused.status in (400, 413), refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert said in refused.json["detail"]
    assert load_keys(running.data) == before


async def test_listing_shows_no_hash_and_what_is_spent(running: Control) -> None:
    """Enough to manage keys, nothing to use them with."""
    async with workers(running):
        key = (await create(running, limits={"soft_budget": 2}))["id"]
        (listed,) = [one for one in running.get("/api/v1/keys").json["data"] if one["id"] == key]
    assert (listed["spent"], listed["reserved"]) == (0, 0)
    assert not {"hash", "slot", "pepper_id", "key"} & set(listed)


async def test_a_new_pepper_serves_the_keys_to_come_and_the_old_goes_on(running: Control) -> None:
    """Both are on the workers' disk; the database has neither."""
    async with workers(running) as those:
        old = await create(running)
        answer = await ask(running, "POST", "/api/v1/peppers")
        assert answer.status == 201
        new = await create(running)
        table = load_keys(running.data)
        peppers = {record.id: record.pepper_id for record in table.keys}
        assert peppers[new["id"]] == answer.json["pepper_id"] == peppers[old["id"]] + 1
        assert those[0].keys[new["id"]].hash == key_hash(new["key"], table.peppers[peppers[new["id"]]])
    database = (running.data / "beffroi.db").read_bytes() + (running.data / "beffroi.db-wal").read_bytes()
    assert not any(pepper in database for pepper in table.peppers.values())


async def test_a_full_disk_refuses_the_act_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    """A size limit on every file of the process is a full disk; with room again the same act works."""
    with control(tmp_path) as alone, Worker(tmp_path) as worker:
        made = await create(alone)
        pid, kind = alone.process.pid, resource.RLIMIT_FSIZE
        before = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (100, before[1]))
        for path, body in ((f"/api/v1/keys/{made['id']}/revoke", {}), ("/api/v1/keys", {"name": "k"})):
            refused = await ask(alone, "POST", path, body)
            assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
        assert len(load_keys(tmp_path).keys) == 2 and not worker.keys[made["id"]].revoked
        resource.prlimit(pid, kind, before)
        done = await ask(alone, "POST", f"/api/v1/keys/{made['id']}/revoke", {})
        assert done.status == 200 and worker.keys[made["id"]].revoked


async def test_many_acts_at_once_keep_their_order(running: Control) -> None:
    """Thirty keys from thirty callers: no worker sees a gap, none loads its table again, no slot is given twice."""
    async with workers(running) as those:
        made = await asyncio.gather(*(create(running, name=f"k{n}") for n in range(30)))
        assert all(worker.loads == 0 for worker in those)
        slots = [those[0].keys[key["id"]].slot for key in made]
        assert len(set(slots)) == 30
