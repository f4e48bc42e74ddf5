# SPDX-License-Identifier: Apache-2.0
"""Room 3, inspect, layer `structure`: features of a prompt's form, each with the act that the configuration gives it.

In: (role, text) pairs and the body they came in. Out: a verdict (allow, annotate, block) and the names of what was seen.
A feature is a reason to look, never proof of an attack: the default act is `annotate`; `block` is the operator's word.
Linear in the text; the bytes of the body tell in nanoseconds which features cannot be there at all.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from beffroi.core.snapshot import GUARD_FEATURES as FEATURES

# Tokens of common chat templates: in a user's text they imitate another speaker.
TEMPLATE_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<|system|>",
    "<<SYS>>",
)
# Who may write them: the operator of an application, and whoever sends a prompt in which the template is already applied.
WRITES_TEMPLATES = frozenset(("system", "developer", "prompt"))
_BIDI = ("\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068")
_CONTROL = re.compile("[\x00-\x07\x0b\x0e-\x1f]")
# Tag characters spell hidden ASCII; their one ordinary use is a region's flag: black flag, up to six tags, end tag.
_FLAGS = re.compile("\U0001f3f4[\U000e0030-\U000e007a]{1,6}\U000e007f")
_TAGS = re.compile("[\U000e0020-\U000e007f]")
_FLAG_LENGTH = 8
PIECE = 1 << 20
OVERLAP = 32


def pieces(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The texts in batches of about a million characters, long ones cut with an overlap, so that a caller can breathe."""
    batch: list[tuple[str, str]] = []
    size = 0
    for role, text in texts:
        for at in range(0, max(len(text), 1), PIECE):
            part = text
            if len(text) > PIECE:
                part = text[_before_tags(text, max(0, at - OVERLAP)) : _before_tags(text, at + PIECE)]
            batch.append((role, part))
            size += len(part)
            if size >= PIECE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _before_tags(text: str, at: int) -> int:
    """The place, or the flag that it would cut in two: half a flag looks like hidden text."""
    for _ in range(_FLAG_LENGTH):
        if not "\U000e0020" <= text[at : at + 1] <= "\U000e007f":
            break
        at -= 1
    return at


class Structure:
    """The layer with its acts: feature → off, annotate or block."""

    __slots__ = ("_acts",)

    def __init__(self, acts: Mapping[str, str]) -> None:
        self._acts = {name: acts.get(name, "annotate") for name in FEATURES}

    def suspects(self, body: bytes) -> tuple[str, ...]:
        """Features that may be in a body, judged by its bytes alone; most bodies have none."""
        escaped = b"\\" in body and b"\\u" in body  # one byte is found ten times faster than two
        found = []
        if escaped and b"\\u00" in body:
            found.append("control_character")
        if escaped or (b"<" in body and (b"<|" in body or b"<<SYS" in body)) or b"INST]" in body:
            found.append("template_token")
        if escaped or not body.isascii():
            if escaped or b"\xe2\x80" in body or b"\xe2\x81" in body:
                found.append("bidi_override")
            if escaped or b"\xf3\xa0" in body:
                found.append("hidden_text")
        return tuple(found)

    def look(self, texts: Iterable[tuple[str, str]], suspects: tuple[str, ...]) -> set[str]:
        """The suspected features that are really there."""
        found: set[str] = set()
        for role, text in texts:
            if (
                "template_token" in suspects
                and role not in WRITES_TEMPLATES
                and any(token in text for token in TEMPLATE_TOKENS)
            ):
                found.add("template_token")
            if "control_character" in suspects and _CONTROL.search(text):
                found.add("control_character")
            if "bidi_override" in suspects and not text.isascii() and any(mark in text for mark in _BIDI):
                found.add("bidi_override")
            if (
                "hidden_text" in suspects
                and not text.isascii()
                and _TAGS.search(text)
                and _TAGS.search(_FLAGS.sub("", text))
            ):
                found.add("hidden_text")
        return found

    def judge(self, found: set[str]) -> tuple[str, tuple[str, ...]]:
        """Verdict and findings."""
        seen = tuple(sorted(name for name in found if self._acts[name] != "off"))
        if any(self._acts[name] == "block" for name in seen):
            return "block", seen
        return ("annotate" if seen else "allow"), seen
