# SPDX-License-Identifier: Apache-2.0
"""Tenants over HTTP: a running control process, its socket for the operator and its port for who has an admin key."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from beffroi.core.key import ADMIN, _checksum, new_key
from beffroi.core.state import load_keys
from tests.control.fakes import Answer, Control, Worker, WorkerThread, control, until

API = "/api/v1"
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process with one worker and the organisations `acme` and `other`."""
    with control(tmp_path_factory.mktemp("c")) as process, WorkerThread(process.data):
        for name in ("acme", "other"):
            assert process.ask("POST", f"{API}/organisations", {"name": "Same", "id": name}).status == 201
            made = process.ask("POST", f"{API}/projects?organisation={name}", {"name": "Same", "id": "lab"})
            assert made.status == 201
        yield process


def made(running: Control, kind: str, body: dict[str, Any], organisation: str = "acme") -> Any:
    """Something made by the operator."""
    answer = running.ask("POST", f"{API}/{kind}?organisation={organisation}", body)
    assert answer.status == 201, answer.text
    return answer.json


def key(running: Control, role: str, organisation: str = "acme", **more: Any) -> str:
    """The text of an admin key."""
    return str(made(running, "admin-keys", {"name": role, "role": role, **more}, organisation)["key"])


def sql(running: Control, statement: str, **values: Any) -> Any:
    """One statement in the database of a running control, behind its back."""
    engine = create_engine(f"sqlite:///{running.data / 'beffroi.db'}")
    with engine.begin() as connection:
        found = connection.execute(text(statement), values)
        rows = found.all() if found.returns_rows else None
    engine.dispose()
    return rows


def refused(answer: Answer, status: int, code: str) -> None:
    """A problem with that code."""
    assert (answer.status, answer.json["code"]) == (status, code), answer.text


def test_an_admin_key_is_shown_once_and_only_its_hash_is_kept(running: Control) -> None:
    """Nothing in the database, its log of events, or a list has the key itself."""
    answer = made(running, "admin-keys", {"name": "once", "role": "auditor", "expires_in_days": 30})
    assert answer["key"].startswith("bfa-") and answer["public"] in answer["key"]
    assert 29 < (answer["expires_at"] - time.time()) / 86_400 <= 30
    secret = answer["key"].rpartition("-")[2]
    for file in running.data.glob("beffroi.db*"):
        assert secret.encode() not in file.read_bytes()
    assert secret not in running.log()
    assert "key" not in running.get(f"{API}/admin-keys/{answer['id']}?organisation=acme").json
    too_long = {"name": "x", "role": "viewer", "expires_in_days": 400}
    refused(running.ask("POST", f"{API}/admin-keys?organisation=acme", too_long), 400, "bad_request")


def test_a_key_may_what_its_role_may_in_its_organisation(running: Control) -> None:
    """And is told what it is; another organisation is not there for it, by name or by id."""
    owner, viewer = key(running, "owner"), key(running, "viewer")
    me = running.ask("GET", f"{API}/me", key=owner).json
    assert (me["role"], me["organisation"], "members:write" in me["permissions"]) == ("owner", "acme", True)
    assert [each["id"] for each in running.ask("GET", f"{API}/organisations", key=owner).json["data"]] == ["acme"]
    assert running.ask("POST", f"{API}/projects", {"name": "p"}, key=owner).status == 201
    refused(running.ask("POST", f"{API}/projects", {"name": "p"}, key=viewer), 403, "permission_denied")
    for path in ("organisations/other", "organisations/nowhere"):
        refused(running.ask("GET", f"{API}/{path}", key=owner), 404, "object_not_found")
    refused(running.ask("GET", f"{API}/projects?organisation=other", key=owner), 403, "permission_denied")
    refused(running.ask("POST", f"{API}/organisations", {"name": "x"}, key=owner), 403, "permission_denied")


def test_scopes_and_a_principal_narrow_a_key_and_the_principal_can_take_it_along(running: Control) -> None:
    """Not more than the member may now; and nothing once it is suspended or gone."""
    member = made(running, "members", {"email": "d@example.org", "role": "developer"})
    text = key(running, "owner", scopes=["projects:read", "members:write"], principal=member["id"])
    assert running.ask("GET", f"{API}/me", key=text).status == 403
    assert running.ask("GET", f"{API}/projects", key=text).status == 200
    ask = {"email": "n@example.org", "role": "viewer"}
    refused(running.ask("POST", f"{API}/members", ask, key=text), 403, "permission_denied")
    place = f"{API}/members/{member['id']}?organisation=acme"
    assert running.ask("PATCH", place, {"state": "suspended"}).status == 200
    refused(running.ask("GET", f"{API}/projects", key=text), 401, "invalid_api_key")
    assert running.ask("PATCH", place, {"state": "active"}).status == 200
    assert running.ask("GET", f"{API}/projects", key=text).status == 200
    assert running.ask("DELETE", place).status == 204
    refused(running.ask("GET", f"{API}/projects", key=text), 401, "invalid_api_key")


def test_a_key_that_is_unknown_expired_or_revoked_is_refused_alike(running: Control) -> None:
    """The next call after its revocation; the answer does not say why."""
    unknown, wrong = new_key(ADMIN).text, key(running, "viewer")[:-7] + "0000000"
    expired, revoked = key(running, "viewer", expires_in_days=1), key(running, "viewer")
    assert running.ask("GET", f"{API}/projects", key=expired).status == 200
    sql(running, "UPDATE admin_keys SET expires_at = 1 WHERE public = :public", public=expired[4:16])
    found = running.get(f"{API}/admin-keys?organisation=acme").json["data"]
    (identifier,) = [each["id"] for each in found if each["public"] == revoked[4:16]]
    shown = running.ask("POST", f"{API}/admin-keys/{identifier}/revoke?organisation=acme").json
    assert shown["state"] == "revoked"
    good = key(running, "viewer")
    head = good[:17] + "x" * 32
    other = head + _checksum(head)  # the public part of a good key, and a secret that somebody made up
    texts = set()
    for given in (unknown, wrong, other, expired, revoked, "bfa-x", "bf-" + unknown[4:], f"{unknown}é"):
        answer = running.ask("GET", f"{API}/projects", key=given.encode().decode("latin-1"))
        refused(answer, 401, "invalid_api_key")
        texts.add(answer.text)
    assert len(texts) == 1


def test_the_last_use_of_a_key_is_noted(running: Control) -> None:
    """Once a minute at most: it is a note, and not a record of each call."""
    text = key(running, "viewer")
    query = f"{API}/admin-keys?organisation=acme&limit=200"
    for _ in range(2):
        assert running.ask("GET", f"{API}/projects", key=text).status == 200
        (shown,) = [each for each in running.get(query).json["data"] if each["public"] == text[4:16]]
        assert abs(shown["used_at"] - time.time()) < 5
    sql(running, "UPDATE admin_keys SET used_at = 7 WHERE public = :public", public=text[4:16])
    running.ask("GET", f"{API}/projects", key=text)
    (shown,) = [each for each in running.get(query).json["data"] if each["public"] == text[4:16]]
    assert shown["used_at"] > 7


def test_nobody_makes_a_key_beyond_his_own(running: Control) -> None:
    """Of a higher role, of a scope that the role has not, of the installation."""
    admin = key(running, "admin")
    for ask in ({"role": "owner"}, {"role": "operator"}):
        answer = running.ask("POST", f"{API}/admin-keys", {"name": "x", **ask}, key=admin)
        assert answer.status in (400, 403), answer.text
    narrow = key(running, "admin", scopes=["admin-keys:write"])
    refused(
        running.ask("POST", f"{API}/admin-keys", {"name": "x", "role": "viewer"}, key=narrow), 403, "permission_denied"
    )
    beyond = {"name": "x", "role": "viewer", "scopes": ["keys:write"]}
    refused(running.ask("POST", f"{API}/admin-keys", beyond, key=admin), 400, "bad_request")
    owner = made(running, "admin-keys", {"name": "o", "role": "owner"})
    refused(running.ask("POST", f"{API}/admin-keys/{owner['id']}/revoke", key=admin), 403, "permission_denied")
    operator = key(running, "operator", "*")
    assert running.ask("GET", f"{API}/organisations?organisation=*", key=operator).status == 200
    refused(
        running.ask("POST", f"{API}/admin-keys?organisation=acme", {"name": "x", "role": "operator"}),
        400,
        "bad_request",
    )


def test_a_suspended_tenant_is_refused_by_every_worker_and_its_people_can_look(running: Control) -> None:
    """The answer comes when workers know; admin keys of the organisation read on and change nothing."""
    made(running, "organisations", {"name": "Late", "id": "late"}, "*")
    owner = key(running, "owner", "late")
    shown = running.ask("POST", f"{API}/organisations/late/suspend").json
    assert (shown["state"], shown["waiting"]) == ("suspended", [])
    assert load_keys(running.data).closed == {"late"}
    assert running.ask("GET", f"{API}/projects", key=owner).status == 200
    refused(running.ask("POST", f"{API}/projects", {"name": "x"}, key=owner), 403, "permission_denied")
    admin = key(running, "admin")
    assert running.ask("POST", f"{API}/projects/lab/suspend", key=admin).status == 200
    assert load_keys(running.data).closed == {"late", "acme/lab"}
    assert running.ask("POST", f"{API}/projects/lab/resume", key=admin).json["state"] == "active"
    assert running.ask("POST", f"{API}/organisations/late/resume").json["state"] == "active"
    assert load_keys(running.data).closed == frozenset()
    assert running.ask("POST", f"{API}/projects", {"name": "x"}, key=owner).status == 201


async def test_a_suspension_that_a_worker_did_not_confirm_fails_loudly_and_holds(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """On disk it is; a worker that comes later has it, and asking again says so; so does a control that starts anew."""
    with control(tmp_path_factory.mktemp("alone")) as alone:
        answer = await asyncio.to_thread(alone.ask, "POST", f"{API}/organisations/default/suspend")
        refused(answer, 503, "not_acknowledged")
        assert load_keys(alone.data).closed == {"default"}
        with Worker(alone.data) as worker:
            await until(lambda: worker.link.connected)
            answer = await asyncio.to_thread(alone.ask, "POST", f"{API}/organisations/default/suspend")
            assert (answer.status, answer.json["revision"]) == (200, 1)
        (alone.data / "keys.bin").unlink()
        alone.process.kill()
        alone.process.wait()
        alone.start()
        assert load_keys(alone.data).closed == {"default"}


def test_who_did_what_is_listed_the_newest_first_by_pages(running: Control) -> None:
    """Filtered by what, who and which act; an act that there is not is told."""
    admin = key(running, "admin")
    for number in range(5):
        running.ask("POST", f"{API}/projects", {"name": f"n{number}", "id": f"n{number}"}, key=admin)
    place = f"{API}/events?action=project:create&limit=2"
    first = running.ask("GET", place, key=admin).json
    second = running.ask("GET", f"{place}&cursor={first['next']}", key=admin).json
    assert [each["subject"] for each in first["data"] + second["data"]] == ["n4", "n3", "n2", "n1"]
    (one,) = running.ask("GET", f"{API}/events?subject=n0", key=admin).json["data"]
    assert (one["action"], one["actor"][:4], one["organisation"], one["project"], one["after"]) == (
        "api:project:create", "adk_", "acme", "n0", {"name": "n0"},
    )  # fmt: skip
    assert running.ask("GET", f"{API}/events?actor=cli&action=api:project:create", key=admin).json["data"] == []
    refused(running.ask("GET", f"{API}/events?action=no:such", key=admin), 400, "bad_request")
    refused(running.ask("GET", f"{API}/events", key=key(running, "viewer")), 403, "permission_denied")


def test_a_change_says_which_revision_it_saw(running: Control) -> None:
    """ETag and If-Match on everything that is kept."""
    admin = key(running, "admin")
    shown = running.ask("POST", f"{API}/projects", {"name": "n", "id": "etag"}, key=admin)
    assert shown.headers["etag"] == '"0"'
    change = running.ask("PATCH", f"{API}/projects/etag", {"name": "m"}, key=admin, headers={"if-match": '"0"'})
    assert (change.status, change.headers["etag"]) == (200, '"1"')
    stale = running.ask("DELETE", f"{API}/projects/etag", key=admin, headers={"if-match": '"0"'})
    refused(stale, 412, "precondition_failed")
    assert running.ask("DELETE", f"{API}/projects/etag", key=admin, headers={"if-match": '"1"'}).status == 204


def test_an_ai_system_names_models_of_the_configuration(running: Control) -> None:
    """By any of their names; a made-up one is refused with those that there are."""
    admin = key(running, "admin")
    ask = {"name": "desk", "purpose": "Answers citizens.", "owner": "Head of the desk", "models": ["n"]}
    shown = running.ask("POST", f"{API}/systems", ask, key=admin)
    assert (shown.status, shown.json["models"]) == (201, ["m"])
    wrong = running.ask("PATCH", f"{API}/systems/{shown.json['id']}", {"models": ["zz"]}, key=admin)
    refused(wrong, 400, "bad_request")
    assert "there are `m`" in wrong.json["detail"]
    assert running.ask("DELETE", f"{API}/systems/{shown.json['id']}", key=admin).status == 204
