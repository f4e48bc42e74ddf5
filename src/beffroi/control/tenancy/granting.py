# SPDX-License-Identifier: Apache-2.0
"""Nobody gives, changes or takes away more than he has.

In: a scope, and the role that somebody has or shall have. Out: nothing, or a refusal.
"""

from beffroi.control.tenancy.permissions import Permission, Role, allowed
from beffroi.control.tenancy.scope import EVERY, Scope
from beffroi.core.errors import BadRequest, PermissionDenied


def may_grant(scope: Scope, role: Role, project: str, only: frozenset[Permission] | None = None) -> None:
    """Refuse a role that goes beyond the actor's own; also where one who has it is to be changed or removed.

    Raises:
        PermissionDenied: it does. BadRequest: an operator in an organisation, or anything else in all of them.
    """
    if (role == Role.OPERATOR) != (scope.organisation == EVERY):
        raise BadRequest("the role operator, and no other, belongs to the organisation `*`", param="role")
    beyond = allowed(role, narrowed=bool(project), only=only) - scope.actor.permissions
    if beyond:
        raise PermissionDenied(
            f"{role} may do more than {scope.actor.role} here, such as `{min(beyond)}`; who has that can do this",
            param="role",
        )
