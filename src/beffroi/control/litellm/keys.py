# SPDX-License-Identifier: Apache-2.0
"""`/key/…`: keys made, shown, changed, given a successor, revoked, blocked, as LiteLLM's scripts ask for it.

In: asks. Out: answers in LiteLLM's shape; the text of a key in the answer that makes it, and nowhere else.
A blocked key is one that may be used for no endpoint; what it could be used for before is in the event of the act.
"""

import secrets
import time
from typing import Any

from msgspec import UNSET
from sqlalchemy import Row

from beffroi.control import keyring, ledger
from beffroi.control.keyshapes import DAY, KeyAsk, KeyChange, RotateAsk
from beffroi.control.litellm import limits, people, terms
from beffroi.control.litellm.call import Ask
from beffroi.control.litellm.convert import convert
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest, KeyNotFound
from beffroi.core.key import PREFIX, PUBLIC
from beffroi.store.tables import DEFAULT, events, keys

_ALL, _TEAMS = "all-proxy-models", "all-team-models"
_ROUTES = {
    "/chat/completions": "chat", "/v1/chat/completions": "chat", "/completions": "completions",
    "/v1/completions": "completions", "/embeddings": "embeddings", "/v1/embeddings": "embeddings",
    "/models": "models", "/v1/models": "models",
}  # fmt: skip
_LLM = ("llm_api_routes", "openai_routes")


def found(scope: Scope, reference: str) -> Row[Any]:
    """A key by itself, its id or its name. Raises KeyNotFound."""
    if reference.startswith(PREFIX):
        reference = reference[len(PREFIX) : len(PREFIX) + PUBLIC]
    return keyring.find(scope, reference)


async def generate(ask: Ask) -> dict[str, Any]:
    """Make a key."""
    return await made(ask, ask.given)


async def made(ask: Ask, given: dict[str, Any]) -> dict[str, Any]:
    """Make a key of what is given; the answer has the key."""
    models = _models(given.get("models"))
    said: dict[str, Any] = {
        "name": given.get("key_alias") or f"key-{secrets.token_hex(4)}",
        "models": models,
        "endpoints": _endpoints(given),
        "limits": {name: value for name, value in terms.limits(given).items() if value is not None},
    }
    if given.get("key_type") not in (None, "default", "llm_api"):
        raise BadRequest("keys to the administration are made with `beffroi admin-keys create`", param="key_type")
    life = None if given.get("duration") is None else terms.span(given["duration"], "duration")
    if life is None:
        ask.told.append(
            "`duration` is not given: the key ends after twelve months, or what its organisation's policy says"
        )
    known = ask.house.keys.known(models)

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        now = int(time.time())
        owner = people.owner(scope, given.get("user_id"))
        project = given.get("team_id") or scope.actor.project or DEFAULT
        days = {} if life is None else {"expires_in_days": max(1, -(-life // DAY))}
        asked = convert({**said, **days, "project": project, "owner": owner}, KeyAsk)
        if given.get("key_alias") and _living(scope, asked.name, now):
            raise BadRequest(f"there is a key with the alias `{asked.name}` already", param="key_alias")
        row, text = keyring.make(scope, asked, known, ask.house.keys.pepper())
        if life is not None:
            row = scope.revise(keys, row, expires_at=now + life)
        ask.house.budgets.begin(row.slot)
        if given.get("budget_id"):
            limits.assign(scope, ask, str(given["budget_id"]), key=row.id)
        return answer(row, spend=0) | {"key": text, "token_id": row.id}, [row]

    shown = await ask.act(work)
    await limits.follow(ask)
    return shown


def _living(scope: Scope, name: str, now: int) -> bool:
    rows = scope.connection.execute(scope.select(keys).where(keys.c.name == name))
    return any(keyring.living(row, now) for row in rows)


def _models(value: Any) -> list[str] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadRequest("`models` is a list of names", param="models")
    return None if _ALL in value or _TEAMS in value else value


def _endpoints(given: dict[str, Any]) -> list[str] | None:
    routes = given.get("allowed_routes")
    if not routes:
        return None
    if not isinstance(routes, list) or not all(isinstance(route, str) for route in routes):
        raise BadRequest("`allowed_routes` is a list of texts", param="allowed_routes")
    if any(route in _LLM for route in routes):
        return None
    for route in routes:
        if route not in _ROUTES:
            there = ", ".join(sorted(_ROUTES))
            raise BadRequest(f"a key cannot be for `{route}`; it can be for {there}", param="allowed_routes")
    return sorted({_ROUTES[route] for route in routes})


def answer(row: Row[Any], *, spend: int) -> dict[str, Any]:
    """A key as LiteLLM shows it, without itself. `token`: its id, which every verb takes in its place."""
    return {
        "token": row.id,
        "key_name": f"{PREFIX}{row.public}-…",
        "key_alias": row.name,
        "spend": terms.money(spend),
        "expires": terms.moment(row.expires_at),
        "models": row.models or [],
        "aliases": {},
        "config": {},
        "user_id": row.owner or None,
        "team_id": row.project,
        "permissions": {},
        "metadata": {},
        "blocked": row.endpoints == [],
        "allowed_routes": sorted(f"/{_path(name)}" for name in row.endpoints or ()),
        "organization_id": row.organisation,
        "created_at": terms.moment(row.created_at),
        "created_by": row.created_by,
        **terms.shown(row.limits),
    }


def _path(endpoint: str) -> str:
    return "chat/completions" if endpoint == "chat" else endpoint


def spent(scope: Scope, ids: frozenset[str]) -> dict[str, int]:
    """Nano-units that keys have cost, from the ledger."""
    costs: dict[str, int] = {}
    for row in ledger.usage(scope, by=("key",), keys=ids) if ids else ():
        costs[str(row["key"])] = costs.get(str(row["key"]), 0) + int(row["cost_nano"] or 0)
    return costs


async def info(ask: Ask) -> dict[str, Any]:
    """What a key is and has spent."""
    reference = ask.text("key")
    await ask.house.current_ledger()

    def read(scope: Scope) -> dict[str, Any]:
        row = found(scope, reference)
        ids = frozenset({row.id, *(old.id for old in keyring.predecessors(scope, row))})
        return {"key": row.id, "info": answer(row, spend=sum(spent(scope, ids).values()))}

    return await ask.read(read)


async def list_(ask: Ask) -> dict[str, Any]:
    """Keys, a page of them."""
    page, size = (_number(ask.given.get(name), name, default) for name, default in (("page", 1), ("size", 10)))
    if size > 100:
        raise BadRequest("`size` is at most 100", param="size")
    await ask.house.current_ledger()

    whole = str(ask.given.get("return_full_object", "")).lower() == "true"

    def read(scope: Scope) -> tuple[int, list[Any]]:
        query = scope.select(keys).order_by(keys.c.created_at, keys.c.id)
        for name, column in (("team_id", keys.c.project), ("key_alias", keys.c.name)):
            if ask.given.get(name):
                query = query.where(column == ask.given[name])
        if ask.given.get("user_id"):
            query = query.where(keys.c.owner == people.owner(scope, ask.given["user_id"]))
        now = int(time.time())
        living = [row for row in scope.connection.execute(query) if keyring.living(row, now)]
        shown = living[(page - 1) * size : page * size]
        costs = spent(scope, frozenset(row.id for row in shown)) if whole else {}
        return len(living), [answer(row, spend=costs.get(row.id, 0)) if whole else row.id for row in shown]

    count, listed = await ask.read(read)
    return {"keys": listed, "total_count": count, "current_page": page, "total_pages": -(-count // size)}


def _number(value: Any, name: str, default: int) -> int:
    if value is None:
        return default
    text = str(value)
    if not text.isascii() or not text.isdigit() or not int(text[:9]) > 0:
        raise BadRequest(f"`{name}` is a whole number above zero", param=name)
    return int(text[:9])


async def update(ask: Ask) -> dict[str, Any]:
    """Change a key: what is named changes."""
    given = ask.given
    reference = ask.text("key")
    change: dict[str, Any] = {}
    if "key_alias" in given:
        change["name"] = ask.text("key_alias")
    if "models" in given:
        change["models"] = _models(given["models"])
    if "allowed_routes" in given:
        change["endpoints"] = _endpoints(given)
    said = terms.limits(given)
    if said:
        change["limits"] = {name: value for name, value in said.items() if value is not None or name != "budget_period"}
    life = None if given.get("duration") is None else terms.span(given["duration"], "duration")
    known = ask.house.keys.known

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = found(scope, reference)
        if given.get("team_id") not in (None, row.project):
            raise BadRequest("a key stays in the project that it was made in; make another", param="team_id")
        if "user_id" in given:
            change["owner"] = people.owner(scope, given["user_id"])
        now = int(time.time())
        if life is not None:
            change["expires_in_days"] = max(1, -(-life // DAY))
        asked = convert(change, KeyChange)
        if any(getattr(asked, name) is not UNSET for name in change):
            row = keyring.change(scope, row, asked, known, None)
        if life is not None:
            row = scope.revise(keys, row, expires_at=now + life)
        if given.get("budget_id"):
            limits.assign(scope, ask, str(given["budget_id"]), key=row.id)
        cost = sum(spent(scope, frozenset({str(row.id)})).values())
        return answer(row, spend=cost) | {"key": row.id}, [row]

    shown = await ask.act(work)
    await limits.follow(ask)
    return shown


async def regenerate(ask: Ask) -> dict[str, Any]:
    """Give a key a successor; the old one is refused at once, or after the grace period."""
    grace = ask.given.get("grace_period")
    overlap = 0 if grace is None else terms.span(grace, "grace_period")
    identifier = await ask.read(lambda scope: str(found(scope, ask.text("key")).id))
    rotated = await ask.house.keys.rotate(identifier, convert({"overlap_seconds": overlap}, RotateAsk), ask.by)
    if rotated.waiting:
        ask.told.append(
            f"workers {rotated.waiting} do not know of it yet: they may still accept the old key, not yet the new"
        )
    row = await ask.read(lambda scope: keyring.find(scope, rotated.id))
    return answer(row, spend=0) | {"key": rotated.key, "token_id": row.id}


async def delete(ask: Ask) -> dict[str, Any]:
    """Revoke keys, all of them or none."""
    named = [*_texts(ask.given, "keys"), *_texts(ask.given, "key_aliases")]
    if not named:
        raise BadRequest("name the keys in `keys` or `key_aliases`", param="keys")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        changed: list[Row[Any]] = []
        shown = []
        for reference in named:
            row = found(scope, reference)
            _, rows = keyring.revoke_with_those_before(scope, row, "deleted through /key/delete")
            changed += rows
            shown.append(row.id)
        return {"deleted_keys": shown}, changed

    return await ask.refuse(work, "the keys are revoked in the database")


def _texts(given: dict[str, Any], name: str) -> list[str]:
    value = given.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or len(value) > 1000:
        raise BadRequest(f"`{name}` is a list of texts", param=name)
    return value


async def block(ask: Ask) -> dict[str, Any]:
    """Have a key refused until it is unblocked."""
    reference = ask.text("key")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = found(scope, reference)
        if row.endpoints != []:
            row = keyring.change(scope, row, KeyChange(endpoints=[]), ask.house.keys.known, None)
        return answer(row, spend=0), [row]

    return await ask.refuse(work, "the key is blocked in the database")


async def unblock(ask: Ask) -> dict[str, Any]:
    """Have a blocked key accepted again, for what it was accepted for before."""
    reference = ask.text("key")

    def work(scope: Scope) -> tuple[dict[str, Any], list[Row[Any]]]:
        row = found(scope, reference)
        if row.endpoints == []:
            row = keyring.change(scope, row, KeyChange(endpoints=_before(scope, row)), ask.house.keys.known, None)
        return answer(row, spend=0), [row]

    return await ask.act(work)


def _before(scope: Scope, row: Row[Any]) -> Any:
    """What a key was for before it was blocked: the last event that took everything away has it."""
    query = scope.select(events).where(events.c.subject == row.id).order_by(events.c.at_ns.desc())
    for event in scope.connection.execute(query):
        if event.after and event.after.get("endpoints") == [] and event.before and "endpoints" in event.before:
            return event.before["endpoints"]
    raise KeyNotFound(
        "nobody knows what this key was for before; say it with /key/update and `allowed_routes`", param="key"
    )
