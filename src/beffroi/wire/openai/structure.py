# SPDX-License-Identifier: Apache-2.0
"""The shape of a JSON body before it is parsed: depth, number of tokens, one reading of each top-level key.

In: the body's bytes. Out: nothing, or a `BadRequest`. Some engines match JSON keys without case and take the first of
two: a body that two readers can read differently is refused (decision D9). Work is cut in slices: long functions are
generators that yield where the caller may let the event loop turn.
"""

import re
from array import array
from collections.abc import Generator, Iterable, Iterator
from itertools import accumulate

import msgspec

from beffroi.core.errors import BadRequest

POLICED = frozenset(
    "model messages prompt input stream stream_options max_tokens max_completion_tokens n best_of tools tool_choice "
    "functions function_call response_format user dimensions encoding_format stop".split()
)
KNOWN = POLICED | frozenset(
    "temperature top_p presence_penalty frequency_penalty logit_bias logprobs top_logprobs seed parallel_tool_calls "
    "metadata store service_tier reasoning_effort verbosity echo suffix modalities audio prediction top_k min_p "
    "repetition_penalty chat_template_kwargs".split()
)
_SPACED = {name: b'"%b": ' % name.encode() for name in KNOWN}
SLICE = 512 << 10
STEPS_A_TURN = 64 << 10
MAX_FIELDS = 1000
MAX_ESCAPES = 4 << 20  # each takes as long to read as forty bytes of plain text; nobody's context holds as many
MARKS_A_TURN = 10_000
_KEEP = b'[]{},:"'
_DROP = bytes(c for c in range(256) if c not in _KEEP)
_STEP_OF = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # whether the kinds match, the parser sees
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_MARK = re.compile(rb'["\[\]{}:]')
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_STEPS = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}

top_level = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_small(body: bytes, max_depth: int, max_tokens: int) -> bool:
    """True when depth and tokens cannot be over the limits, by the number of opening brackets alone: the common case.

    Deleting a byte that is rare is several times faster than counting it.
    """
    size = len(body)
    return size <= max_tokens and 2 * size - len(body.replace(b"[", b"")) - len(body.replace(b"{", b"")) <= max_depth


def whole(parts: list[bytes], max_depth: int, max_tokens: int) -> Generator[None, None, bytes]:
    """A body out of its parts, once its structure is known to be sound; then its UTF-8. Yields between slices.

    Raises:
        BadRequest: too deep, too many tokens, or not UTF-8.
    """
    if len(parts) != 1 or not is_small(parts[0], max_depth, max_tokens):
        yield from check_structure(parts, max_depth, max_tokens)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(body) > SLICE:
        yield
    if not body.isascii():
        yield from check_utf8(body)
    return body


def check_structure(parts: Iterable[bytes], max_depth: int, max_tokens: int) -> Iterator[None]:
    """Count brackets and separators outside strings, before the parts of a body are put together; yields between slices.

    Raises:
        BadRequest: too deep or too many tokens.
    """
    tokens = quotes = escapes = depth = 0
    for number, piece in enumerate(_slices(parts)):
        if number:
            yield
        if b"\\" in piece:
            escapes += piece.count(b"\\")
            if escapes > MAX_ESCAPES:
                raise BadRequest(f"The body has more than {MAX_ESCAPES:,} backslashes; send less in one request.")
            # Escaped backslashes go, then escaped quotes; below, all that is neither structure nor quote.
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")  # noqa: PLW2901
        strings = piece.translate(None, _DROP).split(b'"')
        plain = b"".join(strings[quotes & 1 :: 2])
        quotes += len(strings) - 1
        tokens += len(plain) - plain.count(b"]") - plain.count(b"}")
        if tokens > max_tokens:
            raise BadRequest(f"The body has more than {max_tokens:,} JSON tokens; send less in one request.")
        if quotes > 2 * tokens + 2:  # before each string but the first stands a bracket, a comma or a colon
            raise BadRequest("The body is not valid JSON: two strings stand side by side.")
        steps = array("b", plain.translate(_STEP_OF, b",:"))
        for first in range(0, len(steps), STEPS_A_TURN):
            if first:
                yield
            depths = list(accumulate(steps[first : first + STEPS_A_TURN], initial=depth))
            depth = depths[-1]
            if max(depths) > max_depth:
                raise BadRequest(f"The body is nested deeper than {max_depth} levels.")


def _slices(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts in slices of about `SLICE`; no escape stands across two of them."""
    gathered, size = [], 0
    for part in parts:
        for at in range(0, len(part), SLICE):
            gathered.append(part if len(part) <= SLICE else part[at : at + SLICE])
            size += len(gathered[-1])
            if size >= SLICE:
                piece = b"".join(gathered)
                ends = len(piece) - len(piece.rstrip(b"\\")) if piece.endswith(b"\\") else 0
                kept = len(piece) - ends % 2  # half an escape waits for its other half
                yield piece[:kept]
                gathered, size = [piece[kept:]], 0
    yield b"".join(gathered)


def check_utf8(body: bytes) -> Iterator[None]:
    """Refuse bytes that are not UTF-8 (RFC 8259 §8.1), also in fields that nobody here reads; yields between slices."""
    at, size = 0, len(body)
    try:
        while at < size:
            end = at + SLICE
            while end < min(size, at + SLICE + 3) and body[end] & 0xC0 == 0x80:  # a character has at most four bytes
                end += 1
            str(body[at:end], "utf-8")
            at = end
            if at < size:
                yield
    except UnicodeDecodeError as why:
        raise BadRequest(f"The body is not UTF-8: byte {at + why.start} cannot be read.") from None


def is_single(body: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """True when the lengths alone show that no top-level key repeats: all bytes of a compact body are accounted for.

    Two spellings are recognised: without blanks, and with one after each separator. There an extra pair could weigh as
    much as the blanks, so each key must also stand where the lengths of those before it put it. Anything else needs
    `check_keys`.
    """
    count = len(fields)
    total = 1 + 4 * count
    for name, raw in fields.items():
        total += len(name) + len(raw)
    if total == len(body):
        return True
    if total != len(body) - 2 * count + 1:
        return False
    at = 1
    for name, raw in fields.items():
        if not body.startswith(_SPACED.get(name) or b'"%b": ' % name.encode(), at):
            return False
        at += len(name) + len(raw) + 6
    return True


def check_case(fields: dict[str, msgspec.Raw]) -> None:
    """Refuse a policed key in another case: `Model`, `ſtream` (some engines fold case as Unicode does)."""
    if fields.keys() <= KNOWN:
        return
    if len(fields) > MAX_FIELDS:
        raise BadRequest(f"The body has more than {MAX_FIELDS:,} fields.")
    for name in fields.keys() - KNOWN:
        folded = name.casefold()
        if folded in POLICED:
            raise BadRequest(
                f"Write the field {folded!r} in lower case; {name[:40]!r} could be read as the same field.",
                param=folded,
            )


def check_keys(body: bytes, fields: dict[str, msgspec.Raw]) -> Generator[None, None, None]:
    """Walk a body, which is valid JSON, and refuse a policed top-level key that repeats; yields now and then.

    The values that the parser found are stepped over whole: only those it has put aside for a later one are walked through.

    Raises:
        BadRequest: a policed key stands there twice.
    """
    seen, last = set[str](), b""
    at = depth = begin = steps = 0
    inside, size, pause = False, len(body), SLICE
    while at < size:
        if inside:
            at = _end(_TEXT.match(body, at, at + SLICE), at)
            if body[at] == 0x22:
                at, inside = at + 1, False
                if depth == 1:
                    last = body[begin:at]
        else:
            found = _MARK.search(body, at, at + SLICE)
            at = _end(found, at + SLICE)
            mark = body[at - 1] if found else 0
            if mark == 0x22:
                begin, inside = at - 1, True
            elif mark == 0x3A and depth == 1:
                name = str(msgspec.json.decode(last))
                if name in seen and name in POLICED:
                    raise BadRequest(f"The field {name!r} stands twice in the body; send it once.", param=name)
                seen.add(name)
                at = _BLANKS.match(body, at, at + SLICE).end()  # type: ignore[union-attr]  # it matches nothing, too
                value = bytes(fields[name])
                if value[0] in b'"[{' and body.startswith(value, at):  # a number may begin as another one does
                    at += len(value)
            elif mark in _STEPS:
                depth += _STEPS[mark]
        steps += 1
        if at > pause or steps == MARKS_A_TURN:
            pause, steps = at + SLICE, 0
            yield


def _end(found: re.Match[bytes] | None, otherwise: int) -> int:
    return found.end() if found else otherwise
