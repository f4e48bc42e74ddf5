# SPDX-License-Identifier: Apache-2.0
"""What a load is asked to do, and what was measured of it.

In: bounds; samples, one a request. Out: request bodies; counts and times.
"""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beffroi.cli.bench.client import Sample

QUANTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True)
class Plan:
    """What is asked, how often, by how many at once, for how long at most."""

    model: str
    concurrency: int
    requests: int
    seconds: float
    streamed: bool
    max_tokens: int
    prompt: str

    def body(self, number: int) -> dict[str, Any]:
        """One request. It begins with its number: a prompt that repeats is answered from caches, or taken for an attack."""
        content = f"{number}. {self.prompt}"
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        body["max_tokens"] = self.max_tokens
        if self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


@dataclass
class Figures:
    """What was measured, in seconds.

    Attributes:
        answered, faults: requests that were answered whole; those that were not, by why.
        cut: requests that were open when the load ended; they count for nothing.
        uncounted: answers that did not tell their tokens.
    """

    answered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    stopped: bool = False
    elapsed: float = 0.0
    first: "array[float]" = field(default_factory=lambda: array("d"))
    gaps: "array[float]" = field(default_factory=lambda: array("d"))
    total: "array[float]" = field(default_factory=lambda: array("d"))
    input: int = 0
    output: int = 0
    uncounted: int = 0

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.faults.values())

    def take(self, sample: "Sample") -> None:
        """Count one request."""
        if sample.fault:
            self.faults[sample.fault] += 1
            return
        self.answered += 1
        self.total.append(sample.total)
        if sample.first is not None:
            self.first.append(sample.first)
        self.gaps.extend(sample.gaps)
        self.input += sample.input
        self.output += sample.output
        self.uncounted += not sample.counted


def quantile(values: Sequence[float], part: float) -> float | None:
    """The smallest of `values`, which are sorted, that at least `part` of them do not exceed; None of none."""
    if not values:
        return None
    return values[max(1, math.ceil(part * len(values) - 1e-9)) - 1]
