# SPDX-License-Identifier: Apache-2.0
"""Over the ports of a real control process: one-time links, claims, rotations that it takes on by itself."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.core.key import key_hash
from beffroi.core.state import load_keys
from tests.control.fakes import Answer, Control, Worker, control, until
from tests.control.test_keys import ask, create

pytestmark = pytest.mark.anyio
SCHEDULE = {"every_days": 90, "notice_seconds": 0, "overlap_seconds": 3600, "idle_seconds": None}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process that wants one worker, with a store of files."""
    folder = tmp_path_factory.mktemp("c")
    config = folder / "beffroi.yaml"
    config.write_text(
        "resources:\n"
        "  engines: [{name: a, url: 'http://127.0.0.1:9'}]\n"
        "  models: [{id: m}]\n"
        f"  secret_stores: [{{name: s, kind: file, at: {folder / 'store'}}}]\n"
    )
    data = folder / "data"
    data.mkdir()
    with control(data, config=config) as process:
        yield process


@pytest.fixture
async def worker(running: Control) -> AsyncIterator[Worker]:
    """That worker."""
    with Worker(running.data) as joined:
        yield joined


async def rotated(running: Control, key: str, state: str) -> Any:
    """The rotation of a key, once it has come so far."""
    found: Any = None

    async def there() -> bool:
        nonlocal found
        found = (await ask(running, "GET", f"/api/v1/rotations?key={key}")).json["data"][-1]
        return bool(found["state"] == state)

    for _ in range(200):
        if await there():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def get(running: Control, path: str, method: str = "GET") -> Answer:
    """Through the port, without a key: whoever has the link needs none."""
    return await asyncio.to_thread(running.ask, method, path, None, port=True)


async def test_a_link_answers_once_through_the_port_and_needs_no_key(running: Control, worker: Worker) -> None:
    """HEAD takes nothing: programs look at links in mails. What is behind it opens; the answer is not kept anywhere."""
    made = await create(running, rotation=SCHEDULE)
    begun = await ask(running, "POST", "/api/v1/rotations", {"key": made["id"]})
    assert begun.status == 201 and begun.headers["etag"]
    rotation = await rotated(running, made["id"], "made")
    link = (await ask(running, "POST", f"/api/v1/rotations/{rotation['id']}/link", {})).json
    origin = f"http://127.0.0.1:{running.port}"
    assert link["link"].startswith(f"{origin}/api/v1/links/{rotation['id']}.") and link["waiting"] == []
    path = link["link"].removeprefix(origin)
    assert (await get(running, path, "HEAD")).status == 405
    fetched = await get(running, path)
    assert (fetched.status, fetched.headers["cache-control"]) == (200, "no-store")
    assert fetched.headers["referrer-policy"] == "no-referrer"
    new = worker.keys[fetched.json["id"]]
    assert new.hash == key_hash(fetched.json["key"], load_keys(running.data).peppers[new.pepper_id])
    assert worker.keys[made["id"]].expires_at == fetched.json["old_expires_at"]
    again = await get(running, path)
    assert again.status == 404 and "used already" in again.json["detail"]
    shown = (await ask(running, "GET", f"/api/v1/rotations/{rotation['id']}")).json
    assert shown["state"] == "overlap" and shown["fetched_at"] and "sealed" not in shown and "link_hash" not in shown
    secret = path.partition(".")[2].encode()
    assert not [file for file in running.data.rglob("*") if file.is_file() and secret in file.read_bytes()]


async def test_whoever_guesses_is_held_up(running: Control, worker: Worker) -> None:
    """Five wrong ones a second from an address; and what is wrong with them is not told."""
    answers = [await get(running, f"/api/v1/links/rot_{n:032}.{secrets.token_urlsafe(32)}") for n in range(8)]
    assert [answer.status for answer in answers[:3]] == [404] * 3  # one was used up by the test before
    assert answers[-1].status == 429
    assert len({answer.json["detail"] for answer in answers[:3]}) == 1
    await asyncio.sleep(1.2)
    for path in ("/api/v1/links/", "/api/v1/links/x", "/api/v1/links/a%00b.c"):
        assert (await get(running, path)).status in (401, 404)


async def test_a_rotation_whose_answer_is_lost_is_asked_for_again(running: Control, worker: Worker) -> None:
    """With the client's own secret: the same successor comes back, from a control process that was killed in between too."""
    made = await create(running, name="claimed")
    body = {"overlap_seconds": 60, "claim": secrets.token_urlsafe(32)}
    first = (await ask(running, "POST", "/api/v1/keys/claimed/rotate", body)).json
    running.process.kill()
    running.process.wait()
    running.start()
    await until(lambda: worker.link.connected)
    second = await ask(running, "POST", "/api/v1/keys/claimed/rotate", body)
    assert second.status == 201 and second.json == first | {"waiting": []}
    other = await ask(running, "POST", f"/api/v1/keys/{made['id']}/rotate", body | {"claim": secrets.token_urlsafe(32)})
    assert other.status == 400 and "rotated already" in other.json["detail"]
    assert (await ask(running, "POST", "/api/v1/keys/claimed/rotate", {"claim": "short"})).status == 400
    secret = body["claim"].encode()
    assert not [file for file in running.data.rglob("*") if file.is_file() and secret in file.read_bytes()]


async def test_a_key_is_rotated_into_a_store_by_itself(running: Control, worker: Worker) -> None:
    """Nobody asks for anything but the rotation; what lies in the store opens."""
    made = await create(running, rotation=SCHEDULE | {"delivery": {"store": "s", "path": "app"}})
    await ask(running, "POST", "/api/v1/rotations", {"key": made["id"]})
    rotation = await rotated(running, made["id"], "overlap")
    text = (Path(running.arguments["config"]).parent / "store/default/app").read_text().strip()
    new = worker.keys[rotation["successor"]]
    assert new.hash == key_hash(text, load_keys(running.data).peppers[new.pepper_id])
    assert (await ask(running, "POST", f"/api/v1/rotations/{rotation['id']}/link", {})).status == 409
    assert (await ask(running, "POST", f"/api/v1/rotations/{rotation['id']}/cancel", {})).status == 409


async def test_a_patch_is_conditional_and_a_list_has_pages(running: Control, worker: Worker) -> None:
    """ETag, If-Match, cursors; unknown fields are refused."""
    made = [await create(running, name=f"page {n}", owner="pages") for n in range(3)]
    path = f"/api/v1/keys/{made[0]['id']}"
    assert (await ask(running, "GET", path)).headers["etag"] == '"0"'
    changed = await ask(running, "PATCH", path, {"addresses": ["10.0.0.0/8"]})
    assert (changed.status, changed.headers["etag"], changed.json["waiting"]) == (200, '"1"', [])
    assert worker.keys[made[0]["id"]].addresses == ("10.0.0.0/8",)
    assert (await ask(running, "PATCH", path, {"colour": "red"})).status == 400
    found, query = [], "limit=2"
    while True:
        page = (await ask(running, "GET", f"/api/v1/keys?owner=pages&{query}")).json
        found += [each["id"] for each in page["data"]]
        if page["next"] is None:
            break
        query = f"limit=2&cursor={page['next']}"
    assert found == [each["id"] for each in made]
