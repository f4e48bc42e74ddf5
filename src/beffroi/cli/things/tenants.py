# SPDX-License-Identifier: Apache-2.0
"""`beffroi orgs`, `projects`, `members`, `service-accounts`, `systems`, `admin-keys`: who there is, and who may act.

In: the command line. Out: what the admin API answers.
"""

import click

from beffroi.cli.things.spec import Said, Shown, Thing, date, state, when
from beffroi.cli.things.verbs import group

_ROLES = click.Choice(["owner", "admin", "billing", "developer", "auditor", "viewer"])
_EVERY_ROLE = click.Choice([*_ROLES.choices, "operator"])
_STATE = Said("state", "active or suspended.", click.Choice(["active", "suspended"]), create=False)
_PROJECT = Shown("PROJECT", "project", lambda one: one["project"] or "all", drop=2)
_MADE = Shown("MADE", "created_at", date("created_at"), drop=3)
_NARROW = Said("project", "The one project where the role holds; all of them when left out.", update=False)
_KEPT = (Shown("", "revision"), Shown("", "managed_by"))
_FULL = Said("name", "Name for people to read.")

orgs = group(
    Thing(
        "orgs",
        "organisation",
        "/api/v1/organisations",
        "Make, list, suspend and resume organisations.",
        (
            Shown("ID", "id"),
            Shown("NAME", "name", shrinks=True),
            Shown("STATE", "state", state),
            Shown("POLICY", "policy", shrinks=True, drop=1),
            _MADE,
            *_KEPT,
        ),
        (
            Said("name", "Name for people to read; the id when left out."),
            Said("max_key_days", "Longest life of a key, in days.", click.IntRange(1, 36_500), within="policy"),
            Said(
                "rotate_every_days",
                "Give every key without a schedule of its own a successor that often.",
                click.IntRange(1, 36_500),
                within="policy",
            ),
        ),
        key="id",
        argument="ID",
        argument_help="ID is written in small letters, figures and hyphens.",
        verbs=frozenset({"create", "update", "suspend", "resume"}),
        organisation=False,
        notes={
            "suspend": "Suspend ORGANISATION: returns once every worker refuses its keys.",
            "resume": "Serve a suspended ORGANISATION again.",
            "update": "Change ORGANISATION. A policy is replaced whole: say all of it.",
        },
    )
)

projects = group(
    Thing(
        "projects",
        "project",
        "/api/v1/projects",
        "Make, list, suspend and resume projects.",
        (
            Shown("ID", "id"),
            Shown("NAME", "name", shrinks=True),
            Shown("STATE", "state", state),
            Shown("ORGANISATION", "organisation", drop=1),
            _MADE,
            *_KEPT,
        ),
        (Said("name", "Name for people to read; the id when left out."),),
        key="id",
        argument="ID",
        argument_help="ID is written in small letters, figures and hyphens.",
        verbs=frozenset({"create", "update", "delete", "suspend", "resume"}),
        notes={
            "suspend": "Suspend PROJECT: returns once every worker refuses its keys.",
            "resume": "Serve a suspended PROJECT again.",
            "delete": "Remove PROJECT, in which nothing is and was.",
        },
    )
)

members = group(
    Thing(
        "members",
        "member",
        "/api/v1/members",
        "Add, list, change and remove members.",
        (
            Shown("EMAIL", "email", shrinks=True),
            Shown("NAME", "name", shrinks=True, drop=1),
            Shown("ROLE", "role"),
            _PROJECT,
            Shown("STATE", "state", state),
            Shown("ID", "id", drop=4),
            Shown("", "organisation"),
            *_KEPT,
        ),
        (Said("role", "What the member may do.", _ROLES, required=True), _NARROW, _FULL, _STATE),
        key="email",
        argument="EMAIL",
        names=("email",),
        notes={"delete": "Remove MEMBER. Admin keys that act as that member are refused from then on."},
    )
)

service_accounts = group(
    Thing(
        "service-accounts",
        "service account",
        "/api/v1/service-accounts",
        "Make, list and remove service accounts.",
        (
            Shown("NAME", "name", shrinks=True),
            Shown("ROLE", "role"),
            _PROJECT,
            Shown("STATE", "state", state),
            Shown("ID", "id", drop=4),
            Shown("", "organisation"),
            *_KEPT,
        ),
        (
            Said("role", "What it may do.", _ROLES, required=True),
            _NARROW,
            Said("name", "Another name.", create=False),
            _STATE,
        ),
    )
)

systems = group(
    Thing(
        "systems",
        "AI system",
        "/api/v1/systems",
        "Register, list, change and remove AI systems.",
        (
            Shown("NAME", "name", shrinks=True),
            Shown("PURPOSE", "purpose", shrinks=True, drop=3),
            Shown("OWNER", "owner", shrinks=True),
            Shown("MODELS", "models", shrinks=True, drop=1),
            _PROJECT,
            Shown("STATE", "state", state),
            Shown("ID", "id", drop=4),
            Shown("", "organisation"),
            *_KEPT,
        ),
        (
            Said("purpose", "What it is for.", required=True),
            Said("owner", "Who answers for it.", required=True),
            Said("models", "A model that it uses; repeat for more.", flag="--model", many=True),
            Said("project", "The project that it belongs to; all of them when left out.", update=False),
            Said("name", "Another name.", create=False),
            _STATE,
        ),
        notes={"delete": "Remove AI_SYSTEM; records keep its id. No living key may belong to it."},
    )
)

admin_keys = group(
    Thing(
        "admin-keys",
        "admin key",
        "/api/v1/admin-keys",
        "Make, list and revoke keys to the administration.",
        (
            Shown("NAME", "name", shrinks=True),
            Shown("KEY", "public", lambda one: f"bfa-{one['public']}-…", drop=1),
            Shown("ROLE", "role"),
            _PROJECT,
            Shown("STATE", "state", state),
            Shown("EXPIRES", "expires_at", date("expires_at")),
            Shown("USED", "used_at", when("used_at"), drop=2),
            Shown("ID", "id", drop=4),
            Shown("", "organisation"),
            Shown("", "principal"),
        ),
        (
            Said("role", "What it may do.", _EVERY_ROLE, required=True),
            Said("scopes", "Only this permission of the role; repeat for more.", flag="--scope", many=True),
            Said("expires_in_days", "Days it lives; 90 when left out.", click.IntRange(1, 366), flag="--expires-days"),
            Said("principal", "Id of the member or service account that it acts as."),
            Said("project", "The one project that it reaches."),
        ),
        verbs=frozenset({"create", "revoke"}),
        secret="key",  # noqa: S106 - the name of a field
        details=(Shown("", "scopes"), Shown("", "created_by")),
        notes={
            "create": "Make an admin key called NAME and print it, this once. `--org '*' --role operator` rules everything.",
            "revoke": "Revoke ADMIN_KEY: it is refused from now on.",
        },
    )
)
