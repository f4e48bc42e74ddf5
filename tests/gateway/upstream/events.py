# SPDX-License-Identifier: Apache-2.0
"""What the streams of all dialects are made of: one short answer, and how an event is written.

In: nothing. Out: the answer's pieces and counts, `Dialect`, `event`.
"""

import json
from dataclasses import dataclass, field
from typing import Any

PIECES = ("Le", " beffroi", ' "sonne"', " l'é", "té\n", "🔔")
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 11, "total_tokens": 17, "completion_tokens": 6}
CREATED = 1_764_000_000


@dataclass
class Dialect:
    """One stream. `text` and `finish` of choice 0; `tokens`: prompt and completion as the engine counts them, cached ones of the prompt, reasoning ones of the completion."""

    kind: str
    events: list[bytes]
    text: str = TEXT
    finish: str = "stop"
    tokens: tuple[int, int, int, int] = (11, 0, 6, 0)
    reasoning: str = ""
    calls: list[Any] = field(default_factory=list)
    tools: bool = False
    path: str = "/v1/chat/completions"


def compact(value: Any) -> bytes:
    """JSON without blanks, text as UTF-8: as most engines write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: Any, prefix: bytes = b"data: ") -> bytes:
    """One SSE event."""
    return prefix + compact(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
