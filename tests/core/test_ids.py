# SPDX-License-Identifier: Apache-2.0
"""Ids are UUIDv7 (RFC 9562), say what they name, sort by time and never repeat."""

import time
import uuid

from beffroi.core.ids import RequestIds, new_id

SECOND = 1_000_000_000


def _uuid(text: str, prefix: str) -> uuid.UUID:
    head, _, digits = text.partition("_")
    assert head == prefix
    assert len(digits) == 32
    return uuid.UUID(digits)


def _millis(each: uuid.UUID) -> int:
    return each.int >> 80


def test_a_new_id_is_a_uuid_of_version_7_with_its_prefix() -> None:
    """Version, variant and time are where the RFC puts them."""
    before = time.time_ns() // 1_000_000
    each = _uuid(new_id("key"), "key")
    assert (each.version, each.variant) == (7, uuid.RFC_4122)
    assert before <= _millis(each) <= time.time_ns() // 1_000_000


def test_request_ids_are_uuids_of_version_7_and_carry_their_time() -> None:
    """At any time, also past the 24-bit counter."""
    ids = RequestIds()
    ids._count = (1 << 24) - 2
    for at in (0, 1_700_000_000 * SECOND, 4_000_000_000 * SECOND):
        each = _uuid(ids.next(at), "req")
        assert (each.version, each.variant) == (7, uuid.RFC_4122)
        assert _millis(each) == at // 1_000_000


def test_ids_of_a_later_millisecond_sort_later() -> None:
    """As text, whoever made them."""
    one, other = RequestIds(), RequestIds()
    at = 1_700_000_000 * SECOND
    assert max(one.next(at), other.next(at)) < min(one.next(at + 1_000_000), other.next(at + 1_000_000))


def test_one_process_never_repeats_an_id_within_a_millisecond() -> None:
    """The counter carries past 24 bits into the next field."""
    ids = RequestIds()
    ids._count = (1 << 24) - 50_000
    made = [ids.next(1) for _ in range(100_000)]
    assert len(set(made)) == len(made)


def test_processes_started_together_do_not_share_ids() -> None:
    """38 random bits apart."""
    heads = {RequestIds().next(0)[20:30] for _ in range(1000)}
    assert len(heads) == 1000
    assert len({new_id("key") for _ in range(10_000)}) == 10_000
