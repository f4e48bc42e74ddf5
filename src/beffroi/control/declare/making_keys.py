# SPDX-License-Identifier: Apache-2.0
"""Makes, changes and revokes the API keys of a file.

In: changes. Out: rows of `keys`, and the text of each new one, once.
"""

from typing import Any

from sqlalchemy import Row

from beffroi.control import keyring
from beffroi.control.declare.diff import Change
from beffroi.control.declare.making import Kind, Work, as_ask
from beffroi.control.declare.state import Fields, Thing
from beffroi.control.keyshapes import DAY, KeyAsk, KeyChange, LimitsAsk
from beffroi.control.tenancy.scope import Scope
from beffroi.core.errors import BadRequest
from beffroi.store.administration import ai_systems
from beffroi.store.tables import keys

_LIMITS = tuple(LimitsAsk.__struct_fields__)


def _create(work: Work, scope: Scope, thing: Thing) -> str:
    project, name = thing.ref.name
    said = _said(scope, thing.fields)
    said["limits"] = {limit: value for limit, value in said["limits"].items() if value is not None}
    if "expires" in thing.fields:
        said["expires_in_days"] = _days(thing, work.now)
    ask = as_ask(KeyAsk, name=name, project=project, **said)
    row, text = keyring.make(scope, ask, work.known(ask.models), work.pepper)
    row = _exactly(scope, row, thing.fields)
    work.begin(row.slot)
    work.rows.append(row)
    work.made(thing, row.id, text)
    return str(row.id)


def _update(work: Work, scope: Scope, change: Change, fields: Fields) -> None:
    row = scope.find(keys, "" if change.held is None else change.held.id, "key")
    said = _said(scope, fields)
    if "expires" in fields and fields["expires"] is not None:
        said["expires_in_days"] = _days(change.thing, work.now)
    if said:
        row = keyring.change(scope, row, as_ask(KeyChange, **said), work.known, None)
    work.rows.append(_exactly(scope, row, fields))


def _delete(work: Work, scope: Scope, thing: Thing) -> None:
    row = scope.find(keys, thing.id, "key")
    _, rows = keyring.revoke_with_those_before(scope, row, "no longer in the file that was applied")
    work.rows += rows


def _said(scope: Scope, fields: Fields) -> dict[str, Any]:
    """What a body would say; limits that are not named among fields are left out of it."""
    said: dict[str, Any] = {
        name: fields[name] for name in ("models", "endpoints", "addresses", "owner", "rotation") if name in fields
    }
    if "system" in fields:
        said["system"] = _system(scope, fields["system"])
    limits = {name: fields[f"limits.{name}"] for name in _LIMITS if f"limits.{name}" in fields}
    if limits.get("budget_period", "") is None:  # the period of a budget that goes
        limits["budget_period"] = "month"
    return said | {"limits": limits}


def _system(scope: Scope, name: str) -> str:
    """The id of the AI system of that name; it is there: `references` looked."""
    if not name:
        return ""
    found = scope.connection.scalar(scope.select(ai_systems, ai_systems.c.id).where(ai_systems.c.name == name))
    if found is None:
        raise BadRequest(f"there is no AI system `{name}`", param="system")
    return str(found)


def _days(thing: Thing, now: int) -> int:
    """Days from now that hold the end, for the policy to judge; the end itself is set after it."""
    ends: int = thing.fields["expires"]
    if ends <= now:
        raise BadRequest(f"the key {thing.ref} would have ended before it is made", param="expires")
    return max(1, -(-(ends - now) // DAY))


def _exactly(scope: Scope, row: Row[Any], fields: Fields) -> Row[Any]:
    """The same key, ending at the very moment that the file says, not a part of a day later."""
    ends = fields.get("expires")
    return row if ends is None or row.expires_at == ends else scope.revise(keys, row, expires_at=ends)


KEYS: dict[str, Kind] = {"key": Kind(_create, _update, _delete, keys)}
