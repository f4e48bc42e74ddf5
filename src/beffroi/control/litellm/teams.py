# SPDX-License-Identifier: Apache-2.0
"""`/team/…`: a team is a project; its limits are a quota on the project, its people members narrowed to it.

In: asks. Out: answers in LiteLLM's shape.
"""

import time
from typing import Any

from sqlalchemy import Row

from beffroi.control import keyring, ledger
from beffroi.control.litellm import keys as key_verbs
from beffroi.control.litellm import limits, people, terms
from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.convert import convert
from beffroi.control.tenancy import members, projects
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import ProjectAsk, ProjectChange
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.store import administration as a
from beffroi.store import tables as t

_SUSPENDED = "suspended"
_CLOSED = "the team is suspended in the database"


async def new(ask: Ask) -> dict[str, Any]:
    """Make a team."""
    given = ask.given
    wanted = given.get("team_id")
    name = given.get("team_alias") or wanted
    if not name:
        raise BadRequest("`team_alias` is needed: what people call the team", param="team_alias")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        asked = {"name": name} | ({"id": wanted} if wanted else {})
        made = projects.create(scope, convert(asked, ProjectAsk))
        limits.keep(scope, ask, given, project=made.id)
        for member in _people(given.get("members_with_roles")):
            people.join(scope, made.id, member)
        if given.get("blocked"):
            projects.suspend(scope, made.id)
        return _answer(scope, made.id), []

    return await _told(ask, await ask.act(work))


async def update(ask: Ask) -> dict[str, Any]:
    """Change a team: what is named changes."""
    given = ask.given
    identifier = ask.text("team_id")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = _found(scope, identifier)
        if given.get("team_alias"):
            projects.change(scope, row.id, convert({"name": given["team_alias"]}, ProjectChange))
        limits.keep(scope, ask, given, project=row.id)
        for member in _people(given.get("members_with_roles")):
            people.join(scope, row.id, member, again=True)
        if given.get("blocked") is not None:
            (projects.suspend if given["blocked"] else projects.resume)(scope, row.id)
        return _answer(scope, row.id), []

    shown = await (ask.refuse(work, _CLOSED) if given.get("blocked") else ask.act(work))
    return {"team_id": identifier, "data": await _told(ask, shown)}


async def _told(ask: Ask, shown: dict[str, Any]) -> dict[str, Any]:
    """The answer, once gateways know of its quota and of its state."""
    await ask.house.keys.follow_tenants()
    await limits.follow(ask)
    return shown


def _found(scope: Scope, identifier: str) -> Row[Any]:
    try:
        return scope.find(t.projects, identifier, "team")
    except ObjectNotFound:
        names = scope.connection.execute(scope.select(t.projects).where(t.projects.c.name == identifier)).all()
        if len(names) == 1:
            return names[0]
        raise


def _people(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in listed) or len(listed) > 1000:
        raise BadRequest("a member is an object with `user_id` or `user_email`, and `role`", param="member")
    return listed


def _answer(scope: Scope, identifier: str) -> dict[str, Any]:
    row = scope.find(t.projects, identifier, "team")
    return {
        "team_id": row.id,
        "team_alias": row.name,
        "organization_id": row.organisation,
        "models": [],
        "members_with_roles": people.of_project(scope, row.id),
        "admins": [],
        "members": [],
        "metadata": {},
        "spend": 0.0,
        "blocked": row.state == _SUSPENDED,
        "created_at": terms.moment(row.created_at),
        **limits.of_project(scope, row.id),
    }


async def info(ask: Ask) -> dict[str, Any]:
    """A team, its keys, what it has spent."""
    identifier = ask.text("team_id")
    await ask.house.current_ledger()

    def read(scope: Scope) -> dict[str, Any]:
        row = _found(scope, identifier)
        now = time.time()
        of_it = scope.select(t.keys).where(t.keys.c.project == row.id).order_by(t.keys.c.created_at)
        living = [key for key in scope.connection.execute(of_it) if keyring.living(key, now)]
        costs = key_verbs.spent(scope, frozenset(key.id for key in living))
        spend = terms.money(_costs(scope).get(row.id, 0))
        keys = [key_verbs.answer(key, spend=costs.get(key.id, 0)) for key in living]
        info = _answer(scope, row.id) | {"spend": spend}
        return {"team_id": row.id, "team_info": info, "keys": keys, "team_memberships": []}

    return await ask.read(read)


def _costs(scope: Scope) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in ledger.usage(scope, by=("project",)):
        found[str(row["project"])] = found.get(str(row["project"]), 0) + int(row["cost_nano"] or 0)
    return found


async def list_(ask: Ask) -> list[dict[str, Any]]:
    """Every team that may be seen."""
    await ask.house.current_ledger()
    wanted = ask.given.get("user_id")

    def read(scope: Scope) -> list[dict[str, Any]]:
        rows = scope.connection.execute(scope.select(t.projects).order_by(t.projects.c.id)).all()
        costs = _costs(scope)
        found = [_answer(scope, row.id) | {"spend": terms.money(costs.get(row.id, 0))} for row in rows]
        if wanted is None:
            return found
        return [team for team in found if any(wanted in (one["user_id"], one["user_email"]) for one in team["members_with_roles"])]  # fmt: skip

    return await ask.read(read)


async def delete(ask: Ask) -> dict[str, Any]:
    """Suspend teams and revoke their keys: what was used in them stays in the ledger, so they are not taken away."""
    identifiers = ask.given.get("team_ids")
    if not isinstance(identifiers, list) or not identifiers or not all(isinstance(one, str) for one in identifiers):
        raise BadRequest("`team_ids` is a list of teams", param="team_ids")

    def work(scope: Scope) -> tuple[list[str], list[Row[Any]]]:
        changed: list[Row[Any]] = []
        done = []
        now = time.time()
        for identifier in identifiers:
            row = _found(scope, identifier)
            projects.suspend(scope, row.id)
            for key in scope.connection.execute(scope.select(t.keys).where(t.keys.c.project == row.id)).all():
                if keyring.living(key, now):
                    changed += keyring.revoke_with_those_before(scope, key, "its team was deleted")[1]
            done.append(row.id)
        return done, changed

    done = await ask.refuse(work, "the teams are suspended and their keys revoked in the database")
    ask.told.append("teams are suspended and their keys revoked, not taken away: what they used stays in the ledger")
    return {"deleted_teams": done}


async def block(ask: Ask) -> dict[str, Any]:
    """Suspend a team."""
    return await _turn(ask, blocked=True)


async def unblock(ask: Ask) -> dict[str, Any]:
    """Resume a team."""
    return await _turn(ask, blocked=False)


async def _turn(ask: Ask, *, blocked: bool) -> dict[str, Any]:
    identifier = ask.text("team_id")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = _found(scope, identifier)
        (projects.suspend if blocked else projects.resume)(scope, row.id)
        return _answer(scope, row.id), []

    if blocked:
        return await ask.refuse(work, _CLOSED)
    return await _told(ask, await ask.act(work))


async def member_add(ask: Ask) -> dict[str, Any]:
    """Add people to a team."""
    identifier = ask.text("team_id")
    wanted = _people(ask.given.get("member"))
    if not wanted:
        raise BadRequest("`member` is needed: one, or a list", param="member")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = _found(scope, identifier)
        made = [people.join(scope, row.id, member) for member in wanted]
        return _answer(scope, row.id) | {"updated_users": made, "updated_team_memberships": []}, []

    return await ask.act(work)


async def member_delete(ask: Ask) -> dict[str, Any]:
    """Take somebody out of a team."""
    identifier = ask.text("team_id")
    who = ask.given.get("user_email") or ask.given.get("user_id")
    if not isinstance(who, str):
        raise BadRequest("name the member in `user_id` or `user_email`", param="user_id")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = _found(scope, identifier)
        column = a.members.c.email if "@" in who else a.members.c.id
        query = scope.select(a.members).where(column == (who.lower() if "@" in who else who))
        found = scope.connection.execute(query.where(a.members.c.project == row.id)).one_or_none()
        if found is None:
            raise ObjectNotFound(f"`{who[:100]}` is no member of the team `{row.id}`", param="user_id")
        members.remove(scope, members.MEMBER, found.id)
        return _answer(scope, row.id), []

    return await ask.act(work)
