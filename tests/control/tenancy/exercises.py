# SPDX-License-Identifier: Apache-2.0
"""How the test of isolation uses each operation, verb and job. One that is not here makes it fail: add it with its feature.

In: nothing. Out: bodies that a tenant may send, bodies that reach for another tenant's things, and whose ids paths name.
`ACME` asks; `ZEBRA` is the other organisation, which must stay as it was and unseen.
"""

from typing import Any, NamedTuple

from sqlalchemy import Table

from beffroi.store import administration as a
from beffroi.store import tables as t

ACME, ZEBRA = "acme", "zebra"
ONLY = "stripes"  # a project, and a tier, that only the other organisation has


class Exercise(NamedTuple):
    """How one operation is used.

    Attributes:
        kind: the table whose ids stand in the path; column: which of its columns.
        ask: a body that is in order.
        reaching: bodies, or queries (as dicts under `?`), that name things of the other organisation.
        leaves: the operation answers the same whatever is asked (no rows of tenants in it): why.
    """

    kind: Table | None = None
    column: str = "id"
    ask: Any = None
    reaching: tuple[Any, ...] = ()
    leaves: str = ""


def query(**values: Any) -> dict[str, Any]:
    """A query in place of a body."""
    return {"?": values}


Z = {
    "member": f"members-{ZEBRA}-p",
    "account": f"service_accounts-{ZEBRA}-p",
    "system": f"ai_systems-{ZEBRA}-p",
    "key": f"key_{ZEBRA}-p",
    "project": ONLY,
}
_HOUSE = "of the whole installation, for operators alone"
_POLICY = {"name": "Same", "policy": {"max_key_days": 365}}
_DOCUMENT = {"document": {"organisations": [{"id": ZEBRA, "name": "Taken over"}]}}

OPERATIONS: dict[str, Exercise] = {
    "GET /status": Exercise(leaves=_HOUSE),
    "GET /usage": Exercise(reaching=(query(key=Z["key"]), query(project=ONLY, by="project,organisation,system,key"))),
    "GET /requests": Exercise(reaching=(query(key=Z["key"]), query(after="elsewhere.0"))),
    "GET /requests/{reference}": Exercise(t.exchanges, "request_id"),
    "GET /models": Exercise(),
    "GET /engines": Exercise(leaves=_HOUSE),
    "GET /journal/verify": Exercise(leaves=_HOUSE),
    "POST /backups": Exercise(leaves=_HOUSE),
    "GET /keys": Exercise(reaching=(query(project=ONLY), query(system=Z["system"]), query(owner=Z["member"]))),
    "POST /keys": Exercise(
        ask={"name": "Same"},
        reaching=(
            {"name": "x", "project": ONLY},
            {"name": "x", "project": "p", "system": Z["system"]},
        ),
    ),
    "GET /keys/{reference}": Exercise(t.keys),
    "PATCH /keys/{reference}": Exercise(t.keys, ask={"name": "Same"}, reaching=({"system": Z["system"]},)),
    "POST /keys/{reference}/revoke": Exercise(t.keys, ask={}),
    "POST /keys/{reference}/rotate": Exercise(t.keys, ask={}),
    "POST /leaked-keys": Exercise(ask={"text": "nothing"}, reaching=({"text": f"bf-keys-{ZEBRA}-p"},)),
    "POST /key-revocations": Exercise(
        ask={"criteria": {"name": "No such"}},
        reaching=({"criteria": {"project": ONLY}}, {"criteria": {"system": Z["system"]}}),
    ),
    "POST /peppers": Exercise(leaves=_HOUSE),
    "GET /operations": Exercise(),
    "GET /operations/{id}": Exercise(a.operations),
    "GET /me": Exercise(),
    "GET /organisations": Exercise(),
    "POST /organisations": Exercise(ask={"name": "Same", "id": "third"}, leaves=_HOUSE),
    "GET /organisations/{id}": Exercise(t.organisations),
    "PATCH /organisations/{id}": Exercise(t.organisations, ask=_POLICY),
    "POST /organisations/{id}/suspend": Exercise(t.organisations),
    "POST /organisations/{id}/resume": Exercise(t.organisations),
    "GET /projects": Exercise(),
    "GET /projects/{id}": Exercise(t.projects),
    "POST /projects": Exercise(ask={"name": "Same"}),
    "PATCH /projects/{id}": Exercise(t.projects, ask={"name": "Same"}),
    "DELETE /projects/{id}": Exercise(t.projects),
    "POST /projects/{id}/suspend": Exercise(t.projects),
    "POST /projects/{id}/resume": Exercise(t.projects),
    "GET /members": Exercise(),
    "GET /members/{id}": Exercise(a.members),
    "POST /members": Exercise(
        ask={"email": "new@example.org", "role": "viewer"},
        reaching=({"email": "x@example.org", "role": "viewer", "project": ONLY},),
    ),
    "PATCH /members/{id}": Exercise(a.members, ask={"name": "Same"}),
    "DELETE /members/{id}": Exercise(a.members),
    "GET /service-accounts": Exercise(),
    "GET /service-accounts/{id}": Exercise(a.service_accounts),
    "POST /service-accounts": Exercise(
        ask={"name": "new", "role": "viewer"}, reaching=({"name": "x", "role": "viewer", "project": ONLY},)
    ),
    "PATCH /service-accounts/{id}": Exercise(a.service_accounts, ask={"name": "Same"}),
    "DELETE /service-accounts/{id}": Exercise(a.service_accounts),
    "GET /systems": Exercise(),
    "GET /systems/{id}": Exercise(a.ai_systems),
    "POST /systems": Exercise(
        ask={"name": "new", "purpose": "p", "owner": "o"},
        reaching=({"name": "x", "purpose": "p", "owner": "o", "project": ONLY},),
    ),
    "PATCH /systems/{id}": Exercise(a.ai_systems, ask={"purpose": "Same"}),
    "DELETE /systems/{id}": Exercise(a.ai_systems),
    "GET /admin-keys": Exercise(),
    "GET /admin-keys/{id}": Exercise(a.admin_keys),
    "POST /admin-keys": Exercise(
        ask={"name": "Same", "role": "viewer"},
        reaching=(
            {"name": "x", "role": "viewer", "project": ONLY},
            {"name": "x", "role": "viewer", "principal": Z["member"]},
            {"name": "x", "role": "viewer", "principal": Z["account"]},
        ),
    ),
    "POST /admin-keys/{id}/revoke": Exercise(a.admin_keys),
    "GET /events": Exercise(reaching=(query(subject=Z["key"]), query(actor=Z["member"]))),
    "GET /rotations": Exercise(reaching=(query(key=Z["key"]),)),
    "POST /rotations": Exercise(ask={"key": f"key_{ACME}-p"}, reaching=({"key": Z["key"]},)),
    "GET /rotations/{id}": Exercise(a.rotations),
    "POST /rotations/{id}/link": Exercise(a.rotations),
    "POST /rotations/{id}/cancel": Exercise(a.rotations),
    "GET /tiers": Exercise(),
    "GET /tiers/{name}": Exercise(a.tiers, "name"),
    "POST /tiers": Exercise(ask={"name": "new", "limits": {"requests_per_minute": 5}}),
    "DELETE /tiers/{name}/{version}": Exercise(a.tiers, "name"),
    "POST /tiers/{name}/assign": Exercise(a.tiers, "name", ask={}, reaching=({"project": ONLY},)),
    "GET /quotas": Exercise(),
    "GET /quotas/{id}": Exercise(a.quotas),
    "POST /quotas": Exercise(
        ask={"model": "m", "limits": {"requests_per_minute": 5}},
        reaching=(
            {"key": Z["key"], "limits": {"requests_per_minute": 5}},
            {"project": ONLY, "limits": {"requests_per_minute": 5}},
            {"model": "n", "tier": ONLY},
        ),
    ),
    "PATCH /quotas/{id}": Exercise(a.quotas, ask={"name": "Same"}, reaching=({"add": {"tier": ONLY}},)),
    "DELETE /quotas/{id}": Exercise(a.quotas),
    "GET /quotas/{id}/standing": Exercise(a.quotas),
    "GET /webhooks": Exercise(),
    "POST /webhooks": Exercise(ask={"url": "https://hooks.example.org/"}),
    "GET /webhooks/{id}": Exercise(a.webhooks),
    "PATCH /webhooks/{id}": Exercise(a.webhooks, ask={"events": ["*"]}),
    "DELETE /webhooks/{id}": Exercise(a.webhooks),
    "POST /webhooks/{id}/secret": Exercise(a.webhooks),
    "GET /webhooks/{id}/deliveries": Exercise(a.webhooks),
    "POST /webhooks/{id}/test": Exercise(a.webhooks),
    "POST /plan": Exercise(ask={"document": {}}, reaching=(_DOCUMENT, {**_DOCUMENT, "prune": True})),
    "POST /apply": Exercise(ask={"document": {}}, reaching=(_DOCUMENT, {**_DOCUMENT, "prune": True})),
    "GET /export": Exercise(),
}
