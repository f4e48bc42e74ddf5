# SPDX-License-Identifier: Apache-2.0
"""`/user/…`: people made and shown, with the keys that are their own.

In: asks. Out: answers in LiteLLM's shape.
"""

from typing import Any

from beffroi.control.litellm import keys, people
from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.convert import convert
from beffroi.control.litellm.terms import money
from beffroi.control.tenancy import members
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import AccountAsk, MemberAsk
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.store import administration as a
from beffroi.store import tables as t

_OF_KEY = frozenset({
    "duration", "models", "max_budget", "budget_duration", "tpm_limit", "rpm_limit", "max_parallel_requests", "budget_id",
    "key_alias", "team_id",
})  # fmt: skip


async def new(ask: Ask) -> dict[str, Any]:
    """Make a user, and a key of its own unless told otherwise."""
    given = ask.given
    role = people.ROLES.get(str(given.get("user_role") or "internal_user"))
    if role is None:
        raise BadRequest(f"`user_role` is one of {', '.join(people.ROLES)}", param="user_role")
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
            return people.shown(scope.find(a.service_accounts, made.id, "user")), []
        alias = given.get("user_alias") or ""
        asks = [
            convert({"email": email, "role": role, "name": alias, "project": team}, MemberAsk) for team in teams or [""]
        ]
        ids = [members.create(scope, asked).id for asked in asks]
        return people.shown(scope.find(a.members, ids[0], "user")) | {"teams": teams}, []

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
    reference = ask.text("user_id")
    await ask.house.current_ledger()

    def read(scope: Scope) -> dict[str, Any]:
        row = people.somebody(scope, reference)
        if row is None:
            raise ObjectNotFound(f"there is no user `{reference[:100]}`", param="user_id")
        ids = [row.id]
        user = people.shown(row)
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
