# SPDX-License-Identifier: Apache-2.0
"""Every field that a LiteLLM script may send, and what becomes of it: kept, told, or refused. What is in no table is refused.

In: nothing. Out: `VERBS`, from which the reference is written, and `sort`, which every verb asks first.
*Kept*: it holds here. *Told*: it restricts nothing, is not stored, and the answer names it. *Refused*: it would restrict or
permit something that Beffroi does not do like that; better no key than one that may do more than its script believes.
A value that means nothing (null, false, an empty list or object, zero spend) is as good as left out, whatever the field.
"""

from enum import StrEnum
from typing import Any

import msgspec

from beffroi.core.errors import BadRequest


class Fate(StrEnum):
    """What becomes of a field."""

    KEPT = "kept"
    TOLD = "told"
    REFUSED = "refused"


class Field(msgspec.Struct, frozen=True):
    """One field. `becomes`: what it is here, or what to do instead."""

    fate: Fate
    becomes: str


def _kept(becomes: str) -> Field:
    return Field(Fate.KEPT, becomes)


def _told(becomes: str) -> Field:
    return Field(Fate.TOLD, becomes)


def _refused(instead: str) -> Field:
    return Field(Fate.REFUSED, instead)


_LIMITS = {
    "max_budget": _kept("soft budget: what is spent counts, and once it is passed requests are refused; in the ledger's currency"),
    "budget_duration": _kept("period of the budget: `1d` or `24h` a day; `30d`, `31d`, `1mo` a calendar month; null for ever"),
    "tpm_limit": _kept("tokens per minute"),
    "rpm_limit": _kept("requests per minute"),
    "max_parallel_requests": _kept("requests at once"),
    "soft_budget": _told("alerts are given at 50, 80 and 100 % of every budget"),
    "budget_id": _kept("the tier of that name: a quota on the key or the project with the tier's limits"),
}  # fmt: skip
_WORDS = {
    "metadata": _told("nothing is stored beside a key or a project but what Beffroi uses"),
    "tags": _told("nothing is tagged; usage is told by key, project, model and AI system"),
    "spend": _told("what was spent before is in the ledger that spent it"),
    "config": _told("there is no configuration of a key"),
    "allowed_cache_controls": _told("there is no cache of answers"),
    "rpm_limit_type": _told("limits hold for all alike"),
    "tpm_limit_type": _told("limits hold for all alike"),
    "created_by": _told("the event of the act says who did it"),
    "updated_by": _told("the event of the act says who did it"),
    "send_invite_email": _told("nobody is written to"),
}
_FOREIGN = {
    "guardrails": _refused("the prompt guard is set in `gateway.guard`, for everybody"),
    "policies": _refused("leave it out"),
    "prompts": _refused("leave it out"),
    "permissions": _refused("leave it out"),
    "object_permission": _refused("leave it out: there are no tool servers and vector stores"),
    "enforced_params": _refused("leave it out"),
    "router_settings": _refused("routing is set for each model in `resources.models`"),
    "model_max_budget": _refused("make a quota with a model: `beffroi quotas create --model`"),
    "model_rpm_limit": _refused("make a quota with a model: `beffroi quotas create --model`"),
    "model_tpm_limit": _refused("make a quota with a model: `beffroi quotas create --model`"),
    "budget_fallbacks": _refused("leave it out"),
    "budget_limits": _refused("a key has one budget; make quotas for more"),
    "allowed_passthrough_routes": _refused("nothing is passed through"),
    "allowed_vector_store_indexes": _refused("leave it out"),
    "access_group_ids": _refused("name the models in `models`"),
    "agent_id": _refused("leave it out"),
    "project_id": _refused("a team is a project: name it in `team_id`"),
    "temp_budget_increase": _refused("raise `max_budget`, and lower it again"),
    "temp_budget_expiry": _refused("raise `max_budget`, and lower it again"),
    "organization_id": _kept("the organisation; the admin key must be of it"),
}
_KEY = {
    "key_alias": _kept("the key's name; a made-up one when left out"),
    "duration": _kept("its end: `30s`, `12h`, `30d`, `1mo`; twelve months at most"),
    "models": _kept("models it may use; `[]` or `all-proxy-models`: all, `all-team-models`: its team's"),
    "team_id": _kept("its project"),
    "user_id": _kept("whose key it is: a member by mail address or id, a service account by name or id"),
    "allowed_routes": _kept("endpoints it may use: chat/completions, completions, embeddings, models; others are refused"),
    "key_type": _kept("`default` and `llm_api`; other kinds are admin keys: `beffroi admin-keys create`"),
    "blocked": _refused("use /key/block"),
    "aliases": _refused("aliases are set for each model in `resources.models`"),
    "key": _refused("keys are made here: whoever chose one would know it"),
    "auto_rotate": _refused("a schedule stands in a file of tenants, in `rotation` of the key"),
    "rotation_interval": _refused("a schedule stands in a file of tenants, in `rotation` of the key"),
    **_LIMITS, **_WORDS, **_FOREIGN,
}  # fmt: skip
_TEAM = {
    "team_alias": _kept("the project's name"),
    "team_id": _kept("the project's id: small letters, figures, hyphens; made up when left out"),
    "models": _refused("a project permits no models: name them on each key, in `models`"),
    "members_with_roles": _kept("members narrowed to the project: `admin` as admin, `user` as developer"),
    "members": _told("an old form that LiteLLM leaves unread too; use `members_with_roles`"),
    "admins": _told("an old form that LiteLLM leaves unread too; use `members_with_roles`"),
    "blocked": _kept("whether the project is suspended"),
    "model_aliases": _refused("aliases are set for each model in `resources.models`"),
    "team_member_budget": _refused("a member has no budget; make a quota for the project, or limits on each key"),
    "team_member_rpm_limit": _refused("give each key its limits"),
    "team_member_tpm_limit": _refused("give each key its limits"),
    "team_member_key_duration": _refused("give each key its `duration`"),
    "team_member_permissions": _refused("the role of a member says what it may do"),
    **_LIMITS, **_WORDS, **_FOREIGN,
}  # fmt: skip
_USER = {
    "user_id": _kept("a service account of that name, where no mail address is given"),
    "user_email": _kept("a member of that mail address"),
    "user_alias": _kept("the member's name"),
    "user_role": _kept("`proxy_admin` as admin, `proxy_admin_viewer` as auditor, `internal_user` as developer, `internal_user_viewer` as viewer"),
    "auto_create_key": _kept("whether a key is made too; it is unless false, as in LiteLLM"),
    "key_alias": _kept("that key's name"),
    "duration": _kept("that key's end"),
    "models": _kept("models that this key may use"),
    "teams": _kept("projects: a membership narrowed to each"),
    "team_id": _kept("the project of that key"),
    "sso_user_id": _told("people do not log in here yet"),
    "aliases": _refused("aliases are set for each model in `resources.models`"),
    **_LIMITS, **_WORDS, **_FOREIGN,
}  # fmt: skip
_BUDGET = {
    "budget_id": _kept("the tier's name; a made-up one when left out"),
    **{name: field for name, field in _LIMITS.items() if name != "budget_id"},
    "model_max_budget": _FOREIGN["model_max_budget"],
}
_ONE_KEY = {"key": _kept("the key: itself, its id or its name")}
_ONE_MODEL = {"litellm_model_id": _kept("one model, by its name")}

VERBS: dict[str, dict[str, Field]] = {
    "POST /key/generate": _KEY,
    "POST /key/update": {**_KEY, **_ONE_KEY, "blocked": _refused("use /key/block, /key/unblock")},
    "POST /key/regenerate": {
        **_ONE_KEY,
        "grace_period": _kept("how long the old key is still accepted; not at all when left out"),
        "new_key": _KEY["key"],
        "new_master_key": _refused("there is no master key"),
    },
    "POST /key/delete": {
        "keys": _kept("keys to revoke: each itself, its id or its name"),
        "key_aliases": _kept("keys to revoke, by name"),
    },
    "POST /key/block": _ONE_KEY,
    "POST /key/unblock": _ONE_KEY,
    "GET /key/info": _ONE_KEY,
    "GET /key/list": {
        "page": _kept("from 1"),
        "size": _kept("at most 100"),
        "team_id": _kept("of that project alone"),
        "user_id": _kept("of that member or service account alone"),
        "key_alias": _kept("of that name alone"),
        "return_full_object": _kept("whole objects instead of ids"),
        "organization_id": _FOREIGN["organization_id"],
        "include_team_keys": _told("every key that may be seen is listed"),
        "sort_by": _told("the order is that in which they were made"),
        "sort_order": _told("the order is that in which they were made"),
    },
    "POST /team/new": _TEAM,
    "POST /team/update": _TEAM,
    "GET /team/info": {"team_id": _kept("the project")},
    "GET /team/list": {"organization_id": _FOREIGN["organization_id"], "user_id": _kept("with that member alone")},
    "POST /team/delete": {"team_ids": _kept("projects to suspend, and whose keys are revoked: what they used stays in the ledger")},
    "POST /team/block": {"team_id": _kept("the project to suspend")},
    "POST /team/unblock": {"team_id": _kept("the project to resume")},
    "POST /team/member_add": {
        "team_id": _kept("the project"),
        "member": _kept("one, or a list: `user_email` or `user_id`, and `role`"),
        "max_budget_in_team": _TEAM["team_member_budget"],
    },
    "POST /team/member_delete": {
        "team_id": _kept("the project"),
        "user_id": _kept("a mail address, or the id of a member"),
        "user_email": _kept("a mail address"),
    },
    "POST /user/new": _USER,
    "GET /user/info": {"user_id": _kept("a member by mail address or id, a service account by name or id")},
    "POST /budget/new": _BUDGET,
    "POST /budget/info": {"budgets": _kept("names of tiers")},
    "GET /spend/logs": {
        "start_date": _kept("first day"),
        "end_date": _kept("last day"),
        "api_key": _kept("of one key alone"),
        "user_id": _kept("of the keys of one member or service account alone"),
        "request_id": _kept("one request"),
        "summarize": _kept("by day (as when it is left out beside dates), or request by request"),
    },
    "GET /global/spend/report": {
        "start_date": _kept("first day"),
        "end_date": _kept("last day"),
        "group_by": _kept("`team` or `api_key`; `customer` is refused"),
        "api_key": _kept("of one key alone"),
        "team_id": _kept("of one project alone"),
    },
    "GET /model/info": _ONE_MODEL,
    "GET /v1/model/info": _ONE_MODEL,
}  # fmt: skip


def sort(verb: str, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields that are kept, and a sentence for each that is not stored.

    Raises:
        BadRequest: a field that is refused, or unknown here; the sentence names it and says what to do instead.
    """
    known = VERBS[verb]
    kept: dict[str, Any] = {}
    told: list[str] = []
    for name, value in given.items():
        field = known.get(name)
        if empty(value) and (field is None or field.fate is not Fate.KEPT):
            continue
        if field is None:
            raise BadRequest(f"Beffroi does not know the field `{name[:60]}` of {verb}; leave it out", param=name[:60])
        if field.fate is Fate.REFUSED:
            raise BadRequest(f"`{name}` cannot be kept here: {field.becomes}", param=name)
        if field.fate is Fate.TOLD:
            told.append(f"`{name}` is not kept: {field.becomes}")
        else:
            kept[name] = value
    return kept, told


def empty(value: Any) -> bool:
    """Whether a value says nothing."""
    return value is None or value is False or value in ("", 0, [], {})
