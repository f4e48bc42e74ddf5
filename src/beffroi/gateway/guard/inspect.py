# SPDX-License-Identifier: Apache-2.0
"""Room 3, inspect: what the guard sees in a prompt, and what is done about it.

In: a parsed request. Out: `x.verdict` (allow, annotate, block) and `x.findings`, which the journal keeps.
"""

import asyncio
from typing import Protocol

from beffroi.core.errors import PromptBlocked
from beffroi.core.exchange import Exchange, breathe
from beffroi.gateway.guard.structure import OVERLAP, PIECE, Structure, pieces


class Inspecting(Protocol):
    """What inspect needs of the house."""

    loop: asyncio.AbstractEventLoop


async def inspect(x: Exchange, house: Inspecting) -> None:
    """Room 3: what the guard sees in the prompt.

    Raises:
        PromptBlocked: a feature that the operator blocks.
    """
    if x.request.bland:
        return
    layer: Structure = x.view.structure
    body = x.body
    suspects = layer.suspects(body) if len(body) <= PIECE else await _suspects(x, house, layer)
    if not suspects:
        return
    found: set[str] = set()
    for batch in pieces(x.request.texts):
        found |= layer.look(batch, suspects)
        if len(body) > PIECE:
            await breathe(x, house.loop)
    x.verdict, x.findings = layer.judge(found)
    if x.verdict == "block":
        raise PromptBlocked("Prompt blocked for security reasons.")


async def _suspects(x: Exchange, house: Inspecting, layer: Structure) -> tuple[str, ...]:
    """As `Structure.suspects`, of a large body: looked at in slices."""
    found: set[str] = set()
    for at in range(0, len(x.body), PIECE):
        found.update(layer.suspects(x.body[max(0, at - OVERLAP) : at + PIECE]))
        await breathe(x, house.loop)
    return tuple(found)
