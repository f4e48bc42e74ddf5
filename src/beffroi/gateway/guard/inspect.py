# SPDX-License-Identifier: Apache-2.0
"""Room 3, inspect: what the guard sees in a prompt, and what is done about it.

In: a parsed request. Out: `x.verdict` (allow, annotate, block) and `x.findings`, which the journal keeps.
"""

import asyncio
from typing import Protocol

from beffroi.core.errors import PromptBlocked
from beffroi.core.exchange import Exchange, breathe
from beffroi.gateway.guard.structure import PIECE, Structure, pieces


class Inspecting(Protocol):
    """What inspect needs of the house."""

    loop: asyncio.AbstractEventLoop


async def inspect(x: Exchange, house: Inspecting) -> None:
    """Room 3: what the guard sees in the prompt.

    Raises:
        PromptBlocked: a feature that the operator blocks.
    """
    layer: Structure = x.view.structure
    suspects = layer.suspects(x.body)
    if not suspects:
        return
    found: set[str] = set()
    for batch in pieces(x.request.texts):
        found |= layer.look(batch, suspects)
        if len(x.body) > PIECE:
            await breathe(x, house.loop)
    x.verdict, x.findings = layer.judge(found)
    if x.verdict == "block":
        raise PromptBlocked("Prompt blocked for security reasons.")
