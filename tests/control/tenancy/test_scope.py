# SPDX-License-Identifier: Apache-2.0
"""A scope reaches the rows of its organisation, and of its project where the role is narrowed to one; no others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, Table, insert

from beffroi.control.tenancy.permissions import MEANINGS, NARROWED, PERMISSIONS, Permission, Role, allowed
from beffroi.control.tenancy.scope import EVERY, SOCKET, Actor, Scope, acting, looking
from beffroi.control.tenancy.statements import HOW, NOT_OF_TENANTS
from beffroi.core.errors import BadRequest, Conflict, ObjectNotFound, PermissionDenied, PreconditionFailed
from beffroi.store import administration as a
from beffroi.store import tables as t
from beffroi.store.engine import open_engine, upgrade

ANNE = Actor("mem_a", "anne", Role.OWNER, "a")
BEN = Actor("mem_b", "ben", Role.OWNER, "b")
AMY = Actor("mem_c", "amy", Role.ADMIN, "a", project="p")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Two organisations with two projects each, called alike."""
    engine = open_engine(tmp_path / "beffroi.db")
    upgrade(engine)
    with engine.begin() as connection:
        for organisation in ("a", "b"):
            connection.execute(insert(t.organisations).values(id=organisation, name="Same", created_at=1, policy={}))
            for project in ("p", "q"):
                row = {"organisation": organisation, "id": project, "name": "Same", "created_at": 1}
                connection.execute(insert(t.projects).values(row))
                common = {"organisation": organisation, "project": project, "created_at": 1}
                member = {"id": f"mem_{organisation}{project}", "email": "x@example.org", "role": "viewer", **common}
                connection.execute(insert(a.members).values(member))
                quota = {"id": f"quo_{organisation}{project}", "slot": hash((organisation, project)) % 10_000}
                connection.execute(insert(a.quotas).values(each_end_user=False, **quota, **common))
                term = {"quota": quota["id"], "since": 1, "organisation": organisation, "limits": {}}
                connection.execute(insert(a.quota_terms).values(term))
        for organisation in ("a", "b", EVERY):
            tier = {"organisation": organisation, "name": "t", "version": 1, "effective_at": 1, "created_at": 1}
            connection.execute(insert(a.tiers).values(limits={}, **tier))
    yield engine
    engine.dispose()


def seen(scope: Scope, table: Table, column: str = "organisation") -> list[str]:
    """A column of all that a scope sees."""
    return sorted(scope.connection.execute(scope.select(table, table.c[column])).scalars())


def test_every_table_says_how_it_is_kept_apart() -> None:
    """A new table with a tenant in it cannot be reached before that is decided."""
    assert set(HOW) | NOT_OF_TENANTS == set(t.metadata.tables.values())
    assert not set(HOW) & NOT_OF_TENANTS
    for table in NOT_OF_TENANTS:
        assert "organisation" not in table.c
    for table, how in HOW.items():
        assert how.project or how.through is not None or how.closed or how.own or how.maker, (
            f"{table.name}: who of one project may?"
        )


def test_a_scope_sees_its_own_organisation_alone(engine: Engine) -> None:
    """Also the tiers of the house, which it cannot change; an operator sees all."""
    with acting(engine, ANNE, "a") as scope:
        assert seen(scope, t.organisations, "id") == ["a"]
        assert seen(scope, a.members) == ["a", "a"]
        assert seen(scope, a.tiers) == [EVERY, "a"]
        assert scope.connection.execute(scope.update(a.tiers).values(title="mine")).rowcount == 1
        assert scope.connection.execute(scope.delete(a.members)).rowcount == 2
        with pytest.raises(ObjectNotFound):
            scope.find(a.members, "mem_bp", "member")
    with looking(engine, SOCKET, EVERY) as scope:
        assert seen(scope, a.members) == ["b", "b"]
        with scope.within("a") as inner:
            assert seen(inner, a.members) == []


def test_nobody_acts_in_another_organisation_but_an_operator(engine: Engine) -> None:
    """Whether it exists or not the answer is the same."""
    for other in ("b", "nowhere", EVERY):
        with (
            pytest.raises(PermissionDenied, match="may act in the organisation `a` alone"),
            looking(engine, ANNE, other),
        ):
            pass
    with pytest.raises(ObjectNotFound), looking(engine, SOCKET, "nowhere"):
        pass


def test_an_insert_has_its_organisation_and_cannot_have_another(engine: Engine) -> None:
    """Nor can an update move a row."""
    account = {"id": "sva_1", "name": "n", "role": "viewer", "created_at": 1}
    with acting(engine, ANNE, "a") as scope:
        scope.connection.execute(scope.insert(a.service_accounts).values(**account))
        assert seen(scope, a.service_accounts) == ["a"]
        for statement in (scope.insert(a.service_accounts), scope.update(a.service_accounts)):
            with pytest.raises(TypeError, match="organisation is that of the scope"):
                statement.values(**account, organisation="b")
            with pytest.raises(TypeError, match="by name"):
                statement.values({"organisation": "b"})
            with pytest.raises(TypeError, match="by name"):
                statement.values({a.service_accounts.c.organisation: "b"})
        with pytest.raises(TypeError):
            scope.insert(t.organisations)
    with acting(engine, SOCKET, EVERY) as scope:
        with pytest.raises(BadRequest, match="name it"):
            scope.insert(a.service_accounts)
        scope.connection.execute(scope.insert(a.service_accounts, "b").values(**{**account, "id": "sva_2"}))
        assert seen(scope, a.service_accounts) == ["a", "b"]


def test_a_role_narrowed_to_a_project_reaches_that_project_alone(engine: Engine) -> None:
    """By its column, or by the row that it hangs on; what concerns all projects is refused, or can be read."""
    with acting(engine, AMY, "a") as scope:
        assert seen(scope, t.projects, "id") == ["p"]
        assert seen(scope, a.members, "id") == ["mem_ap"]
        assert seen(scope, a.quota_terms, "quota") == ["quo_ap"]
        assert seen(scope, t.organisations, "id") == ["a"]
        assert seen(scope, a.tiers) == [EVERY, "a"]
        for refused in (lambda: scope.select(a.webhooks), lambda: scope.update(a.tiers), lambda: scope.insert(a.tiers)):
            with pytest.raises(PermissionDenied, match="whole organisation"):
                refused()
        with pytest.raises(PermissionDenied):
            scope.update(a.members).values(project="q")
        with pytest.raises(PermissionDenied):
            scope.insert(a.members).values(project="")
        with pytest.raises(PermissionDenied):
            scope.project("q")
        assert scope.project("") == "p"


def test_a_change_gives_the_next_revision_and_refuses_an_old_one(engine: Engine) -> None:
    """If-Match; two who read the same revision cannot both change it; what a file keeps is changed there."""
    with acting(engine, ANNE, "a") as scope:
        row = scope.find(a.members, "mem_ap", "member")
        assert scope.revise(a.members, row, if_match=0, name="Ann").revision == 1
        with pytest.raises(PreconditionFailed, match="just now"):
            scope.revise(a.members, row, name="Bob")
        row = scope.find(a.members, "mem_ap", "member")
        with pytest.raises(PreconditionFailed, match="at revision 1, not 0"):
            scope.revise(a.members, row, if_match=0, name="Bob")
        row = scope.revise(a.members, row, managed_by="apply")
        with pytest.raises(Conflict, match="beffroi apply"):
            scope.revise(a.members, row, name="Bob")
        assert scope.revise(a.members, row, anyone=True, state="suspended").revision == 3
    with acting(engine, ANNE, "a", keeper="apply") as scope:
        assert scope.revise(a.members, scope.find(a.members, "mem_ap", "member"), name="Bob").revision == 4


def test_the_table_of_roles_has_every_role_and_says_what_each_permission_is() -> None:
    """An owner may all but run the installation; nobody narrowed may what concerns all; a key's scopes only narrow."""
    assert set(PERMISSIONS) == set(Role)
    assert set(MEANINGS) == set(Permission)
    for role, granted in PERMISSIONS.items():
        assert (Permission.INSTALLATION_WRITE in granted) == (role == Role.OPERATOR)
        assert allowed(role, narrowed=True) == granted & NARROWED
        assert allowed(role, only=frozenset({Permission.KEYS_READ})) == granted & {Permission.KEYS_READ}
    writes = {each for each in Permission if each.endswith(":write")}
    assert not writes & (PERMISSIONS[Role.AUDITOR] | PERMISSIONS[Role.VIEWER])
    with pytest.raises(PermissionDenied, match="needs the permission `webhooks:write`, which admin in the project `p`"):
        AMY.need(Permission.WEBHOOKS_WRITE)
    ANNE.need(Permission.WEBHOOKS_WRITE)
    assert not ANNE.may(Permission.INSTALLATION_READ)
