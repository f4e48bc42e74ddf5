# SPDX-License-Identifier: Apache-2.0
"""The shape of a body before it is parsed: depth, tokens, UTF-8, one reading of each policed key."""

import itertools
import json
import random
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beffroi.core.errors import BadRequest
from beffroi.wire.openai import structure
from beffroi.wire.openai.structure import (
    SLICE,
    check_structure,
    check_utf8,
    is_small,
    top_level,
)

DEPTH, TOKENS = 64, 200_000


def shape(body: bytes, depth: int = DEPTH, tokens: int = TOKENS) -> int:
    """Run the check to its end; → how often it let others work."""
    return sum(1 for _ in check_structure([body], depth, tokens))


@pytest.mark.parametrize(("depth", "fits"), [(64, True), (65, False), (10_000, False), (100_000, False)])
@pytest.mark.parametrize("kind", ["lists", "objects", "mixed"])
def test_depth_is_bounded_whatever_is_nested(kind: str, depth: int, fits: bool) -> None:
    """At most 64 levels, of lists, of objects, of both."""
    opening = {"lists": b"[", "objects": b'{"a":', "mixed": b'[{"a":'}[kind]
    closing = {"lists": b"]", "objects": b"}", "mixed": b"}]"}[kind]
    levels = depth // 2 if kind == "mixed" else depth
    if kind == "mixed" and depth % 2:
        body = b"[" + opening * levels + b"1" + closing * levels + b"]"
    else:
        body = opening * levels + b"1" + closing * levels
    if fits:
        shape(body)
    else:
        with pytest.raises(BadRequest, match="deeper than 64"):
            shape(body)


def test_many_shallow_containers_are_not_deep() -> None:
    """A thousand messages one after the other have the depth of one."""
    shape(json.dumps({"messages": [{"role": "user", "content": [{"type": "text"}]}] * 1000}).encode())


def test_brackets_in_strings_do_not_count() -> None:
    r"""Whatever stands in a string is text: brackets, escaped quotes, backslashes before the closing quote."""
    inside = '{[}] " \\ \\" ' * 5000
    body = json.dumps({"a": inside, "b\\": '\\\\"', "c": ["\\"]}).encode()
    assert not is_small(body, DEPTH, 1000)
    shape(body, 3, 20)


def test_brackets_that_do_not_match_are_left_to_the_parser() -> None:
    """It says better where the fault is; counting must only not fall over it."""
    for body in (b'{"a":[1', b"}{", b"[[1]", b'{"a":1}]', b"]" * 1000 + b"[" * 60, b'{"a":[1}'):
        shape(body)
        with pytest.raises(msgspec.MsgspecError):
            top_level(body)


_TEXTS = st.text(st.sampled_from('ab"\\[]{},:\n/é🔔 \t'), max_size=12)
_DOCUMENTS = st.recursive(
    st.none() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def measure(document: object) -> tuple[int, int]:
    """(depth, tokens) by a plain walk."""
    if isinstance(document, dict):
        inner = [measure(value) for value in document.values()]
        return 1 + max((d for d, _ in inner), default=0), 1 + max(0, 2 * len(document) - 1) + sum(t for _, t in inner)
    if isinstance(document, list):
        inner = [measure(value) for value in document]
        return 1 + max((d for d, _ in inner), default=0), 1 + max(0, len(document) - 1) + sum(t for _, t in inner)
    return 0, 0


@settings(max_examples=300, deadline=None)
@given(_DOCUMENTS, st.booleans(), st.sampled_from([None, 1]), st.integers(2, 40))
def test_any_document_is_counted_as_a_plain_walk_counts_it(
    document: object, ascii_only: bool, indent: int | None, size: int
) -> None:
    """Whatever stands in its strings (escapes, quotes, line ends) and wherever a slice is cut: exactly so deep, so many."""
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    depth, tokens = measure(document)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "SLICE", size)
        patch.setattr(structure, "STEPS_A_TURN", size)
        shape(body, depth, tokens)
        if depth:
            with pytest.raises(BadRequest, match="deeper"):
                shape(body, depth - 1, tokens)
            with pytest.raises(BadRequest, match="tokens"):
                shape(body, depth, tokens - 1)


def test_no_more_backslashes_than_any_context_holds() -> None:
    """Each is slow to read: four million, then no more."""
    text = b'{"a":"' + b"\\n" * structure.MAX_ESCAPES
    shape(text + b'"}')
    with pytest.raises(BadRequest, match="4,194,304 backslashes"):
        shape(text + b'\\n"}')


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('ab"\\[{'), max_size=80), st.lists(st.integers(0, 80), max_size=6), st.integers(1, 20))
def test_parts_are_counted_as_their_whole(text: str, cuts: list[int], size: int) -> None:
    """However a body arrived: the same brackets are outside of its strings."""
    body = json.dumps([text, {"a": [text]}]).encode()
    places = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    parts = [body[at:end] for at, end in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "SLICE", size)
        assert b"".join(structure._slices(parts)) == body
        list(check_structure(parts, 3, 5))
        with pytest.raises(BadRequest, match="deeper"):
            list(check_structure(parts, 2, 5))


def test_a_text_may_end_with_a_line_end() -> None:
    r"""A backslash of `\n` before a closing quote does not escape the quote."""
    many = {"messages": [{"role": "user", "content": "line\n"}] * 101}
    body = json.dumps(many).encode()
    assert not is_small(body, DEPTH, TOKENS)
    shape(body)


def test_tokens_are_counted_before_anything_is_parsed() -> None:
    """A million keys, a million numbers or a million empty lists: refused; the bound is in the message."""
    keys = b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}"
    for body in (keys, b"[" + b"1," * 1_000_000 + b"1]", b"[" + b"[]," * 1_000_000 + b"[]]"):
        with pytest.raises(BadRequest, match="200,000"):
            shape(body)
    shape(b"[" + b"1," * (TOKENS - 2) + b"1]")


def test_commas_in_strings_are_no_tokens() -> None:
    """A long text may hold any number of commas and colons."""
    shape(json.dumps({"content": "a,b:c" * 300_000}).encode())


def test_long_bodies_are_checked_in_slices() -> None:
    """Between two slices the caller may let the loop turn; where the cut falls makes no difference."""
    for shift in range(8):
        text = 'é\\"[' * (SLICE // 3) + "x" * shift
        body = json.dumps({"pad": "y" * shift, "content": text}, ensure_ascii=False).encode()
        assert shape(body, 2, 10) == (len(body) - 1) // SLICE
        with pytest.raises(BadRequest):
            shape(body[:-1] + b',"x":' + b"[" * 70 + b"]" * 70 + b"}")


def test_small_means_what_the_long_way_says() -> None:
    """The quick look never lets through what the long way finds too deep or too many."""
    rng = random.Random(7)
    said = set()
    for _ in range(5000):
        body = bytes(rng.choice(b'[[[]]{},:"\\a1 ') for _ in range(rng.randrange(60)))
        if is_small(body, 8, 40):
            try:
                shape(body, 8, 40)
            except BadRequest as why:
                said.add(why.message)  # what the parser would find as well
    assert said <= {
        "The body is not valid JSON: two strings stand side by side.",
    }


def test_bytes_that_are_not_utf8_are_refused_wherever_they_stand() -> None:
    """The message says at which byte; characters cut by a slice are read whole."""
    good = "é€🔔".encode() * (SLICE // 9 + 10)
    for shift in range(4):
        body = b"x" * shift + good
        assert sum(1 for _ in check_utf8(body)) >= 1
    for wrong in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe9llo", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82"):
        for at in (0, 5, SLICE - 1, SLICE, SLICE + 1):
            body = b"a" * at + wrong
            with pytest.raises(BadRequest, match=f"byte {at} "):
                list(check_utf8(body))


def test_a_flood_of_continuation_bytes_does_not_stretch_a_slice() -> None:
    """Looking for the start of a character ends soon: UTF-8 has at most three continuation bytes."""
    body = b"a" * (SLICE - 1) + b"\x80" * 5_000_000
    begin = time.thread_time()
    with pytest.raises(BadRequest, match=f"byte {SLICE - 1} "):
        next(check_utf8(body))
    assert time.thread_time() - begin < 0.05


WORST = {
    "blocks of brackets": (b"[" * 64 + b"]" * 64) * 3000,
    "only quotes": b'"' * 16_000_000,
    "only backslashes": b'"' + b"\\" * 16_000_000 + b'"',
    "escaped quotes": b'"' + b'\\"' * 8_000_000 + b'"',
    "separators in text": b'"' + b",{" * 8_000_000 + b'"',
}


@pytest.mark.parametrize("what", WORST)
def test_no_step_of_the_check_takes_long(what: str) -> None:
    """Whatever the bytes are: 50 ms of CPU between two chances for others, at most."""
    work, longest = check_structure([WORST[what]], DEPTH, TOKENS), 0.0
    ended = False
    while not ended:
        begin = time.thread_time()
        try:
            next(work)
        except (StopIteration, BadRequest):
            ended = True
        longest = max(longest, time.thread_time() - begin)
    assert longest < 0.05
