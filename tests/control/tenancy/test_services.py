# SPDX-License-Identifier: Apache-2.0
"""What can be done with organisations, projects, members, accounts and AI systems, and what is refused, on both backings."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, func, insert, select

from beffroi.control.tenancy import members, organisations, projects, systems
from beffroi.control.tenancy.members import ACCOUNT, MEMBER
from beffroi.control.tenancy.permissions import Role
from beffroi.control.tenancy.scope import EVERY, SOCKET, Actor, Scope, acting, looking
from beffroi.control.tenancy.shapes import (
    AccountAsk,
    AccountChange,
    MemberAsk,
    MemberChange,
    OrganisationAsk,
    OrganisationChange,
    Policy,
    ProjectAsk,
    ProjectChange,
    SystemAsk,
    SystemChange,
)
from beffroi.core.errors import BadRequest, BeffroiError, Conflict, ObjectNotFound, PermissionDenied, PreconditionFailed
from beffroi.core.snapshot import Config, ModelSpec, Settings
from beffroi.store.administration import ai_systems, changes
from beffroi.store.tables import events, keys
from beffroi.store.tables import projects as table_of_projects
from tests.control.tenancy.alike import _row

OWNER = Actor("mem_o", "olga", Role.OWNER, "a")
ADMIN = Actor("mem_a", "anne", Role.ADMIN, "a")
LEAD = Actor("mem_l", "lea", Role.ADMIN, "a", project="p")
VIEWER = Actor("mem_v", "vera", Role.VIEWER, "a")
OTHER = Actor("mem_b", "ben", Role.OWNER, "b")
CONFIG = Config(1, Settings(), (), (ModelSpec(id="m", aliases=("n",), targets=()),))


def acts(engine: Engine, organisation: str) -> list[tuple[Any, ...]]:
    """The events of an organisation, the oldest first."""
    with looking(engine, SOCKET, organisation) as scope:
        rows = scope.connection.execute(scope.select(events).order_by(events.c.at_ns)).all()
        return [(row.actor, row.action, row.subject, row.project, row.before, row.after) for row in rows]


def refuses(kind: type[BeffroiError], match: str, engine: Engine, actor: Actor, do: Callable[[Scope], object]) -> None:
    """An act is refused and nothing of it stays."""
    before = acts(engine, actor.organisation if actor.organisation != EVERY else "a")
    with (
        pytest.raises(kind, match=match),
        acting(engine, actor, "a" if actor is SOCKET else actor.organisation) as scope,
    ):
        do(scope)
    assert acts(engine, actor.organisation if actor.organisation != EVERY else "a") == before


def test_an_organisation_is_made_by_an_operator_and_tells_of_it(engine: Engine) -> None:
    """With an id of its own or one that is made; nobody else may, and no id twice."""
    assert acts(engine, "b")[0] == (
        "cli", "cli:organisation:create", "b", "", None, {"name": "Same", "policy": {}}
    )  # fmt: skip
    with acting(engine, SOCKET, EVERY) as scope:
        made = organisations.create(scope, OrganisationAsk(name="New"))
        assert made.id.startswith("org_") and (made.state, made.revision, made.policy) == ("active", 0, Policy())
        with pytest.raises(Conflict, match="organisation `a` already"):
            organisations.create(scope, OrganisationAsk(name="New", id="a"))
    refuses(
        PermissionDenied, "installation:write", engine, OWNER, lambda s: organisations.create(s, OrganisationAsk("x"))
    )


def test_an_owner_renames_and_gives_a_policy_and_an_admin_does_not(engine: Engine) -> None:
    """One event with what was before; saying the same again changes nothing; networks have one spelling."""
    policy = Policy(max_key_days=30, addresses=["10.0.0.0/8", "2001:DB8::/32"])
    with acting(engine, OWNER, "a") as scope:
        shown = organisations.change(scope, "a", OrganisationChange(name="A", policy=policy), if_match=0)
        assert (shown.name, shown.revision, shown.policy.addresses) == ("A", 1, ["10.0.0.0/8", "2001:db8::/32"])
        assert organisations.policy(scope).max_key_days == 30
        assert organisations.change(scope, "a", OrganisationChange(name="A")).revision == 1
    assert acts(engine, "a")[-1][1::3] == ("api:organisation:update", {"name": "Same", "policy": {}})
    wrong = OrganisationChange(policy=Policy(addresses=["10.0.0.1/8"]))
    refuses(BadRequest, "no network", engine, OWNER, lambda s: organisations.change(s, "a", wrong))
    change = OrganisationChange(name="B")
    refuses(
        PreconditionFailed, "at revision 1", engine, OWNER, lambda s: organisations.change(s, "a", change, if_match=0)
    )
    refuses(PermissionDenied, "organisation:write", engine, ADMIN, lambda s: organisations.change(s, "a", change))
    refuses(ObjectNotFound, "no organisation `a`", engine, OTHER, lambda s: organisations.change(s, "a", change))


def test_what_is_suspended_is_closed_and_gateways_are_told_to_follow(engine: Engine) -> None:
    """An organisation by an operator, a project by its admins; twice is as good as once."""

    def closed() -> frozenset[str]:
        with engine.begin() as connection:
            return organisations.closed(connection)

    def number() -> int:
        with engine.begin() as connection:
            return connection.scalar(select(func.count()).where(changes.c.kind == "closed")) or 0

    assert closed() == frozenset()
    before = number()
    with acting(engine, SOCKET, "a") as scope:
        assert organisations.suspend(scope, "a").state == "suspended"
        assert organisations.suspend(scope, "a").revision == 1
    with acting(engine, ADMIN, "a") as scope:
        projects.suspend(scope, "p")
    assert closed() == {"a", "a/p"} and number() == before + 2
    assert [act[1] for act in acts(engine, "a")[-2:]] == ["cli:organisation:suspend", "api:project:suspend"]
    with acting(engine, SOCKET, "a") as scope:
        organisations.resume(scope, "a")
        projects.resume(scope, "p")
    assert closed() == frozenset() and number() == before + 4
    refuses(PermissionDenied, "installation:write", engine, OWNER, lambda s: organisations.suspend(s, "a"))
    refuses(PermissionDenied, "projects:write", engine, VIEWER, lambda s: projects.suspend(s, "p"))
    refuses(PermissionDenied, "projects:write", engine, LEAD, lambda s: projects.suspend(s, "p"))


def test_projects_of_two_organisations_may_be_called_alike(engine: Engine) -> None:
    """One organisation has each id once; nothing that is done to one reaches the other's."""
    with acting(engine, ADMIN, "a") as scope:
        projects.change(scope, "p", ProjectChange(name="Mine"))
    with looking(engine, OTHER, "b") as scope:
        assert projects.present(scope.find(table_of_projects, "p", "project")).name == "Same"
    refuses(
        Conflict, "project `p` in `a` already", engine, ADMIN, lambda s: projects.create(s, ProjectAsk("x", id="p"))
    )
    refuses(PermissionDenied, "projects:write", engine, LEAD, lambda s: projects.create(s, ProjectAsk("x")))
    with acting(engine, SOCKET, EVERY) as scope, pytest.raises(BadRequest, match="one organisation; name it"):
        projects.create(scope, ProjectAsk("x"))


def test_a_project_goes_only_when_nothing_is_in_it(engine: Engine) -> None:
    """A key keeps it, even a revoked one; an empty one goes, and its event stays."""
    with engine.begin() as connection:
        connection.execute(insert(keys).values(_row(keys, "a", "p", 7, id="key_1", limits={}, revoked=True)))
    refuses(Conflict, r"has API keys \(1\); suspend it", engine, ADMIN, lambda s: projects.remove(s, "p"))
    with acting(engine, ADMIN, "a") as scope:
        projects.remove(scope, "q")
        with pytest.raises(ObjectNotFound):
            projects.remove(scope, "q")
    assert acts(engine, "a")[-1][1:3] == ("api:project:delete", "q")
    with looking(engine, OTHER, "b") as scope:
        assert scope.find(table_of_projects, "q", "project")


def test_members_are_added_changed_and_removed_by_who_has_as_much(engine: Engine) -> None:
    """Never above one's own role; addresses without case; once in each project."""
    with acting(engine, ADMIN, "a") as scope:
        made = members.create(scope, MemberAsk("Dev@Example.org", Role.DEVELOPER, name="Dev"))
        assert (made.email, made.role, made.project) == ("dev@example.org", Role.DEVELOPER, "")
        narrowed = members.create(scope, MemberAsk("dev@example.org", Role.ADMIN, project="p"))
        assert members.change(scope, made.id, MemberChange(role=Role.BILLING)).role == Role.BILLING
        members.remove(scope, MEMBER, narrowed.id, if_match=0)
    words = [act[1] for act in acts(engine, "a")[-4:]]
    assert words == ["api:member:create", "api:member:create", "api:member:update", "api:member:delete"]
    ask = MemberAsk("dev@example.org", Role.VIEWER)
    refuses(Conflict, "member `dev@example.org` already", engine, ADMIN, lambda s: members.create(s, ask))
    ask = MemberAsk("x@example.org", Role.OWNER)
    refuses(PermissionDenied, "owner may do more than admin", engine, ADMIN, lambda s: members.create(s, ask))
    ask = MemberAsk("x@example.org", Role.OPERATOR)
    refuses(BadRequest, "belongs to the organisation", engine, SOCKET, lambda s: members.create(s, ask))
    ask = MemberAsk("x@example.org", Role.VIEWER, project="nowhere")
    refuses(ObjectNotFound, "no project `nowhere`", engine, ADMIN, lambda s: members.create(s, ask))
    refuses(ObjectNotFound, "no member", engine, OTHER, lambda s: members.change(s, made.id, MemberChange(name="x")))


def test_who_leads_one_project_adds_people_to_that_one_alone(engine: Engine) -> None:
    """What he adds lands there; members of the whole organisation are out of his sight."""
    with acting(engine, ADMIN, "a") as scope:
        whole = members.create(scope, MemberAsk("w@example.org", Role.VIEWER))
    with acting(engine, LEAD, "a") as scope:
        assert members.create(scope, MemberAsk("x@example.org", Role.ADMIN)).project == "p"
    ask = MemberAsk("y@example.org", Role.VIEWER, project="q")
    refuses(PermissionDenied, "project `p` alone", engine, LEAD, lambda s: members.create(s, ask))
    refuses(ObjectNotFound, "no member", engine, LEAD, lambda s: members.remove(s, MEMBER, whole.id))


def test_the_last_owner_of_an_organisation_stays_one(engine: Engine) -> None:
    """Until there is another; an operator may leave none, as he can make one."""
    with acting(engine, OWNER, "a") as scope:
        first = members.create(scope, MemberAsk("o@example.org", Role.OWNER))
    lower, away = MemberChange(role=Role.ADMIN), MemberChange(state="suspended")
    for do in (
        lambda s: members.change(s, first.id, lower),
        lambda s: members.change(s, first.id, away),
        lambda s: members.remove(s, MEMBER, first.id),
    ):
        refuses(Conflict, "last owner", engine, OWNER, do)
    refuses(PermissionDenied, "may do more", engine, ADMIN, lambda s: members.change(s, first.id, lower))
    with acting(engine, OWNER, "a") as scope:
        members.create(scope, MemberAsk("o2@example.org", Role.OWNER))
        members.remove(scope, MEMBER, first.id)


def test_service_accounts_are_kept_like_members(engine: Engine) -> None:
    """Their names are the organisation's, once each."""
    with acting(engine, ADMIN, "a") as scope:
        made = members.create(scope, AccountAsk("deploy", Role.DEVELOPER, project="q"))
        assert members.change(scope, made.id, AccountChange(name="build", state="suspended")).name == "build"
        other = members.create(scope, AccountAsk("deploy", Role.VIEWER))
        with pytest.raises(Conflict, match="service account `build` already"):
            members.change(scope, other.id, AccountChange(name="build"))
        members.remove(scope, ACCOUNT, made.id)
    assert acts(engine, "a")[-1][1:4] == ("api:service-account:delete", made.id, "q")
    ask = AccountAsk("deploy", Role.VIEWER)
    refuses(Conflict, "already", engine, ADMIN, lambda s: members.create(s, ask))
    with acting(engine, OTHER, "b") as scope:
        members.create(scope, ask)


def test_an_ai_system_has_a_purpose_an_owner_and_models_and_keys_that_keep_it(engine: Engine) -> None:
    """Models by any of their names; a living key keeps it; out of use no key can be given to it."""
    ask = SystemAsk("desk", "Answers questions of citizens.", "Head of the desk", models=["n"])
    with acting(engine, ADMIN, "a") as scope:
        made = systems.create(scope, ask, CONFIG)
        assert made.models == ["m"] and made.id.startswith("sys_")
        other = systems.create(scope, msgspec.structs.replace(ask, name="p only", project="p"), CONFIG)
        assert systems.usable(scope, made.id, "q") == made.id
        assert systems.usable(scope, "", "q") == ""
        with pytest.raises(BadRequest, match="of the project `p`"):
            systems.usable(scope, other.id, "q")
        row = _row(keys, "a", "p", 7, id="key_1", limits={}, system=made.id)
        scope.connection.execute(insert(keys).values(row))
    with looking(engine, LEAD, "a") as scope:
        assert systems.usable(scope, made.id, "p") == made.id
        with pytest.raises(ObjectNotFound):
            scope.find(ai_systems, made.id, "AI system")
    refuses(Conflict, "1 keys belong", engine, ADMIN, lambda s: systems.remove(s, made.id))
    refuses(Conflict, "already", engine, ADMIN, lambda s: systems.create(s, ask, CONFIG))
    unknown = SystemChange(models=["x"])
    refuses(
        BadRequest, "no model `x`; there are `m`", engine, ADMIN, lambda s: systems.change(s, made.id, unknown, CONFIG)
    )
    refuses(ObjectNotFound, "no AI system", engine, OTHER, lambda s: systems.usable(s, made.id, "p"))
    with acting(engine, ADMIN, "a") as scope:
        assert systems.change(scope, made.id, SystemChange(state="suspended"), CONFIG).state == "suspended"
        with pytest.raises(BadRequest, match="out of use"):
            systems.usable(scope, made.id, "p")
        systems.remove(scope, other.id)


def test_what_a_file_keeps_is_changed_by_that_file_alone(engine: Engine) -> None:
    """But an emergency does not wait: it can be suspended."""
    with acting(engine, SOCKET, "a", keeper="file") as scope:
        projects.create(scope, ProjectAsk("Kept", id="kept"))
        projects.change(scope, "kept", ProjectChange(name="Kept well"))
    change = ProjectChange(name="x")
    refuses(Conflict, "kept by the configuration file", engine, ADMIN, lambda s: projects.change(s, "kept", change))
    with acting(engine, ADMIN, "a") as scope:
        assert projects.suspend(scope, "kept").state == "suspended"


def test_two_who_make_the_same_at_once_make_one(engine: Engine) -> None:
    """The second is told that it is there, and not that something failed."""
    from concurrent.futures import ThreadPoolExecutor

    def make(_: int) -> str:
        try:
            with acting(engine, ADMIN, "a") as scope:
                projects.create(scope, ProjectAsk("x", id="once"))
                time.sleep(0.02)
        except Conflict:
            return "conflict"
        return "made"

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(make, range(4))) == ["conflict"] * 3 + ["made"]
