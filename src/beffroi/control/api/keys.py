# SPDX-License-Identifier: Apache-2.0
"""Operations on API keys and peppers.

In: calls. Out: what `control.keys` answers.
"""

from typing import Any

import msgspec

from beffroi.control.api.operation import Call, Operation
from beffroi.control.keyring import KeyAsk, RotateAsk

ACTOR = "cli"


class RevokeAsk(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a revocation."""

    cut: bool = False


async def list_keys(call: Call) -> Any:
    """Every key, without secrets."""
    return {"keys": await call.house.keys.list()}


async def create_key(call: Call) -> Any:
    """Its text is in this answer and nowhere else."""
    return await call.house.keys.create(call.ask, actor=ACTOR)


async def revoke_key(call: Call) -> Any:
    """Answers when every worker refuses it."""
    return await call.house.keys.revoke(call.path["reference"], actor=ACTOR, cut=call.ask.cut)


async def show_key(call: Call) -> Any:
    """One key, and what is used of its limits."""
    return await call.house.keys.show(call.path["reference"])


async def rotate_key(call: Call) -> Any:
    """The successor's text is in this answer and nowhere else."""
    return await call.house.keys.rotate(call.path["reference"], call.ask.overlap_seconds, actor=ACTOR)


async def rotate_pepper(call: Call) -> Any:
    """For the keys to come."""
    pepper, waiting = await call.house.keys.rotate_pepper(actor=ACTOR)
    return {"pepper_id": pepper, "waiting": waiting}


_MADE = "its text is in this answer and nowhere else."
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/keys", list_keys, None, "Every key, without secrets."),
    Operation("POST", "/keys", create_key, None, f"Make a key; {_MADE}", ask=KeyAsk, status=201),
    Operation("GET", "/keys/{reference}", show_key, None, "One key, and what is used of its limits."),
    Operation(
        "POST",
        "/keys/{reference}/revoke",
        revoke_key,
        None,
        "Revoke a key; answers when every worker refuses it.",
        ask=RevokeAsk,
    ),
    Operation(
        "POST", "/keys/{reference}/rotate", rotate_key, None, f"Make a successor; {_MADE}", ask=RotateAsk, status=201
    ),
    Operation("POST", "/peppers", rotate_pepper, None, "Make a new pepper for the keys to come.", status=201),
)
