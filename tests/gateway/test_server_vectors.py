# SPDX-License-Identifier: Apache-2.0
"""A request that two readers could read differently gets one refusal and a close, and no byte of it reaches the engine."""

import time

import pytest

from tests.gateway import vectors
from tests.gateway.door import Door, envelope

REFUSED = [name for name, _ in vectors.refused("k")]
ONCE = [name for name, _ in vectors.once("k")]


def sent(door: Door, data: bytes, cut: int) -> tuple[list[int], bool, bytes]:
    if not cut:
        return door.raw(data, within=3)
    return door.raw(*(data[at : at + cut] for at in range(0, len(data), cut)), within=3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_readers_could_read_differently_is_refused(door: Door, name: str) -> None:
    """In one write, and in pieces of seven bytes: 4xx with the envelope, then the close, and the engine hears nothing."""
    before = door.reached
    data = dict(vectors.refused(door.key))[name]
    for cut in (0, 7) if len(data) < 5000 else (0,):
        finals, closed, got = sent(door, data, cut)
        assert closed, f"{finals}: the connection stays open"
        assert len(finals) == 1
        assert finals[0] in (400, 413, 431, 505), finals
        assert envelope(got.partition(b"\r\n\r\n")[2])["type"] == "invalid_request_error"
        assert b"connection: close\r\n" in got
    assert door.reached == before


@pytest.mark.parametrize("name", ONCE)
def test_what_stands_behind_a_request_is_not_another_one(door: Door, name: str) -> None:
    """One answer; the request that is hidden in the body, or behind the last request of a connection, is not served."""
    before = door.reached
    finals, _, got = door.raw(dict(vectors.once(door.key))[name], within=0.5)
    assert len(finals) == 1, got
    assert door.reached == before


def test_a_head_that_two_line_feeds_would_end_is_no_head(door: Door) -> None:
    """Bare line feeds all through: refused, and nothing is served."""
    before = door.reached
    data = vectors.hidden(door.key)
    head, _, body = data.partition(b"\r\n\r\n")
    finals, closed, _ = door.raw(head.replace(b"\r\n", b"\n") + b"\n\n" + body, within=2)
    assert (finals, closed) == ([400], True)
    assert door.reached == before


def test_after_all_of_them_the_door_serves(door: Door) -> None:
    """No vector has hurt the worker, and none was counted as a request of the key."""
    door.serves()
    time.sleep(0.1)
    assert door.served.metric("beffroi_in_flight") == 0
