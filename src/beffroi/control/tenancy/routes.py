# SPDX-License-Identifier: Apache-2.0
"""Operations of the admin API on tenants: organisations, projects, members, service accounts, AI systems, admin keys, events.

In: calls. Out: what the services beside this file answer. Nothing here decides who may: the table of permissions does.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from sqlalchemy import Table

from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.fleet.agreement import unheard_of
from beffroi.control.tenancy import admin_keys, history, members, organisations, projects, shapes, systems
from beffroi.control.tenancy.members import ACCOUNT, MEMBER, Kind
from beffroi.control.tenancy.permissions import P, Role
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import NotAcknowledged, ObjectNotFound
from beffroi.store import administration as a
from beffroi.store import tables as t

Handler = Callable[[Call], Awaitable[Any]]
Presents = Callable[[Any], Any]


class Me(msgspec.Struct, frozen=True):
    """Who calls, and what he may do."""

    id: str
    name: str
    role: Role
    organisation: str
    project: str
    permissions: list[P]


async def me(call: Call) -> Me:
    """Any key may ask what it is."""
    actor = call.actor
    return Me(actor.id, actor.name, actor.role, actor.organisation, actor.project, sorted(actor.permissions))


def _listing(table: Table, present: Presents) -> Handler:
    async def answer(call: Call) -> Listed[Any]:
        # Ids of projects are unique in an organisation alone.
        order = [table.c.id] if table is t.organisations else [table.c.organisation, table.c.id]
        rows = await call.read(
            lambda scope: scope.connection.execute(call.page.window(scope.select(table), *order)).all()
        )
        return call.listed(rows, present, *(column.name for column in order))

    return answer


def _showing(table: Table, called: str, present: Presents) -> Handler:
    async def answer(call: Call) -> Any:
        return await call.read(lambda scope: present(scope.find(table, call.path["id"], called)))

    return answer


def _of_path(call: Call) -> Call:
    """The call in the organisation that its path names; to who may not know of it there is none."""
    identifier = call.path["id"]
    if identifier == EVERY or call.actor.organisation not in (EVERY, identifier):
        raise ObjectNotFound(f"there is no organisation `{identifier}`", param="id")
    return msgspec.structs.replace(call, organisation=identifier)


async def create_organisation(call: Call) -> shapes.Organisation:
    """By an operator."""
    return await msgspec.structs.replace(call, organisation=EVERY).act(
        lambda scope: organisations.create(scope, call.ask)
    )


async def show_organisation(call: Call) -> shapes.Organisation:
    """One."""
    there = _of_path(call)
    return await there.read(
        lambda scope: organisations.present(scope.find(t.organisations, scope.organisation, organisations.CALLED))
    )


async def change_organisation(call: Call) -> shapes.Organisation:
    """A name, a policy."""
    there = _of_path(call)
    return await there.act(
        lambda scope: organisations.change(scope, scope.organisation, call.ask, if_match=call.if_match)
    )


def _turning(turn: Callable[..., Any], *, of_path: bool) -> Handler:
    async def answer(call: Call) -> Any:
        there = _of_path(call) if of_path else call
        shown = await there.act(lambda scope: turn(scope, call.path["id"], if_match=call.if_match))
        return await _told(call, shown)

    return answer


async def _told(call: Call, shown: Any) -> Any:
    """As it is once workers know; what is suspended may be served by one that has not confirmed, and that fails loudly."""
    waiting = await call.house.keys.follow_tenants()
    if waiting and shown.state != organisations.ACTIVE:
        names = ", ".join(f"w{slot:02d}" for slot in waiting)
        raise NotAcknowledged(
            f"`{shown.id}` is suspended on disk, but the workers {names} have not confirmed it; they may still serve its "
            "keys until they are back or restarted. Ask again to see whether they have",
            retry_after=1,
        )
    if shown.state != organisations.ACTIVE:
        late, fleet = await call.house.keys.everywhere()
        if late:
            raise unheard_of(f"`{shown.id}` is suspended in the database and on this machine", late, fleet)
    return msgspec.structs.replace(shown, waiting=waiting)


async def create_project(call: Call) -> shapes.Project:
    """In the organisation acted on."""
    return await call.act(lambda scope: projects.create(scope, call.ask))


async def change_project(call: Call) -> shapes.Project:
    """A name."""
    return await call.act(lambda scope: projects.change(scope, call.path["id"], call.ask, if_match=call.if_match))


async def delete_project(call: Call) -> None:
    """Empty ones only. Workers that had it as suspended are told."""
    await call.act(lambda scope: projects.remove(scope, call.path["id"], if_match=call.if_match))
    await call.house.keys.follow_tenants()


async def create_member(call: Call) -> Any:
    """Members and service accounts."""
    return await call.act(lambda scope: members.create(scope, call.ask))


async def change_member(call: Call) -> Any:
    """Members and service accounts."""
    return await call.act(lambda scope: members.change(scope, call.path["id"], call.ask, if_match=call.if_match))


def _removing(kind: Kind) -> Handler:
    async def answer(call: Call) -> None:
        await call.act(lambda scope: members.remove(scope, kind, call.path["id"], if_match=call.if_match))

    return answer


async def create_system(call: Call) -> shapes.System:
    """Models are those of the configuration in force."""
    return await call.act(lambda scope: systems.create(scope, call.ask, call.house.config))


async def change_system(call: Call) -> shapes.System:
    """All of it can be said anew."""

    def change(scope: Scope) -> shapes.System:
        return systems.change(scope, call.path["id"], call.ask, call.house.config, if_match=call.if_match)

    return await call.act(change)


async def delete_system(call: Call) -> None:
    """What was served keeps its id."""
    await call.act(lambda scope: systems.remove(scope, call.path["id"], if_match=call.if_match))


async def create_admin_key(call: Call) -> shapes.NewAdminKey:
    """Shown this once."""
    peppers = call.house.keys.peppers
    return await call.act(lambda scope: admin_keys.create(scope, call.ask, peppers))


async def revoke_admin_key(call: Call) -> shapes.AdminKey:
    """At once: the next call with it is refused."""
    return await call.act(lambda scope: admin_keys.revoke(scope, call.path["id"], if_match=call.if_match))


async def list_events(call: Call) -> Listed[shapes.Event]:
    """The newest first."""
    page = call.page
    rows = await call.read(lambda scope: history.last(scope, call.query, page.limit + 1, page.after))
    return call.listed(rows, history.present, "at_ns", "id")


def _kind(path: str, table: Table, called: str, present: Presents, reads: P, shape: Any) -> tuple[Operation, ...]:
    """The two ways to look at a kind of things."""
    plural = f"{called}s"
    return (
        Operation(
            "GET", path, _listing(table, present), reads, f"The {plural} that one may see.", answer=shape, paged=True
        ),
        Operation("GET", f"{path}/{{id}}", _showing(table, called, present), reads, f"One {called}.", answer=shape),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/me", me, P.ORGANISATION_READ, "Who calls, and what he may do.", answer=Me),
    Operation(
        "GET", "/organisations", _listing(t.organisations, organisations.present), P.ORGANISATION_READ,
        "The organisations that one may see.", answer=shapes.Organisation, paged=True,
    ),
    Operation(
        "POST", "/organisations", create_organisation, P.INSTALLATION_WRITE, "Make an organisation.",
        ask=shapes.OrganisationAsk, answer=shapes.Organisation, status=201,
    ),
    Operation(
        "GET", "/organisations/{id}", show_organisation, P.ORGANISATION_READ, "One organisation.",
        answer=shapes.Organisation,
    ),
    Operation(
        "PATCH", "/organisations/{id}", change_organisation, P.ORGANISATION_WRITE,
        "Rename an organisation, or replace the policy of its keys.",
        ask=shapes.OrganisationChange, answer=shapes.Organisation,
    ),
    Operation(
        "POST", "/organisations/{id}/suspend", _turning(organisations.suspend, of_path=True), P.INSTALLATION_WRITE,
        "Suspend an organisation; answers when every worker refuses its keys.", answer=shapes.Organisation, repeats=True,
    ),
    Operation(
        "POST", "/organisations/{id}/resume", _turning(organisations.resume, of_path=True), P.INSTALLATION_WRITE,
        "Serve a suspended organisation again.", answer=shapes.Organisation, repeats=True,
    ),
    *_kind("/projects", t.projects, projects.CALLED, projects.present, P.PROJECTS_READ, shapes.Project),
    Operation(
        "POST", "/projects", create_project, P.PROJECTS_WRITE, "Make a project.",
        ask=shapes.ProjectAsk, answer=shapes.Project, status=201,
    ),
    Operation(
        "PATCH", "/projects/{id}", change_project, P.PROJECTS_WRITE, "Rename a project.",
        ask=shapes.ProjectChange, answer=shapes.Project,
    ),
    Operation(
        "DELETE", "/projects/{id}", delete_project, P.PROJECTS_WRITE, "Remove a project in which nothing is.", status=204,
    ),
    Operation(
        "POST", "/projects/{id}/suspend", _turning(projects.suspend, of_path=False), P.PROJECTS_WRITE,
        "Suspend a project; answers when every worker refuses its keys.", answer=shapes.Project, repeats=True,
    ),
    Operation(
        "POST", "/projects/{id}/resume", _turning(projects.resume, of_path=False), P.PROJECTS_WRITE,
        "Serve a suspended project again.", answer=shapes.Project, repeats=True,
    ),
    *_kind("/members", a.members, MEMBER.called, MEMBER.present, P.MEMBERS_READ, shapes.Member),
    Operation(
        "POST", "/members", create_member, P.MEMBERS_WRITE, "Add a member, with a role.",
        ask=shapes.MemberAsk, answer=shapes.Member, status=201,
    ),
    Operation(
        "PATCH", "/members/{id}", change_member, P.MEMBERS_WRITE, "Rename a member, change its role, suspend it.",
        ask=shapes.MemberChange, answer=shapes.Member,
    ),
    Operation("DELETE", "/members/{id}", _removing(MEMBER), P.MEMBERS_WRITE, "Remove a member.", status=204),
    *_kind(
        "/service-accounts", a.service_accounts, ACCOUNT.called, ACCOUNT.present, P.SERVICE_ACCOUNTS_READ, shapes.Account
    ),
    Operation(
        "POST", "/service-accounts", create_member, P.SERVICE_ACCOUNTS_WRITE, "Make a service account, with a role.",
        ask=shapes.AccountAsk, answer=shapes.Account, status=201,
    ),
    Operation(
        "PATCH", "/service-accounts/{id}", change_member, P.SERVICE_ACCOUNTS_WRITE,
        "Rename a service account, change its role, suspend it.", ask=shapes.AccountChange, answer=shapes.Account,
    ),
    Operation(
        "DELETE", "/service-accounts/{id}", _removing(ACCOUNT), P.SERVICE_ACCOUNTS_WRITE, "Remove a service account.",
        status=204,
    ),
    *_kind("/systems", a.ai_systems, systems.CALLED, systems.present, P.SYSTEMS_READ, shapes.System),
    Operation(
        "POST", "/systems", create_system, P.SYSTEMS_WRITE, "Register an AI system.",
        ask=shapes.SystemAsk, answer=shapes.System, status=201,
    ),
    Operation(
        "PATCH", "/systems/{id}", change_system, P.SYSTEMS_WRITE, "Say something else of an AI system.",
        ask=shapes.SystemChange, answer=shapes.System,
    ),
    Operation(
        "DELETE", "/systems/{id}", delete_system, P.SYSTEMS_WRITE, "Remove an AI system that no key belongs to.",
        status=204,
    ),
    *_kind(
        "/admin-keys", a.admin_keys, admin_keys.CALLED, admin_keys.present, P.ADMIN_KEYS_READ, shapes.AdminKey
    ),
    Operation(
        "POST", "/admin-keys", create_admin_key, P.ADMIN_KEYS_WRITE,
        "Make a key to the administration; its text is in this answer and nowhere else.",
        ask=shapes.AdminKeyAsk, answer=shapes.NewAdminKey, status=201,
    ),
    Operation(
        "POST", "/admin-keys/{id}/revoke", revoke_admin_key, P.ADMIN_KEYS_WRITE,
        "Revoke a key to the administration.", answer=shapes.AdminKey, repeats=True,
    ),
    Operation(
        "GET", "/events", list_events, P.EVENTS_READ, "Who did what, the newest first.",
        query=shapes.EventQuery, answer=shapes.Event, paged=True,
    ),
)  # fmt: skip
