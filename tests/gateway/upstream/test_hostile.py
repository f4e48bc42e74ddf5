# SPDX-License-Identifier: Apache-2.0
"""Engines whose bytes are no HTTP, no stream, or no end: bounded, left for another, never mixed in."""

import pytest

from tests.gateway.rig import LAST, Rig, chunk, head, stream
from tests.gateway.upstream import judge
from tests.gateway.upstream.dialects import vllm
from tests.gateway.upstream.events import TEXT

ROLE, FIRST = vllm().events[:2]


def test_a_read_full_of_comments_is_no_burden() -> None:
    """A hundred thousand of them before the first event."""
    run = Rig().ask()
    run.feed(head(), *[chunk(b":\n\n" * 40_000)] * 3)
    run.feed(*map(chunk, vllm().events), LAST)
    judge.whole(run, vllm(), asked=False)


def test_an_endless_event_is_cut_off_before_it_fills_the_memory() -> None:
    """Ten megabytes in one line: the engine is dropped after one."""
    for before in ([], [ROLE, FIRST]):
        run = Rig().ask()
        run.feed(head(), *map(chunk, before))
        taken = 0
        for _ in range(160):
            if not run.waits:
                break
            run.feed(chunk(b"data: {" + b" " * 65529) if not taken else chunk(b" " * 65536))
            taken += 65536
        assert taken <= 2 << 20
        if before:
            judge.cut(run, "Le")
        else:
            assert run.answer.status == 502


@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", b'{"choices":[]}'), ("text/html", b"<html>"), ("", b"data: {}\n\n")],
)
def test_an_answer_of_the_wrong_kind_is_none(kind: str, body: bytes) -> None:
    """A stream was asked: what is no event stream goes to no client."""
    run = Rig({"e0": "vllm", "e1": "vllm"}).ask()
    run.feed(head(kind=kind, length=len(body)) + body)
    assert run.waits, "another engine is asked"
    run.feed(stream(vllm().events))
    assert judge.text_of(judge.chunks(run)) == TEXT


def test_a_second_answer_that_nobody_asked_for_is_not_mixed_in() -> None:
    """Bytes behind the end of an answer, in the same read: thrown away, and the connection with them."""
    told = vllm()
    for extra in (stream(told.events), b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad", b"garbage\r\n\r\n", b"\r\n"):
        rig = Rig()
        run = rig.ask()
        run.feed(stream(told.events) + extra)
        judge.whole(run, told, asked=False)
        kept = rig.house.endpoints["e0"].idle
        assert not kept or extra == b"\r\n"


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_engine_that_does_not_speak_http_is_left_for_another(bad: bytes) -> None:
    """Before a byte reached the client nothing of it is seen."""
    run = Rig({"e0": "vllm", "e1": "vllm"}).ask()
    run.feed(bad)
    assert run.waits and not run.sent
    run.feed(stream(vllm().events))
    assert judge.text_of(judge.chunks(run)) == TEXT


def test_a_head_without_end_is_cut_off() -> None:
    """Sixty-four kilobytes are enough for any engine's head."""
    run = Rig().ask()
    fed = 0
    while run.waits and fed < 1 << 20:
        run.feed(b"HTTP/1.1 200 OK\r\n" if not fed else b"x-pad: " + b"p" * 9000 + b"\r\n")
        fed += 9000
    assert fed <= 100_000
    assert run.answer.status == 502
