# SPDX-License-Identifier: Apache-2.0
"""One reading of each policed key: no repeats, no other spelling, in any style of writing."""

import json
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beffroi.core.errors import BadRequest
from beffroi.wire.openai import structure
from beffroi.wire.openai.structure import POLICED, check_case, check_keys, is_single, top_level


def single(body: bytes) -> None:
    """What `read` does about repeated keys: the quick look, and the walk where that does not do."""
    fields = top_level(body)
    check_case(fields)
    if not is_single(body, fields):
        for _ in check_keys(body, fields):
            pass


def repeated(body: bytes) -> set[str]:
    """A plain reading: the top-level keys that stand there more than once."""
    pairs = json.loads(body, object_pairs_hook=lambda found: ("pairs", found))[1]
    names = [name for name, _ in pairs]
    return {name for name in names if names.count(name) > 1}


def test_a_body_has_no_more_fields_than_anybody_needs() -> None:
    """A thousand; each is looked at for its spelling."""
    check_case(top_level(json.dumps({f"k{i}": 1 for i in range(1000)}).encode()))
    with pytest.raises(BadRequest, match="more than 1,000 fields"):
        check_case(top_level(json.dumps({f"k{i}": 1 for i in range(1001)}).encode()))


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


def test_the_walk_over_keys_is_cut_in_slices() -> None:
    """Long strings, many small values and long blanks: each yields before much has been read."""
    for inside in (
        b'"' + b"a" * 8_000_000 + b'"',
        b'"' + rb"\"" * 3_000_000 + b'"',
        b"[" + b"[]," * 90_000 + b"1]",
        b" " * 8_000_000 + b"1",
    ):
        body = b'{ "model" : "m", "x" : ' + inside + b', "y":1, "x" : 2 }'
        assert sum(1 for _ in check_keys(body, top_level(body))) >= 2
        again = body[:-1] + b', "model": 2}'
        with pytest.raises(BadRequest, match="'model' stands twice"):
            list(check_keys(again, top_level(again)))


def test_values_that_the_parser_has_found_are_stepped_over() -> None:
    """Ten megabytes, a hundred thousand lists: one step each; a value that only begins like another is not mistaken for it."""
    big = b'{ "x" : "' + b"a" * 10_000_000 + b'", "y" : [' + b"[]," * 100_000 + b"1]"
    begin = time.thread_time()
    assert len(list(check_keys(big + b"}", top_level(big + b"}")))) <= 2
    assert time.thread_time() - begin < 0.1
    for tail in (
        b', "n" : 12, "n" : 1}',
        b', "n" : 1, "n" : 12}',
        b', "stop" : ["a", "n"], "stop" : ["a"]}',
        b', "n" : "a" , "n" : "a"}',
    ):
        with pytest.raises(BadRequest, match="twice"):
            list(check_keys(big + tail, top_level(big + tail)))


def test_known_names_are_lower_case() -> None:
    """A known name that is not its own folding could never be sent."""
    assert all(name == name.casefold() for name in structure.KNOWN)
