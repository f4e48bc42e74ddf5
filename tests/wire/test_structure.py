# SPDX-License-Identifier: Apache-2.0
"""The shape of a body before it is parsed: depth, tokens, UTF-8, one reading of each policed key."""

import json
import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beffroi.core.errors import BadRequest
from beffroi.wire.openai import structure
from beffroi.wire.openai.structure import (
    POLICED,
    SLICE,
    check_case,
    check_keys,
    check_structure,
    check_utf8,
    is_single,
    is_small,
    top_level,
)

DEPTH, TOKENS = 64, 200_000


def shape(body: bytes, depth: int = DEPTH, tokens: int = TOKENS) -> int:
    """Run the check to its end; → how often it let others work."""
    return sum(1 for _ in check_structure(body, depth, tokens))


def single(body: bytes) -> None:
    """What `read` does about repeated keys: the quick look, and the walk where that does not do."""
    fields = top_level(body)
    check_case(fields)
    if not is_single(body, fields):
        for _ in check_keys(body):
            pass


def repeated(body: bytes) -> set[str]:
    """A plain reading: the top-level keys that stand there more than once."""
    pairs = json.loads(body, object_pairs_hook=lambda found: ("pairs", found))[1]
    names = [name for name, _ in pairs]
    return {name for name in names if names.count(name) > 1}


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


def test_brackets_that_do_not_match_are_refused() -> None:
    """A bracket that nothing closes is no reason to go on."""
    for body in (b'{"a":[1', b"}{", b"[[1]", b'{"a":1}]'):
        with pytest.raises(BadRequest):
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
        "The body is nested deeper than 8 levels, or its brackets do not match.",
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


@pytest.mark.parametrize("name", sorted(POLICED))
def test_a_policed_key_stands_once_in_one_spelling(name: str) -> None:
    """Twice, in capitals, or with one letter in another case: refused, and `param` names it."""
    body = b'{"%b": 1, "%b": 1}' % (name.encode(), name.encode())
    with pytest.raises(BadRequest, match="twice") as why:
        single(body)
    assert why.value.param == name
    for spelling in {name.upper(), name.title(), name[:-1] + name[-1].upper()}:
        for text in (b'{"%b":1}', b'{"%b":1,"' + name.encode() + b'":1}'):
            with pytest.raises(BadRequest, match="lower case") as why:
                single(text % spelling.encode())
            assert why.value.param == name


@pytest.mark.parametrize(
    "body",
    [
        rb'{"model":"a","mod\u0065l":"b"}',
        rb'{"\u006dodel":"a","model":"b"}',
        rb'{"model":"a" , "\u006d\u006f\u0064\u0065\u006c":"b"}',
        b'{"model":"a","n":1,\n"model":"b"}',
        b'{ "model" : "a" , "model" : "b" }',
        b'{"messages":[{"model":1}],"model":"a","x":{"model":2},"model":"b"}',
    ],
)
def test_repeated_keys_are_seen_through_escapes_and_blanks(body: bytes) -> None:
    """A JSON reader sees the same name; so do we."""
    with pytest.raises(BadRequest, match="'model' stands twice"):
        single(body)


@pytest.mark.parametrize("name", ["\u017ftream", "ſtop", "max_to\u212aens", "\u017fTREAM_option\u017f"])
def test_letters_that_fold_to_ascii_are_other_cases_too(name: str) -> None:
    """The long s and the Kelvin sign fold to s and k, as Unicode (and some engines) say."""
    with pytest.raises(BadRequest, match="lower case"):
        single(json.dumps({name: 1}).encode())
    with pytest.raises(BadRequest, match="lower case"):
        single(json.dumps({name: 1}, ensure_ascii=False).encode())


def test_repeats_that_hurt_nobody_pass() -> None:
    """Only policed top-level keys are policed: nested ones and fields of engines pass as they came."""
    single(b'{"model":"m","x":1,"x":2,"metadata":{"model":1,"model":2},"messages":[{"stop":1,"STOP":2}]}')
    single(b'{"X_Vendor":1,"x_vendor":2}')


@pytest.mark.parametrize(
    "body",
    [
        # The bytes of the extra pair are as many as the blanks that a body written with blanks would have.
        b'{"n":12,"model":"m","n":1,"x":1,"y":1}',
        b'{"model":"bb","n":1,"a":1,"b":1,"c":1,"d":1,"model":"b","e":1}',
        b'{"n":12,"a":1,"n":1,"b":"\\"","c":3}',
    ],
)
def test_a_repeat_cannot_hide_behind_missing_blanks(body: bytes) -> None:
    """Counting bytes alone would take an extra pair for the blanks of another style of writing."""
    with pytest.raises(BadRequest, match="twice"):
        single(body)


_NAMES = st.sampled_from(["model", "n", "stop", "x", "", "é", "y\u00df", "user", 'q"', "b\\"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(string.printable + "é🔔", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=4,
)
_BLANKS = st.sampled_from([("", ""), (" ", " "), ("", " "), (" ", ""), ("  ", "\n"), ("\t", "\r\n ")])


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(_NAMES, _VALUES, _BLANKS), max_size=9), st.booleans(), _BLANKS)
def test_repeats_are_found_as_a_plain_reading_finds_them(
    members: list[tuple[str, object, tuple[str, str]]], ascii_only: bool, around: tuple[str, str]
) -> None:
    """Any members in any style of writing: refused if and only if a policed name repeats."""
    text = (", " if around[0] else ",").join(
        f"{json.dumps(name, ensure_ascii=ascii_only)}:{blank[0]}{json.dumps(value, ensure_ascii=ascii_only)}{blank[1]}"
        for name, value, blank in members
    )
    body = f"{{{around[1]}{text}}}".encode()
    wrong = repeated(body) & POLICED
    if wrong:
        with pytest.raises(BadRequest, match="twice") as why:
            single(body)
        assert why.value.param in wrong
    else:
        single(body)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(_NAMES, st.integers(0, 10**6)), min_size=2, max_size=9), st.booleans())
def test_the_quick_look_is_never_wrong(members: list[tuple[str, int]], spaced: bool) -> None:
    """`is_single` may ask for the walk too often, never too rarely; what real clients write passes at once."""
    comma, colon = (", ", ": ") if spaced else (",", ":")
    text = comma.join(f"{json.dumps(name, ensure_ascii=False)}{colon}{value}" for name, value in members)
    body = f"{{{text}}}".encode()
    fields = top_level(body)
    if is_single(body, fields):
        assert not repeated(body)
    plain = body.isascii() and b"\\" not in body
    if plain and not repeated(body):
        assert is_single(body, fields)


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
    work, longest = check_structure(WORST[what], DEPTH, TOKENS), 0.0
    ended = False
    while not ended:
        begin = time.thread_time()
        try:
            next(work)
        except (StopIteration, BadRequest):
            ended = True
        longest = max(longest, time.thread_time() - begin)
    assert longest < 0.05


def test_the_walk_over_keys_is_cut_in_slices() -> None:
    """Long strings, many small values and long blanks: each yields before much has been read."""
    for inside in (
        b'"' + b"a" * 8_000_000 + b'"',
        b'"' + rb"\"" * 3_000_000 + b'"',
        b"[" + b"[]," * 90_000 + b"1]",
        b" " * 8_000_000 + b"1",
    ):
        body = b'{ "model" : "m", "x" : ' + inside + b', "y":1 }'
        assert sum(1 for _ in check_keys(body)) >= 2
        with pytest.raises(BadRequest, match="'model' stands twice"):
            list(check_keys(body[:-1] + b', "model": 2}'))


def test_known_names_are_lower_case() -> None:
    """A known name that is not its own folding could never be sent."""
    assert all(name == name.casefold() for name in structure.KNOWN)
