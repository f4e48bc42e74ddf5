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
    "POST /vault-keys": Exercise(leaves=_HOUSE),
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
    "GET /replicas": Exercise(leaves=_HOUSE),
    "DELETE /replicas/{id}": Exercise(a.replicas, leaves=_HOUSE),
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
    "DELETE /tiers/{name}/versions/{version}": Exercise(a.tiers, "name"),
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

# Verbs of LiteLLM's: what they are asked of a thing of the other organisation, and once more of one that nobody has.
LITELLM: dict[str, list[dict[str, Any]]] = {
    "POST /key/generate": [
        {"team_id": ONLY},
        {"user_id": Z["member"]},
        {"team_id": "p", "key_alias": "x", "budget_id": ONLY},
    ],
    "POST /key/update": [{"key": Z["key"], "key_alias": "x"}],
    "POST /key/regenerate": [{"key": Z["key"]}],
    "POST /key/{key}/regenerate": [{"key": Z["key"]}],
    "POST /key/delete": [{"keys": [Z["key"]]}],
    "POST /key/block": [{"key": Z["key"]}],
    "POST /key/unblock": [{"key": Z["key"]}],
    "GET /key/info": [{"key": Z["key"]}],
    "GET /key/list": [{}, {"team_id": ONLY}, {"user_id": Z["member"]}, {"return_full_object": "true"}],
    "POST /team/new": [{"team_alias": "x", "members_with_roles": [{"role": "user", "user_id": Z["member"]}]}],
    "POST /team/update": [{"team_id": ONLY, "team_alias": "x"}],
    "GET /team/info": [{"team_id": ONLY}],
    "GET /team/list": [{}, {"user_id": Z["member"]}],
    "POST /team/delete": [{"team_ids": [ONLY]}],
    "POST /team/block": [{"team_id": ONLY}],
    "POST /team/unblock": [{"team_id": ONLY}],
    "POST /team/member_add": [{"team_id": ONLY, "member": {"role": "user", "user_email": "x@example.org"}}],
    "POST /team/member_delete": [{"team_id": ONLY, "user_id": Z["member"]}, {"team_id": "p", "user_id": Z["member"]}],
    "POST /user/new": [{"user_email": "y@example.org", "teams": [ONLY], "auto_create_key": False}],
    "GET /user/info": [{"user_id": Z["member"]}],
    "POST /budget/new": [{"budget_id": "own-budget", "max_budget": 1}],
    "POST /budget/info": [{"budgets": [ONLY]}],
    "GET /spend/logs": [{}, {"api_key": Z["key"]}, {"user_id": Z["member"]}],
    "GET /global/spend/report": [{}, {"group_by": "team", "team_id": ONLY}],
    "GET /model/info": [{}],
    "GET /v1/model/info": [{}],
}

_EVERYBODY = "speaks to the API, with an API key: what that reaches is the gateway's affair"
_FILES = "reads and writes files that are named, and no rows of tenants"
_OPERATOR = "of organisations themselves, for the operator, who sees all"
_MACHINE = "of the machine and the whole data directory, for whoever owns it"

VERBS: dict[str, list[list[str]] | str] = {
    "init": _FILES,
    "serve": _MACHINE,
    "chat": _EVERYBODY,
    "bench": _EVERYBODY,
    "doctor": _MACHINE,
    "completion": _FILES,
    "config check": _FILES,
    "config example": _FILES,
    "config schema": _FILES,
    "config show": _FILES,
    "import litellm": _FILES,
    "import opengatellm": _FILES,
    "journal verify": _MACHINE,
    "backup create": _MACHINE,
    "backup restore": _MACHINE,
    "backup verify": _MACHINE,
    "engines": _MACHINE,
    "fleet list": _MACHINE,
    "fleet forget": _MACHINE,
    "plan": "asks the operation that is exercised above, with the operator's reach: the file names its organisations",
    "apply": "as `plan`",
    "orgs create": _OPERATOR,
    "orgs list": _OPERATOR,
    "orgs resume": _OPERATOR,
    "orgs show": _OPERATOR,
    "orgs suspend": _OPERATOR,
    "orgs update": _OPERATOR,
    "export": [["--org", ACME]],
    "models": [[]],
    "usage": [["--org", ACME, "--by", "key,model,project"], ["--org", ACME, "--key", Z["key"]]],
    "requests tail": [["--org", ACME], ["--org", ACME, "--key", Z["key"]]],
    "requests show": [["{request}", "--org", ACME]],
    "events list": [["--org", ACME], ["--org", ACME, "--subject", Z["key"]]],
    "keys create": [
        ["x", "--organisation", ACME, "--project", ONLY],
        ["x", "--organisation", ACME, "--system", Z["system"]],
    ],
    "keys list": [["--organisation", ACME], ["--organisation", ACME, "--project", ONLY]],
    "keys revoke": [[Z["key"], "--organisation", ACME], ["--organisation", ACME, "--project", ONLY, "--dry-run"]],
    "keys rotate": [[Z["key"], "--organisation", ACME]],
    "keys rotations cancel": [["{rotation}", "--organisation", ACME]],
    "keys rotations link": [["{rotation}", "--organisation", ACME]],
    "keys rotations list": [["--organisation", ACME], ["--organisation", ACME, "--key", Z["key"]]],
    "keys rotations show": [["{rotation}", "--organisation", ACME]],
    "keys schedule": [[Z["key"], "--organisation", ACME, "--every", "30d"]],
    "keys show": [[Z["key"], "--organisation", ACME]],
    "keys update": [[Z["key"], "--organisation", ACME, "--name", "x"]],
    "projects create": [["new", "--org", ACME]],
    "tiers assign": [[ONLY, "--org", ACME], ["house", "--org", ACME, "--project", ONLY]],
    "tiers create": [["cli", "--org", ACME, "--requests-per-minute", "5"]],
    "tiers delete": [[ONLY, "1", "--org", ACME]],
    "tiers list": [["--org", ACME]],
    "tiers show": [[ONLY, "--org", ACME]],
    "quotas create": [
        ["x", "--org", ACME, "--key", Z["key"], "--requests-per-minute", "5"],
        ["x", "--org", ACME, "--project", ONLY, "--requests-per-minute", "5"],
        ["x", "--org", ACME, "--tier", ONLY],
    ],
    "quotas delete": [[f"quo_{ZEBRA}-p", "--org", ACME]],
    "quotas list": [["--org", ACME]],
    "quotas show": [[f"quo_{ZEBRA}-p", "--org", ACME]],
    "quotas update": [[f"quo_{ZEBRA}-p", "--org", ACME, "--requests-per-minute", "6"]],
    "quotas use": [[f"quo_{ZEBRA}-p", "--org", ACME]],
    "operations list": [["--org", ACME]],
    "operations show": [[f"operations-{ZEBRA}-p", "--org", ACME]],
}
for _kind, _theirs, _change in (
    ("projects", ONLY, ["--name", "x"]),
    ("members", Z["member"], ["--name", "x"]),
    ("service-accounts", Z["account"], ["--name", "x"]),
    ("systems", Z["system"], ["--purpose", "x"]),
    ("webhooks", f"webhooks-{ZEBRA}-p", ["--state", "disabled"]),
    ("admin-keys", f"admin_keys-{ZEBRA}-p", []),
):
    VERBS[f"{_kind} list"] = [["--org", ACME]]
    VERBS[f"{_kind} show"] = [[_theirs, "--org", ACME]]
    if _kind != "admin-keys":
        VERBS[f"{_kind} delete"] = [[_theirs, "--org", ACME]]
        VERBS[f"{_kind} update"] = [[_theirs, "--org", ACME, *_change]]
VERBS |= {
    "admin-keys revoke": [[f"admin_keys-{ZEBRA}-p", "--org", ACME]],
    "projects suspend": [[ONLY, "--org", ACME]],
    "projects resume": [[ONLY, "--org", ACME]],
    "members create": [["x@example.org", "--role", "viewer", "--org", ACME, "--project", ONLY]],
    "service-accounts create": [["x", "--role", "viewer", "--org", ACME, "--project", ONLY]],
    "systems create": [["x", "--purpose", "p", "--owner", "o", "--org", ACME, "--project", ONLY]],
    "admin-keys create": [["x", "--role", "viewer", "--org", ACME, "--principal", Z["member"]]],
    "webhooks create": [["https://hooks.example.org/", "--org", ACME]],
}

# What control does by itself, by the name of its task: whose rows it touches, and which test shows it.
JOBS = {
    "watch": "the configuration file, and an event of the installation",
    "shipping": "each row has the organisation of its key; no statement of it asks for one (test_shipping)",
    "housekeeping": "counters by slot; a slot is one key's or one quota's (test_budgets)",
    "alerts": "one scope for each organisation (the tests of quotas: a webhook of another is not told)",
    "database": "waits for the database to be there",
    "following": "tells workers of this machine what others changed, all of it to each",
    "shared limits": "counters by slot, as housekeeping",
    "webhooks": "test_jobs_tell_and_change_one_organisation_at_a_time",
    "rotations": "test_jobs_tell_and_change_one_organisation_at_a_time",
    "keys": "tells workers what the tables of the installation say, all of it to each",
}

# Modules of control that open the database without a scope, because what they do is of the whole installation.
WITHOUT_SCOPE = {
    "acts.py": "which tenants are suspended, for all workers",
    "backups.py": "an event of the installation",
    "catalogue.py": "latency of engines, for operators",
    "configuration.py": "an event of the installation",
    "fleet/follower.py": "what workers of this machine must know",
    "fleet/routes.py": "machines of the fleet",
    "fleet/sharing.py": "peppers of the fleet",
    "house.py": "whether the database answers",
    "keys.py": "peppers",
    "opening.py": "what all workers must know at a start",
    "restore.py": "a whole backup",
    "shipping.py": "rows of the journal, each with its organisation in it",
    "tenancy/scope.py": "where scopes begin",
    "upgrade.py": "migrations",
    "verify.py": "the journal against the ledger",
}
