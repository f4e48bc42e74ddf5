# SPDX-License-Identifier: Apache-2.0
"""Records and segment headers as bytes: they come back as they were, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beffroi.control.segments import End, parse
from beffroi.core import segment
from beffroi.core.record import (
    HEADER,
    INTENT,
    MAX_PAYLOAD,
    PROGRESS,
    REFUSALS,
    SETTLEMENT,
    Corrupt,
    Cost,
    Intent,
    Payload,
    Progress,
    Refusals,
    Settlement,
    Tokens,
    decode,
    frame,
    is_attempt,
    reframe,
    scan,
)

whole = st.integers(0, 2**63 - 1)
small = st.integers(0, 2**31)
text = st.text(max_size=40)
tokens = st.builds(Tokens, whole, whole, whole, whole)
costs = st.builds(Cost, whole, whole, whole, whole)
payloads: st.SearchStrategy[tuple[int, Payload]] = st.one_of(
    st.tuples(st.just(INTENT), st.builds(Intent, text, small, whole, text, small, *[text] * 6, small)),
    st.tuples(st.just(PROGRESS), st.builds(Progress, text, small, whole, tokens, costs)),
    st.tuples(
        st.just(SETTLEMENT),
        st.builds(
            Settlement, text, small, whole, whole, text, small, *[text] * 4, st.booleans(), text, text, small,
            st.none() | text, text, text, tokens, text, text, costs, small, st.none() | text, text,
            st.lists(text, max_size=4).map(tuple), whole, whole, whole, whole, text, st.none() | text,
        ),
    ),
    st.tuples(st.just(REFUSALS), st.builds(Refusals, whole, st.dictionaries(text, whole, max_size=5))),
)  # fmt: skip
runs = st.lists(payloads, max_size=8)


def framed(items: list[tuple[int, Payload]], base: int = 1) -> bytes:
    """Records in sequence."""
    return b"".join(frame(kind, number, payload) for number, (kind, payload) in enumerate(items, base))


@given(runs, st.integers(1, 2**62), st.integers(0, 64))
def test_records_come_back_in_order_up_to_the_space_not_written(
    items: list[tuple[int, Payload]], base: int, space: int
) -> None:
    """Both readers agree with the writer, whatever stands in the structs."""
    data = framed(items, base) + bytes(space)
    assert [decode(record) for record in scan(data)] == [payload for _, payload in items]
    part = parse(data, base)
    assert part.payloads == [payload for _, payload in items]
    assert (part.state, part.sequence, part.end) == (End.CLEAN, base + len(items), len(data) - space)


@given(runs.filter(bool), st.data())
def test_a_changed_byte_never_yields_a_record_that_was_not_written(
    items: list[tuple[int, Payload]], data: st.DataObject
) -> None:
    """Records before the change come back; the changed one does not, nor does anything invented."""
    sound = framed(items)
    place = data.draw(st.integers(0, len(sound) - 1))
    value = data.draw(st.integers(1, 255))
    changed = sound[:place] + bytes([sound[place] ^ value]) + sound[place + 1 :]
    part = parse(changed, 1)
    written = [payload for _, payload in items]
    before = sum(len(framed(items[: count + 1])) <= place for count in range(len(items)))
    assert part.payloads == written[:before]


@given(runs.filter(bool), st.data())
def test_a_cut_anywhere_yields_the_records_before_it(items: list[tuple[int, Payload]], data: st.DataObject) -> None:
    """What kill -9 or a power cut leaves is read to the last whole record."""
    sound = framed(items)
    cut = data.draw(st.integers(0, len(sound)))
    whole_records = sum(len(framed(items[: count + 1])) <= cut for count in range(len(items)))
    part = parse(sound[:cut] + bytes(100), 1)
    assert part.payloads == [payload for _, payload in items[:whole_records]]
    assert part.end == len(framed(items[:whole_records]))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_never_crash(data: bytes) -> None:
    """A reader survives whatever stands in a file."""
    parse(data, 1)
    try:
        records = list(scan(data))
    except Corrupt:
        return
    assert all(record.end <= len(data) for record in records)


def test_a_record_out_of_sequence_is_not_taken() -> None:
    """A sound record in the wrong place is damage: something between is missing."""
    refusal = Refusals(1, {})
    part = parse(frame(REFUSALS, 1, refusal) + frame(REFUSALS, 3, refusal), 1)
    assert (len(part.payloads), part.state) == (1, End.BAD)


def test_an_impossible_length_is_refused_before_it_is_believed() -> None:
    """A damaged length must not send the reader over the end, or make it wait for data that will never come."""
    head = HEADER.pack(MAX_PAYLOAD + 1, 0, REFUSALS, 1)
    assert parse(head + bytes(100), 1).state is End.BAD


def test_a_record_can_take_another_place_in_the_sequence() -> None:
    """A settlement that could not be written is written later, under a later number, unchanged."""
    record = frame(REFUSALS, 7, Refusals(1, {"a b": 2}))
    moved = reframe(REFUSALS, 9, record[HEADER.size :])
    assert moved == frame(REFUSALS, 9, Refusals(1, {"a b": 2}))


@given(st.integers(0, 3))
def test_a_settlement_says_whether_an_intent_came_before_it(attempt: int) -> None:
    """Attempt 0 stands alone; its record may be given up when memory runs out, the others' never."""
    settlement = Settlement(
        "req_a", attempt, 0, 0, "k", 0, "o", "p", "m", "chat", False, "e", "vllm", 200, None, "complete", "engine",
        Tokens(), "v", "EUR", Cost(), 1, None, "allow", (), 0, 0, 0, 0, "",
    )  # fmt: skip
    assert is_attempt(frame(SETTLEMENT, 1, settlement)) == (attempt > 0)


@given(st.integers(0, 65535), st.integers(0, 2**128 - 1), st.integers(0, 2**32 - 1), whole, whole)
def test_a_header_comes_back_and_a_changed_one_does_not(
    worker: int, boot: int, number: int, base: int, created: int
) -> None:
    """Readers believe a segment's first bytes only if their checksum holds; zeros mean not begun."""
    header = segment.Header(worker, f"{boot:032x}", number, base, created)
    data = header.pack()
    assert len(data) == segment.SIZE
    assert segment.unpack(data) == header
    assert segment.unpack(bytes(segment.SIZE)) is None
    for place in range(52):
        changed = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        with pytest.raises(segment.BadHeader):
            segment.unpack(changed)


def test_names_of_segments_sort_in_the_order_they_were_written() -> None:
    """And other names are not taken for segments."""
    boot = "ab" * 16
    names = [segment.name(boot, number) for number in (1, 2, 10, 99_999_999)]
    assert names == sorted(names)
    assert segment.parse(names[2]) == (boot, 10)
    assert segment.parse_folder(segment.folder(3)) == 3
    for other in ("x.seg", names[0] + ".new", names[0].upper()):
        assert segment.parse(other) is None
    assert segment.parse_folder("lost+found") is None
