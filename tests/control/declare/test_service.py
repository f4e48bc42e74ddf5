# SPDX-License-Identifier: Apache-2.0
"""Applying a document: once is as good as twice, all of it or nothing, and what is exported changes nothing."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings

from beffroi.config import tenants
from beffroi.control.tenancy.permissions import Permission, Role
from beffroi.control.tenancy.scope import Actor
from beffroi.core.errors import BadRequest, BeffroiError, PermissionDenied, PreconditionFailed
from beffroi.store import tables as t
from beffroi.store.engine import open_engine, upgrade
from beffroi.store.vault import Vault
from tests.control.declare.documents import documents
from tests.control.declare.ground import Ground

ACME: dict[str, Any] = {
    "organisations": [
        {
            "id": "acme",
            "projects": [{"id": "chat"}],
            "members": [{"email": "Ada@acme.example", "role": "owner"}],
            "systems": [{"name": "desk", "purpose": "Answers", "owner": "Ada", "models": ["chat"]}],
            "keys": [
                {
                    "name": "a",
                    "project": "chat",
                    "models": ["chat"],
                    "system": "desk",
                    "limits": {"hard_budget": "10.50"},
                },
                {"name": "b", "project": "chat", "expires": "2027-03-01", "secret_to": "file:b.key"},
            ],
            "webhooks": [{"url": "https://hooks.example/x"}],
        }
    ]
}


def changed(**parts: Any) -> dict[str, Any]:
    """The same organisation with other parts."""
    return {"organisations": [ACME["organisations"][0] | parts]}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without anything, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    engine = open_engine(path)
    upgrade(engine)
    engine.dispose()  # the last to close it puts all of it into the one file
    return path


@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(document=documents)
def test_what_is_exported_says_all_and_applied_anew_changes_nothing(empty: Path, document: dict[str, Any]) -> None:
    """For documents made at random: applied, applied again, exported, written as YAML, read, planned here and elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        grounds = []
        for name in ("one.db", "other.db"):
            shutil.copy(empty, Path(folder) / name)
            grounds.append(Ground(open_engine(Path(folder) / name), Vault([bytes(32)])))
        one, other = grounds
        assert one.plan(document).faults == ()
        one.apply(document)
        assert one.plan(document).changes == ()
        text = tenants.as_yaml(one.export())
        exported = tenants.as_plain(tenants.parse(text, "export.yaml").sound())
        assert one.plan(exported).changes == (), text
        other.apply(exported)
        assert other.export() == one.export()
        for ground in grounds:
            ground.engine.dispose()


def test_a_second_apply_has_nothing_to_do_and_makes_no_event(ground: Ground) -> None:
    first = ground.apply(ACME)
    assert [secret.kind for secret in first.secrets] == ["key", "key", "webhook"]
    assert [secret.secret_to for secret in first.secrets] == [None, "file:b.key", None]
    assert all(secret.key.startswith(("bf-", "whsec_")) for secret in first.secrets)
    before = ground.content()
    second = ground.apply(ACME)
    assert second.changes == () and second.secrets == () and second.unchanged == 7
    assert ground.content() == before


def test_only_what_differs_is_changed(ground: Ground) -> None:
    ground.apply(ACME)
    keys = [ACME["organisations"][0]["keys"][0] | {"limits": {"concurrency": 2}, "models": None, "system": ""}]
    done = ground.apply(changed(keys=keys))
    assert [(one.act, one.kind) for one in done.changes] == [("update", "key")]
    exported = {key["name"]: key for key in ground.export("acme")["organisations"][0]["keys"]}
    assert (
        exported["a"]["limits"] == {"concurrency": 2}
        and "models" not in exported["a"]
        and "system" not in exported["a"]
    )
    assert exported["b"]["expires"] == "2027-03-01"


@pytest.mark.parametrize(
    "parts",
    [
        {"keys": [{"name": "c", "project": "chat", "expires": "2990-01-01"}]},  # longer than the policy allows
        {"webhooks": [{"url": "https://x.example/", "events": ["no:such"]}]},  # there is no such event
        {"systems": [{"name": "desk", "purpose": "Answers", "owner": "Ada", "project": "chat"}]},  # it cannot move
    ],
)
def test_an_apply_that_is_refused_in_the_middle_changes_nothing(ground: Ground, parts: dict[str, Any]) -> None:
    """Projects are made before, and are gone again; so are events, and keys, and slots."""
    ground.apply(ACME)
    before = ground.content()
    with pytest.raises(BeffroiError):
        ground.apply(changed(projects=[{"id": "chat"}, {"id": "more"}], **parts))
    assert ground.content() == before


def test_a_plan_that_went_stale_is_not_applied(ground: Ground) -> None:
    base = ground.plan(ACME).base
    ground.apply(changed(members=[]), base=base)
    with pytest.raises(PreconditionFailed, match="since the plan was made"):
        ground.apply(ACME, base=base)
    ground.apply(ACME, base=ground.plan(ACME).base)


def test_an_apply_of_more_than_one_transaction_should_hold_is_refused(ground: Ground) -> None:
    projects = [{"id": f"p{number}"} for number in range(1000)]
    before = ground.content()
    with pytest.raises(BadRequest, match="apply the file in parts"):
        ground.apply(changed(projects=[{"id": "chat"}, *projects]))
    assert ground.content() == before


def test_faults_are_told_all_at_once_with_their_places(ground: Ground) -> None:
    document = changed(
        keys=[{"name": "a", "project": "chta", "models": ["smal"], "system": "dsk"}],
        members=[{"email": "a@b.example", "role": "viewer", "project": "none"}],
        quotas=[{"tier": "gold"}, {"model": "tiny", "limits": {"concurrency": 1}}],
    )
    told = {fault.place[2:]: fault.message + "; " + fault.remedy for fault in ground.plan(document).faults}
    assert "did you mean `chat`?" in told["keys", 0, "project"]
    assert "did you mean `small`?" in told["keys", 0, "models"]
    assert "did you mean `desk`?" in told["keys", 0, "system"]
    assert "there is no project `none`" in told["members", 0, "project"]
    assert "there is no tier `gold`" in told["quotas", 0, "tier"]
    assert "there is no model `tiny`" in told["quotas", 1, "model"]
    with pytest.raises(BadRequest, match="6 faults"):
        ground.apply(document)


def test_prune_takes_away_what_apply_made_and_revokes_its_keys(ground: Ground) -> None:
    ground.apply(ACME)
    less = changed(projects=[], keys=[], systems=[], webhooks=[])
    assert ground.plan(less).left == 5 and ground.apply(less).changes == ()
    done = ground.apply(less, prune=True)
    assert sorted((one.act, one.kind) for one in done.changes) == [
        ("delete", "AI system"), ("delete", "key"), ("delete", "key"), ("delete", "webhook"), ("update", "project"),
    ]  # fmt: skip
    assert ground.plan(less, prune=True).changes == ()
    assert "keys" not in ground.export("acme")["organisations"][0]


def test_what_was_made_by_hand_is_left_alone_until_it_is_adopted(ground: Ground) -> None:
    ground.apply({"organisations": [{"id": "acme", "projects": [{"id": "chat"}]}]})
    with ground.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE projects SET managed_by = ''")
    document = {"organisations": [{"id": "acme", "projects": [{"id": "chat"}]}]}
    shown = ground.plan(document)
    assert shown.changes == () and shown.by_hand == 1
    assert ground.plan({"organisations": [{"id": "acme"}]}, prune=True).changes == ()
    (change,) = ground.apply(document, adopt=True).changes
    assert change.adopted and ground.plan(document).by_hand == 0
    (change,) = ground.plan({"organisations": [{"id": "acme"}]}, prune=True).changes
    assert change.name == "acme/chat"


def test_who_is_of_one_organisation_plans_and_applies_there_alone(ground: Ground) -> None:
    ground.apply(ACME)
    ground.apply({"organisations": [{"id": "other", "projects": [{"id": "p"}]}]})
    admin = Actor("adk_1", "ada", Role.OWNER, "acme", door="apply")
    inside = Ground(ground.engine, ground.vault, admin)
    assert inside.plan(ACME).changes == ()
    inside.apply(changed(projects=[{"id": "chat", "name": "Talk"}]))
    for document in (
        {"organisations": [{"id": "other"}]},
        {"organisations": [{"id": "new"}]},
        {"tiers": [{"name": "t"}]},
    ):
        with pytest.raises(PermissionDenied):
            inside.plan(document)
        with pytest.raises(PermissionDenied):
            inside.apply(document)
    assert [one["id"] for one in inside.export("acme")["organisations"]] == ["acme"]


def test_a_role_that_may_apply_still_needs_the_permission_of_each_change(ground: Ground) -> None:
    """An admin may apply files, and may not change the policy of the organisation."""
    ground.apply(ACME)
    admin = Ground(ground.engine, ground.vault, Actor("adk_2", "bob", Role.ADMIN, "acme", door="apply"))
    before = ground.content()
    with pytest.raises(PermissionDenied):
        admin.apply(changed(policy={"max_key_days": 900}, projects=[{"id": "chat", "name": "Other"}]))
    assert ground.content() == before


def test_an_admin_key_whose_scopes_have_no_keys_neither_makes_changes_nor_revokes_them_through_a_file(
    ground: Ground,
) -> None:
    """With the scope it does."""
    ground.apply(ACME)
    one = {"name": "a", "project": "chat", "models": ["chat"], "system": "desk", "limits": {"hard_budget": "10.50"}}
    new = {"name": "n", "project": "chat"}
    scopes = frozenset({Permission.RESOURCES_READ, Permission.RESOURCES_WRITE})
    for parts in ([one, ACME["organisations"][0]["keys"][1], new], [one | {"models": None}], [one]):
        narrow = Actor("adk_3", "cy", Role.OWNER, "acme", door="apply", only=scopes)
        before = ground.content()
        with pytest.raises(PermissionDenied, match="keys:write"):
            Ground(ground.engine, ground.vault, narrow).apply(changed(keys=parts), prune=len(parts) == 1)
        assert ground.content() == before
    wide = Actor("adk_4", "di", Role.OWNER, "acme", door="apply", only=scopes | {Permission.KEYS_WRITE})
    Ground(ground.engine, ground.vault, wide).apply(changed(keys=[one | {"models": None}, new]), prune=True)


def test_who_may_not_change_a_thing_does_not_have_it_kept_by_a_file(ground: Ground) -> None:
    """A file that keeps it would keep everybody else from changing it."""
    ground.apply(ACME)
    with ground.engine.begin() as connection:
        connection.execute(t.projects.update().where(t.projects.c.id == "chat").values(managed_by=""))
    narrow = Actor("adk_3", "cy", Role.OWNER, "acme", door="apply", only=frozenset({Permission.RESOURCES_WRITE}))
    with pytest.raises(PermissionDenied, match="projects:write"):
        Ground(ground.engine, ground.vault, narrow).apply(ACME, adopt=True)


def test_a_document_that_is_none_is_told_so(ground: Ground) -> None:
    assert (
        "must be a group of settings" in ground.plan({"organisations": 5}).faults[0].message
        or ground.plan({"organisations": 5}).faults
    )
    assert msgspec.json.encode(ground.plan({"x": 1}))
