# SPDX-License-Identifier: Apache-2.0
"""`/user/…`: a user with a mail address is a member, one without is a service account; whose key it is, is its owner.

In: asks, and what LiteLLM's scripts call people by. Out: members, accounts, answers in LiteLLM's shape.
"""

from typing import Any

from sqlalchemy import Row, Table

from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.convert import convert
from beffroi.control.litellm.terms import money
from beffroi.control.tenancy import members
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import AccountAsk, MemberAsk
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.store import administration as a
from beffroi.store import tables as t

_ROLES = {
    "proxy_admin": "admin",
    "proxy_admin_viewer": "auditor",
    "internal_user": "developer",
    "internal_user_viewer": "viewer",
}
_IN_TEAM = {"admin": "admin", "user": "developer"}
_OF_KEY = frozenset({
    "duration", "models", "max_budget", "budget_duration", "tpm_limit", "rpm_limit", "max_parallel_requests", "budget_id",
    "key_alias", "team_id",
})  # fmt: skip


def somebody(scope: Scope, reference: str) -> Row[Any] | None:
    """A member by mail address or id, a service account by name or id; None: there is none."""
    tables: tuple[tuple[Table, str], ...] = ((a.members, "email"), (a.service_accounts, "name"))
    for table, column in tables:
        name = reference.lower() if column == "email" else reference
        query = scope.select(table).where((table.c.id == reference) | (table.c[column] == name))
        found = scope.connection.execute(query.order_by(table.c.project)).first()
        if found is not None:
            return found
    return None


def owner(scope: Scope, reference: Any) -> str:
    """The id of whose key it is to be; empty for nobody's.

    Raises:
        ObjectNotFound: there is nobody of that name.
    """
    if reference is None or reference == "":
        return ""
    found = somebody(scope, str(reference)[:300])
    if found is None:
        raise ObjectNotFound(f"there is no user `{str(reference)[:100]}`; /user/new makes one", param="user_id")
    return str(found.id)


def join(scope: Scope, project: str, member: dict[str, Any], *, again: bool = False) -> dict[str, Any]:
    """Make somebody a member of a project.

    Args:
        again: somebody who is one already stays as he is.

    Raises:
        BadRequest: no mail address is known. Conflict: he is one already.
    """
    if unknown := member.keys() - {"user_id", "user_email", "role"}:
        raise BadRequest(f"a member has no `{min(unknown)[:60]}` here; leave it out", param="member")
    role = _IN_TEAM.get(str(member.get("role", "user")))
    if role is None:
        raise BadRequest("the `role` of a member is admin or user", param="role")
    email = member.get("user_email") or member.get("user_id")
    if isinstance(email, str) and "@" not in email:
        found = somebody(scope, email)
        email = getattr(found, "email", None)
    if not isinstance(email, str):
        raise BadRequest("a member of a team has a mail address: name it in `user_email`", param="user_email")
    if again:
        there = scope.select(a.members).where(a.members.c.email == email.lower(), a.members.c.project == project)
        if (row := scope.connection.execute(there).one_or_none()) is not None:
            return shown(row)
    made = members.create(scope, convert({"email": email, "role": role, "project": project}, MemberAsk))
    return shown(scope.find(a.members, made.id, "member"))


def of_project(scope: Scope, project: str) -> list[dict[str, Any]]:
    """Those who are narrowed to a project, as a team lists them."""
    rows = scope.connection.execute(
        scope.select(a.members).where(a.members.c.project == project).order_by(a.members.c.email)
    )
    return [{"user_id": row.id, "user_email": row.email, "role": "admin" if row.role in ("owner", "admin") else "user"} for row in rows]  # fmt: skip


def shown(row: Row[Any]) -> dict[str, Any]:
    """A member or account as LiteLLM shows a user."""
    back = {ours: theirs for theirs, ours in _ROLES.items()} | {
        "owner": "proxy_admin",
        "billing": "internal_user_viewer",
    }
    email = getattr(row, "email", None)
    return {
        "user_id": row.id,
        "user_email": email,
        "user_alias": row.name or None,
        "user_role": back[row.role],
        "teams": [row.project] if row.project else [],
        "organization_id": row.organisation,
    }


async def new(ask: Ask) -> dict[str, Any]:
    """Make a user, and a key of its own unless told otherwise."""
    from beffroi.control.litellm import keys  # noqa: PLC0415 - which asks this module whose a key is

    given = ask.given
    role = _ROLES.get(given.get("user_role") or "internal_user")
    if role is None:
        raise BadRequest(f"`user_role` is one of {', '.join(_ROLES)}", param="user_role")
    email = given.get("user_email")
    name = given.get("user_id")
    if not email and isinstance(name, str) and "@" in name:
        email = name
    if not email and not name:
        raise BadRequest("`user_email` is needed, or `user_id` for a program", param="user_email")
    teams = given.get("teams") or []
    if not isinstance(teams, list) or not all(isinstance(team, str) for team in teams):
        raise BadRequest("`teams` is a list of teams", param="teams")
    with_key = given.get("auto_create_key") is not False
    if not with_key and (limit := next((one for one in _OF_KEY & given.keys() if given[one]), None)):
        raise BadRequest(f"`{limit}` is of a key, and none is made; give it to each key", param=limit)

    def work(scope: Scope) -> tuple[dict[str, Any], list[Any]]:
        if not email:
            made = members.create(scope, convert({"name": name, "role": role}, AccountAsk))
            return shown(scope.find(a.service_accounts, made.id, "user")), []
        alias = given.get("user_alias") or ""
        asks = [
            convert({"email": email, "role": role, "name": alias, "project": team}, MemberAsk) for team in teams or [""]
        ]
        ids = [members.create(scope, asked).id for asked in asks]
        return shown(scope.find(a.members, ids[0], "user")) | {"teams": teams}, []

    user = await ask.act(work)
    if not with_key:
        return user
    of_key = {field: value for field, value in given.items() if field in _OF_KEY}
    if len(teams) == 1:
        of_key.setdefault("team_id", teams[0])
    key = await keys.made(ask, of_key | {"user_id": user["user_id"]})
    return key | user


async def info(ask: Ask) -> dict[str, Any]:
    """A user, the keys that are its own, its teams."""
    from beffroi.control.litellm import keys  # noqa: PLC0415 - which asks this module whose a key is

    reference = ask.text("user_id")
    await ask.house.current_ledger()

    def read(scope: Scope) -> dict[str, Any]:
        row = somebody(scope, reference)
        if row is None:
            raise ObjectNotFound(f"there is no user `{reference[:100]}`", param="user_id")
        ids = [row.id]
        user = shown(row)
        if (email := getattr(row, "email", None)) is not None:  # one person may be a member of several projects
            rows = scope.connection.execute(scope.select(a.members).where(a.members.c.email == email)).all()
            ids = [one.id for one in rows]
            user["teams"] = sorted(one.project for one in rows if one.project)
        mine = scope.select(t.keys).where(t.keys.c.owner.in_(ids), t.keys.c.revoked.is_(False))
        rows = scope.connection.execute(mine.order_by(t.keys.c.created_at)).all()
        costs = keys.spent(scope, frozenset(one.id for one in rows))
        user["spend"] = money(sum(costs.values()))
        shown_keys = [keys.answer(one, spend=costs.get(one.id, 0)) for one in rows]
        return {"user_id": user["user_id"], "user_info": user, "keys": shown_keys, "teams": user["teams"]}

    return await ask.read(read)
