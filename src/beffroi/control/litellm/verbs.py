# SPDX-License-Identifier: Apache-2.0
"""Every verb of LiteLLM's that is answered, and the permission that each needs.

In: nothing. Out: `VERBS`, and their routes for an application.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route

from beffroi.control.litellm import keys, limits, models, spend, teams, users
from beffroi.control.litellm.call import Verb, route
from beffroi.control.tenancy.permissions import P
from beffroi.control.tenancy.scope import Actor

if TYPE_CHECKING:
    from beffroi.control.house import House

VERBS: tuple[Verb, ...] = (
    Verb("POST", "/key/generate", P.KEYS_WRITE, keys.generate),
    Verb("POST", "/key/update", P.KEYS_WRITE, keys.update),
    Verb("POST", "/key/regenerate", P.KEYS_WRITE, keys.regenerate),
    Verb("POST", "/key/{key}/regenerate", P.KEYS_WRITE, keys.regenerate, "POST /key/regenerate"),
    Verb("POST", "/key/delete", P.KEYS_WRITE, keys.delete),
    Verb("POST", "/key/block", P.KEYS_WRITE, keys.block),
    Verb("POST", "/key/unblock", P.KEYS_WRITE, keys.unblock),
    Verb("GET", "/key/info", P.KEYS_READ, keys.info),
    Verb("GET", "/key/list", P.KEYS_READ, keys.list_),
    Verb("POST", "/team/new", P.PROJECTS_WRITE, teams.new),
    Verb("POST", "/team/update", P.PROJECTS_WRITE, teams.update),
    Verb("GET", "/team/info", P.PROJECTS_READ, teams.info),
    Verb("GET", "/team/list", P.PROJECTS_READ, teams.list_),
    Verb("POST", "/team/delete", P.PROJECTS_WRITE, teams.delete),
    Verb("POST", "/team/block", P.PROJECTS_WRITE, teams.block),
    Verb("POST", "/team/unblock", P.PROJECTS_WRITE, teams.unblock),
    Verb("POST", "/team/member_add", P.MEMBERS_WRITE, teams.member_add),
    Verb("POST", "/team/member_delete", P.MEMBERS_WRITE, teams.member_delete),
    Verb("POST", "/user/new", P.MEMBERS_WRITE, users.new),
    Verb("GET", "/user/info", P.MEMBERS_READ, users.info),
    Verb("POST", "/budget/new", P.TIERS_WRITE, limits.new),
    Verb("POST", "/budget/info", P.TIERS_READ, limits.info),
    Verb("GET", "/spend/logs", P.USAGE_READ, spend.logs),
    Verb("GET", "/global/spend/report", P.USAGE_READ, spend.report),
    Verb("GET", "/model/info", P.MODELS_READ, models.info),
    Verb("GET", "/v1/model/info", P.MODELS_READ, models.info),
)


def routes(house: "House", who: Callable[[Request], Awaitable[Actor]]) -> list[Route]:
    """Routes of all of them; `who` tells who calls."""
    return [route(house, verb, who) for verb in VERBS]
