# SPDX-License-Identifier: Apache-2.0
"""People as LiteLLM's scripts call them: one with a mail address is a member, one without is a service account.

In: addresses, names, ids. Out: members, accounts, whose key it is; each in LiteLLM's shape.
"""

from typing import Any

from sqlalchemy import Row, Table

from beffroi.control.litellm.convert import convert
from beffroi.control.tenancy import members
from beffroi.control.tenancy.scope import Scope
from beffroi.control.tenancy.shapes import MemberAsk
from beffroi.core.errors import BadRequest, ObjectNotFound
from beffroi.store import administration as a

ROLES = {
    "proxy_admin": "admin",
    "proxy_admin_viewer": "auditor",
    "internal_user": "developer",
    "internal_user_viewer": "viewer",
}
_IN_TEAM = {"admin": "admin", "user": "developer"}


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
    back = {ours: theirs for theirs, ours in ROLES.items()} | {
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
