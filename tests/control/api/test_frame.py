# SPDX-License-Identifier: Apache-2.0
"""What is done to every call: pages, conditions, keys that make a repetition harmless, bounds of what is said. On real sockets."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from beffroi.control.api import idempotency
from beffroi.store.engine import open_engine
from tests.control.fakes import Answer, Control, WorkerThread, control

HOOK = {"url": "https://hooks.example/in", "events": ["key:*"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process and one worker."""
    with control(tmp_path_factory.mktemp("c")) as process, WorkerThread(process.data):
        yield process


def make(running: Control, key: str | None = None, **more: Any) -> Answer:
    """A webhook: an object that costs nothing."""
    headers = {} if key is None else {"idempotency-key": key}
    return running.ask("POST", "/api/v1/webhooks", HOOK | more, headers=headers)


def stop(running: Control) -> None:
    """At once, as a power cut does."""
    running.process.kill()
    running.process.wait()


def test_a_list_comes_in_pages_and_each_object_once(running: Control) -> None:
    """Also one that is made between two pages; `next` is null at the end."""
    made = {make(running).json["id"] for _ in range(5)}
    found: list[str] = []
    path: str | None = "/api/v1/webhooks?limit=2"
    while path:
        answer = running.get(path).json
        assert len(answer["data"]) <= 2
        found += [each["id"] for each in answer["data"]]
        path = answer["next"] and f"/api/v1/webhooks?limit=2&cursor={answer['next']}"
    assert made <= set(found) and len(found) == len(set(found))
    cursor = running.get("/api/v1/webhooks?limit=2").json["next"]
    assert running.get(f"/api/v1/operations?cursor={cursor}").status == 400
    assert running.get(f"/api/v1/webhooks?organisation=*&cursor={cursor}").status == 400
    for wrong in ("limit=0", "limit=201", "limit=x", "limit=1&limit=2", "lmit=1", "cursor=x"):
        assert running.get(f"/api/v1/webhooks?{wrong}").status == 400, wrong


def test_a_change_may_say_which_revision_it_means(running: Control) -> None:
    """The ETag of an answer; another is 412, and nothing is changed."""
    made = make(running)
    path = f"/api/v1/webhooks/{made.json['id']}"
    assert running.get(path).headers["etag"] == made.headers["etag"] == '"0"'
    first = running.ask("PATCH", path, {"events": ["*"]}, headers={"if-match": '"0"'})
    assert (first.status, first.headers["etag"], first.json["revision"]) == (200, '"1"', 1)
    for method, body in (("PATCH", {"events": ["key:*"]}), ("DELETE", None)):
        late = running.ask(method, path, body, headers={"if-match": '"0"'})
        assert (late.status, late.json["status"]) == (412, 412)
    assert running.get(path).json["events"] == ["*"]
    assert running.ask("PATCH", path, {}, headers={"if-match": "x"}).status == 400
    gone = running.ask("DELETE", path, headers={"if-match": '"1"'})
    assert (gone.status, gone.text) == (204, "") and running.get(path).status == 404


def test_two_changes_of_one_revision_do_not_both_win(running: Control) -> None:
    """However close together."""
    path = f"/api/v1/webhooks/{make(running).json['id']}"
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(running.ask, "PATCH", path, {"url": f"https://h.example/{index}"}, headers={"if-match": '"0"'})
            for index in range(8)
        ]
    assert sorted(each.result().status for each in asked) == [200] + [412] * 7


def test_the_same_call_under_the_same_key_is_done_once(running: Control) -> None:
    """The same answer, the secret in it included; after a restart too. Another call under that key is 422."""
    first = make(running, "once")
    again = make(running, "once")
    assert (again.status, again.json, again.headers["etag"]) == (201, first.json, first.headers["etag"])
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    other = make(running, "once", url="https://hooks.example/other")
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    stop(running)
    running.start()
    assert make(running, "once").json == first.json
    for wrong in ("", "a b", "x" * 201):
        assert make(running, wrong).status == 400, wrong


def test_what_was_refused_is_not_kept(running: Control) -> None:
    """The same key may be used for what is right."""
    assert make(running, "right", events=["no:such"]).status == 400
    assert make(running, "right").status == 201


def test_a_key_in_use_is_told_so_and_nothing_is_done_twice(running: Control) -> None:
    """Many at once: one is done, the others get its answer or a 409."""
    before = len(running.get("/api/v1/webhooks?limit=200").json["data"])
    with ThreadPoolExecutor(8) as pool:
        answers = [each.result() for each in [pool.submit(make, running, "at-once") for _ in range(8)]]
    assert {each.status for each in answers} <= {201, 409}
    assert {each.json["code"] for each in answers if each.status == 409} <= {"not_answered"}
    assert len({each.json["id"] for each in answers if each.status == 201}) == 1
    assert len(running.get("/api/v1/webhooks?limit=200").json["data"]) == before + 1


def test_answers_are_kept_sealed_and_for_a_day(running: Control) -> None:
    """No secret is in the database in clear; a place without an answer that is old says that nobody knows."""
    made = make(running, "sealed").json
    content = b"".join(path.read_bytes() for path in running.data.glob("beffroi.db*"))
    assert made["id"].encode() in content and made["secret"].encode() not in content
    engine = open_engine(running.data / "beffroi.db")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE idempotency SET status = 0, created_at = created_at - ? WHERE idempotency_key = 'sealed'",
            (idempotency.UNDER_WAY + 1,),
        )
    lost = make(running, "sealed")
    assert (lost.status, lost.json["code"]) == (409, "not_answered") and "look whether it was done" in lost.json[
        "detail"
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE idempotency SET created_at = created_at - ? WHERE idempotency_key = 'sealed'", (idempotency.KEPT,)
        )
    engine.dispose()
    assert make(running, "sealed").json["id"] != made["id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"url": 5}', 400),
        (b'{"nothing": 1}', 400),
        (b'{"a":' + b"[" * 60_000, 400),
        (b'{"url": "' + b"x" * 70_000 + b'"}', 413),
        (b'{"url": "https://h.example/", "events": ["' + b"[{" * 100 + b'"]}', 400),
    ],
)
def test_a_body_that_is_none_is_refused(running: Control, body: bytes, status: int) -> None:
    """As a problem that says what is wrong, and never as a fault of ours."""
    answer = running.ask("POST", "/api/v1/webhooks", body)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]


def test_another_method_is_405_with_those_that_there_are(running: Control) -> None:
    """On both doors; on the port only what the port has."""
    for path, allow in (("/api/v1/webhooks", "GET, HEAD, POST"), ("/api/v1/webhooks/x", "DELETE, GET, HEAD, PATCH")):
        for method in ("PUT", "OPTIONS", "TRACE"):
            answer = running.ask(method, path)
            assert (answer.status, answer.headers["allow"]) == (405, allow), f"{method} {path}"
    assert running.ask("HEAD", "/api/v1/webhooks").status == 200


def test_a_backup_is_long_work_that_says_how_far_it_is(running: Control) -> None:
    """202 and a place to look; the paths of before go on working."""
    begun = running.ask("POST", "/api/v1/backups")
    assert begun.status == 202 and begun.headers["location"] == f"/api/v1/operations/{begun.json['id']}"
    assert begun.json["state"] == "running"
    until = time.monotonic() + 20
    while (found := running.get(begun.headers["location"]).json)["state"] == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert (found["state"], found["progress"], found["fault"]) == ("done", 100, None)
    assert found["result"]["folder"].endswith("staging")
    assert (running.data / "staging" / "vault.key").read_bytes() == (running.data / "vault.key").read_bytes()
    assert running.get("/api/v1/backup").json["state"] == "ready"
    assert running.ask("DELETE", "/api/v1/backup").json["state"] == "none"
    assert begun.json["id"] in {each["id"] for each in running.get("/api/v1/operations").json["data"]}


def test_long_work_ends_with_its_process(running: Control) -> None:
    """And says so: whoever waits for it is not left to wait."""
    engine = open_engine(running.data / "beffroi.db")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO operations (id, organisation, kind, state, progress, result, fault, created_by, created_at, "
            "updated_at) VALUES ('op_x', 'default', 'backup', 'running', 40, 'null', 'null', 'cli', ?, ?)",
            (int(time.time()) - 100, int(time.time()) - 100),
        )
    engine.dispose()
    found = running.get("/api/v1/operations/op_x").json
    assert (found["state"], found["fault"]["code"]) == ("failed", "process_ended")


def key(running: Control, role: str, organisation: str) -> str:
    """An admin key."""
    made = running.ask("POST", f"/api/v1/admin-keys?organisation={organisation}", {"name": role, "role": role})
    assert made.status == 201, made.text
    text: str = made.json["key"]
    return text


def test_a_key_opens_the_port_as_far_as_its_role_goes(running: Control) -> None:
    """403 names the permission; another organisation is 403, and nothing there is seen; socket-only paths are 404 or 405."""
    assert running.ask("POST", "/api/v1/organisations", {"name": "Other", "id": "other"}).status == 201
    owner, viewer, operator = (
        key(running, "owner", "other"),
        key(running, "viewer", "other"),
        key(running, "operator", "*"),
    )
    mine = running.ask("POST", "/api/v1/webhooks", HOOK, port=True, key=owner)
    assert (mine.status, mine.json["organisation"]) == (201, "other")
    seen = running.ask("GET", "/api/v1/webhooks", port=True, key=owner).json["data"]
    assert [each["id"] for each in seen] == [mine.json["id"]]
    refused = running.ask("POST", "/api/v1/webhooks", HOOK, port=True, key=viewer)
    assert refused.status == 403 and "webhooks:write" in refused.json["detail"]
    assert running.ask("GET", "/api/v1/webhooks?organisation=default", port=True, key=owner).status == 403
    assert running.ask("GET", "/api/v1/webhooks?organisation=*", port=True, key=owner).status == 403
    everybody = running.ask("GET", "/api/v1/webhooks?organisation=*&limit=200", port=True, key=operator).json["data"]
    assert {each["organisation"] for each in everybody} == {"default", "other"}
    assert running.ask("GET", "/api/v1/nothing", port=True, key=operator).status == 404
    assert running.ask("DELETE", "/api/v1/backup", port=True, key=operator).status == 404


def test_wrong_keys_from_one_address_are_soon_not_looked_at(running: Control) -> None:
    """429 with Retry-After, a good key included; a second later it is heard again."""
    good = key(running, "viewer", "default")

    def ask(text: str) -> Answer:
        return running.ask("GET", "/api/v1/me", port=True, headers={"authorization": f"Bearer {text}"})

    time.sleep(1.1)
    began = time.monotonic()
    answers = [ask("bfa-aaaaaaaaaaaa-bbbb") for _ in range(15)]
    looked_at = sum(each.status == 401 for each in answers)
    assert {each.status for each in answers} == {401, 429}
    assert looked_at <= 6 + 5 * (time.monotonic() - began)
    assert all(int(each.headers["retry-after"]) >= 1 for each in answers if each.status == 429)
    while ask("bfa-aaaaaaaaaaaa-bbbb").status != 429:
        pass
    assert ask(good).status == 429
    time.sleep(1.1)
    assert ask(good).status == 200


def test_a_vault_that_is_gone_makes_nothing_up(running: Control) -> None:
    """What cannot be opened is said to be; the rest goes on."""
    assert make(running, "before").status == 201
    kept = (running.data / "vault.key").read_bytes()
    stop(running)
    (running.data / "vault.key").unlink()
    running.start()
    try:
        lost = make(running, "before")
        assert (lost.status, lost.json["code"]) == (503, "vault_closed")
        assert make(running, "after").status == 201
    finally:
        stop(running)
        (running.data / "vault.key").write_bytes(kept)
        running.start()
    assert make(running, "before").headers["idempotency-replayed"] == "true"


def test_a_new_key_of_the_vault_seals_what_comes_and_what_was_sealed_opens(running: Control) -> None:
    """Over a restart too; cursors outlive it."""
    before = make(running, "old-key").json
    cursor = running.get("/api/v1/webhooks?limit=1").json["next"]
    made = running.ask("POST", "/api/v1/vault-keys")
    assert made.status == 201 and len((running.data / "vault.key").read_text().split()) == 2
    after = make(running, "new-key").json
    stop(running)
    running.start()
    assert make(running, "old-key").json == before and make(running, "new-key").json == after
    assert running.get(f"/api/v1/webhooks?limit=1&cursor={cursor}").status == 200
    assert "cli:vault:rotate" in running.get("/api/v1/events?limit=200").text
