# SPDX-License-Identifier: Apache-2.0
"""Which role may do what: one table, the only place that says so. What is not in it is refused.

In: a role. Out: its permissions; `docs/reference/permissions.md` is written from here.
A permission is `<things>:read` or `<things>:write`; `installation:*` is for what no tenant owns.
"""

from enum import StrEnum


class Role(StrEnum):
    """What a person, a service account or an admin key is, within one organisation; `operator`: of the whole house."""

    OWNER = "owner"
    ADMIN = "admin"
    BILLING = "billing"
    DEVELOPER = "developer"
    AUDITOR = "auditor"
    VIEWER = "viewer"
    OPERATOR = "operator"


class Permission(StrEnum):
    """An act, or a kind of acts, on one kind of things."""

    ORGANISATION_READ = "organisation:read"
    ORGANISATION_WRITE = "organisation:write"
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    SERVICE_ACCOUNTS_READ = "service-accounts:read"
    SERVICE_ACCOUNTS_WRITE = "service-accounts:write"
    SYSTEMS_READ = "systems:read"
    SYSTEMS_WRITE = "systems:write"
    ADMIN_KEYS_READ = "admin-keys:read"
    ADMIN_KEYS_WRITE = "admin-keys:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    ROTATIONS_READ = "rotations:read"
    ROTATIONS_WRITE = "rotations:write"
    TIERS_READ = "tiers:read"
    TIERS_WRITE = "tiers:write"
    QUOTAS_READ = "quotas:read"
    QUOTAS_WRITE = "quotas:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    MODELS_READ = "models:read"
    USAGE_READ = "usage:read"
    REQUESTS_READ = "requests:read"
    EVENTS_READ = "events:read"
    OPERATIONS_READ = "operations:read"
    RESOURCES_READ = "resources:read"
    RESOURCES_WRITE = "resources:write"
    INSTALLATION_READ = "installation:read"
    INSTALLATION_WRITE = "installation:write"


P = Permission
MEANINGS: dict[Permission, str] = {
    P.ORGANISATION_READ: "See the organisation, its state and its policy.",
    P.ORGANISATION_WRITE: "Rename the organisation, change the policy that its keys must obey.",
    P.PROJECTS_READ: "See projects.",
    P.PROJECTS_WRITE: "Make, rename, suspend and resume projects.",
    P.MEMBERS_READ: "See members and their roles.",
    P.MEMBERS_WRITE: "Add and remove members, change roles; never above one's own.",
    P.SERVICE_ACCOUNTS_READ: "See service accounts.",
    P.SERVICE_ACCOUNTS_WRITE: "Make, change and remove service accounts; never above one's own role.",
    P.SYSTEMS_READ: "See AI systems.",
    P.SYSTEMS_WRITE: "Register, change and remove AI systems.",
    P.ADMIN_KEYS_READ: "See keys to the administration, never the keys themselves.",
    P.ADMIN_KEYS_WRITE: "Make and revoke keys to the administration; never above one's own role.",
    P.KEYS_READ: "See API keys, their limits and what is used of them.",
    P.KEYS_WRITE: "Make, change, rotate and revoke API keys.",
    P.ROTATIONS_READ: "See rotations of keys, planned and under way.",
    P.ROTATIONS_WRITE: "Plan, begin and end rotations.",
    P.TIERS_READ: "See tiers, those of the house too.",
    P.TIERS_WRITE: "Make versions of the organisation's own tiers.",
    P.QUOTAS_READ: "See quotas and what is used of them.",
    P.QUOTAS_WRITE: "Set quotas and budgets.",
    P.WEBHOOKS_READ: "See webhooks and what could not be delivered.",
    P.WEBHOOKS_WRITE: "Make, change and remove webhooks.",
    P.MODELS_READ: "See models, prices and states.",
    P.USAGE_READ: "See usage and cost.",
    P.REQUESTS_READ: "See single requests (never their content).",
    P.EVENTS_READ: "See who did what.",
    P.OPERATIONS_READ: "See long work and its progress.",
    P.RESOURCES_READ: "Export everything, compare a file with what is there.",
    P.RESOURCES_WRITE: "Apply a file; each change needs its own permission besides.",
    P.INSTALLATION_READ: "See the state of the installation: workers, engines, journal, backups.",
    P.INSTALLATION_WRITE: "Make, suspend and resume organisations; tiers of the house, peppers, backups.",
}

_INSTALLATION = frozenset({P.INSTALLATION_READ, P.INSTALLATION_WRITE})
_OWNER = frozenset(Permission) - _INSTALLATION
READS = frozenset(each for each in _OWNER if each.endswith(":read"))
_VIEWER = frozenset(
    {P.ORGANISATION_READ, P.PROJECTS_READ, P.SYSTEMS_READ, P.MODELS_READ, P.USAGE_READ, P.TIERS_READ, P.QUOTAS_READ}
)
_DEVELOPER = _VIEWER | {
    P.SYSTEMS_WRITE, P.KEYS_READ, P.KEYS_WRITE, P.ROTATIONS_READ, P.ROTATIONS_WRITE, P.REQUESTS_READ,
    P.OPERATIONS_READ,
}  # fmt: skip

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _OWNER,
    Role.ADMIN: _OWNER - {P.ORGANISATION_WRITE},
    Role.BILLING: _VIEWER | {P.KEYS_READ, P.TIERS_WRITE, P.QUOTAS_WRITE, P.EVENTS_READ},
    Role.DEVELOPER: _DEVELOPER,
    Role.AUDITOR: READS,
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: frozenset(Permission),
}

# What may be done by somebody whose role is narrowed to one project: acts on things that have a project, and sight of
# what every project shares. All else concerns the whole organisation.
NARROWED = frozenset(
    {
        P.ORGANISATION_READ, P.PROJECTS_READ, P.MEMBERS_READ, P.MEMBERS_WRITE, P.SERVICE_ACCOUNTS_READ,
        P.SERVICE_ACCOUNTS_WRITE, P.SYSTEMS_READ, P.SYSTEMS_WRITE, P.ADMIN_KEYS_READ, P.ADMIN_KEYS_WRITE, P.KEYS_READ,
        P.KEYS_WRITE, P.ROTATIONS_READ, P.ROTATIONS_WRITE, P.TIERS_READ, P.QUOTAS_READ, P.QUOTAS_WRITE, P.MODELS_READ,
        P.USAGE_READ, P.REQUESTS_READ, P.EVENTS_READ, P.OPERATIONS_READ,
    }
)  # fmt: skip


def allowed(role: Role, *, narrowed: bool = False, only: frozenset[Permission] | None = None) -> frozenset[Permission]:
    """What a role may do.

    Args:
        narrowed: to one project.
        only: the scopes of an admin key; None: all that its role may.
    """
    granted = PERMISSIONS[role]
    if narrowed:
        granted &= NARROWED
    return granted if only is None else granted & only
