# SPDX-License-Identifier: Apache-2.0
"""How large a record may get, so that the space to settle what is in flight can be held back by counting.

In: structs with text from configuration, engines and clients in them. Out: records of at most `MAX_RECORD` bytes.
The names in a settlement are those of its intent, so at most `MAX_INTENT`; its numbers take under 300 bytes; the rest of
its text is cut to fit in what remains, if it must be.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from beffroi.core.record import SETTLEMENT, Refusals, Settlement, frame

MAX_INTENT = 1536
MAX_RECORD = 4096
_TEXT = 32  # characters, of at most 4 bytes each
_FINDINGS = 4
_COUNTS = 32  # entries of refusals in one record
_REASON = 64


def settlement(sequence: int, payload: Settlement) -> bytes:
    """The record of a settlement, shortened where it is larger than any honest one."""
    record = frame(SETTLEMENT, sequence, payload)
    if len(record) <= MAX_RECORD:
        return record
    short = replace(
        payload,
        engine_kind=payload.engine_kind[:_TEXT],
        code=payload.code and payload.code[:_TEXT],
        finish_reason=payload.finish_reason and payload.finish_reason[:_TEXT],
        findings=tuple(finding[:_TEXT] for finding in payload.findings[:_FINDINGS]),
        address=payload.address[:_TEXT],
        user=payload.user and payload.user[:_TEXT],
    )
    return frame(SETTLEMENT, sequence, short)


def refusals(payload: Refusals) -> Iterator[Refusals]:
    """The same counts in as many structs as their size asks for."""
    entries = [(text[:_REASON], count) for text, count in payload.counts.items()]
    for first in range(0, len(entries), _COUNTS):
        counts: dict[str, int] = {}
        for text, count in entries[first : first + _COUNTS]:
            counts[text] = counts.get(text, 0) + count
        yield Refusals(payload.at_s, counts)
