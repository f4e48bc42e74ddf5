# SPDX-License-Identifier: Apache-2.0
"""Operations on API keys and peppers.

In: calls. Out: what `control.keys` and `control.leaks` answer.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Select

from beffroi.control import leaks
from beffroi.control.api.operation import Call, Listed, Operation
from beffroi.control.keys import By
from beffroi.control.keyshapes import Created, Key, KeyAsk, KeyChange, RevokeAsk, Revoked, RotateAsk, Rotated
from beffroi.control.tenancy.permissions import Permission
from beffroi.store.tables import keys

_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class KeysQuery(msgspec.Struct, frozen=True):
    """Which keys are listed."""

    name: _Text | None = None
    project: _Text | None = None
    owner: _Text | None = None
    system: _Text | None = None


class Peppered(msgspec.Struct, frozen=True):
    """A new pepper, and the workers that do not know it yet."""

    pepper_id: int
    waiting: list[int]


def _by(call: Call) -> By:
    return By(call.actor, call.organisation, call.keep)


async def list_keys(call: Call) -> Listed[Key]:
    """Every key, without secrets, the youngest last."""
    wanted = msgspec.structs.asdict(call.query)

    def window(query: Select[Any]) -> Select[Any]:
        for name, value in wanted.items():
            if value is not None:
                query = query.where(keys.c[name] == value)
        return call.page.window(query, keys.c.created_at, keys.c.id)

    rows, shown = await call.house.keys.listed(_by(call), window)
    return call.listed(rows, shown, "created_at", "id")


async def create_key(call: Call) -> Created:
    """Its text is in this answer and nowhere else."""
    return await call.house.keys.create(call.ask, _by(call))


async def change_key(call: Call) -> Key:
    """What is named changes."""
    return await call.house.keys.change(call.path["reference"], call.ask, _by(call), call.if_match)


async def revoke_key(call: Call) -> Revoked:
    """Answers when every worker refuses it."""
    ask: RevokeAsk = call.ask
    return await call.house.keys.revoke(call.path["reference"], _by(call), cut=ask.cut, why=ask.why)


async def show_key(call: Call) -> Key:
    """One key, and what is used of its limits."""
    return await call.house.keys.show(call.path["reference"], _by(call))


async def rotate_key(call: Call) -> Rotated:
    """The successor's text is in this answer and nowhere else."""
    return await call.house.keys.rotate(call.path["reference"], call.ask, _by(call))


async def revoke_leaked(call: Call) -> leaks.Swept:
    """Nothing of the text is kept."""
    return await leaks.leaked(call.house.keys, call.ask, _by(call))


async def revoke_fitting(call: Call) -> leaks.Swept:
    """Those that fit every criterion."""
    return await leaks.sweep(call.house.keys, call.ask, _by(call))


async def rotate_pepper(call: Call) -> Peppered:
    """For the keys to come."""
    return Peppered(*await call.house.keys.rotate_pepper(_by(call)))


_READ, _WRITE, _MADE = Permission.KEYS_READ, Permission.KEYS_WRITE, "its text is in this answer and nowhere else."
_LARGE = 2 * leaks.MAX_TEXT  # a text as JSON is longer than the text
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/keys", list_keys, _READ, "Keys, without secrets.", query=KeysQuery, answer=Key, paged=True),
    Operation("POST", "/keys", create_key, _WRITE, f"Make a key; {_MADE}", ask=KeyAsk, answer=Created, status=201),
    Operation("GET", "/keys/{reference}", show_key, _READ, "One key, and what is used of its limits.", answer=Key),
    Operation(
        "PATCH", "/keys/{reference}", change_key, _WRITE, "Change a key: what is named changes.", ask=KeyChange, answer=Key
    ),
    Operation(
        "POST", "/keys/{reference}/revoke", revoke_key, _WRITE, "Revoke a key; answers when every worker refuses it.",
        ask=RevokeAsk, answer=Revoked, repeats=True,
    ),
    Operation(
        "POST", "/keys/{reference}/rotate", rotate_key, _WRITE, f"Make a successor; {_MADE}", ask=RotateAsk,
        answer=Rotated, status=201,
    ),
    Operation(
        "POST", "/leaked-keys", revoke_leaked, _WRITE,
        "Revoke every key of ours that stands in a text, whole; nothing of the text is kept.", ask=leaks.LeakAsk,
        answer=leaks.Swept, most=_LARGE, repeats=True,
    ),
    Operation(
        "POST", "/key-revocations", revoke_fitting, _WRITE, "Revoke the keys that fit criteria, or say which they are.",
        ask=leaks.CriteriaAsk, answer=leaks.Swept, repeats=True,
    ),
    Operation(
        "POST", "/peppers", rotate_pepper, Permission.INSTALLATION_WRITE, "Make a new pepper for the keys to come.",
        answer=Peppered, status=201,
    ),
)  # fmt: skip
