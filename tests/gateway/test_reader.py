# SPDX-License-Identifier: Apache-2.0
"""One connection without a socket: order, what waits and how much of it, what ends a connection, what is left behind."""

from typing import Any

import pytest

from beffroi.core.errors import ClientTimeout
from beffroi.core.exchange import Exchange
from beffroi.gateway.sweep import sweep
from tests.fuzz.requests import BODY, CHUNKED, chunks, post, sized
from tests.gateway.line import Line, Slow, bodies, numbered


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """A worker whose rooms take notes."""
    rig = Slow(max_body=100_000, max_head=4096, head_timeout=10.0, body_timeout=30.0, keep_alive=75.0)
    monkeypatch.setattr("beffroi.gateway.server.show", rig.note)
    return rig


@pytest.mark.parametrize("cut", [10**9, 1, 64, 300, 1000])
def test_pipelined_requests_are_answered_in_order_however_they_arrive(rig: Slow, cut: int) -> None:
    """Thirty requests in one read, byte by byte, and cut in between."""
    data = b"".join(numbered(i) for i in range(30))
    line = Line(rig)
    line.send(*(data[at : at + cut] for at in range(0, len(data), cut)))
    assert bodies(rig) == list(range(30))
    assert line.statuses == [200] * 30


@pytest.mark.parametrize("cut", [10**9, 700, 250])
def test_few_requests_wait_parsed_the_rest_waits_as_bytes(rig: Slow, cut: int) -> None:
    """Whatever the cuts: at most eight wait behind the one that is answered, then the client is not read any more."""
    data = b"".join(numbered(i, size=2000) for i in range(100))
    rig.held = True
    line = Line(rig)
    for at in range(0, len(data), cut):
        if line.wire.paused:
            break
        line.send(data[at : at + cut])
    assert line.wire.paused
    assert len(line.client.reader.queue) <= 8
    assert sum(len(part) for x in line.client.reader.queue for part in x.parts) <= 8 * 2100


def test_a_body_behind_a_request_is_not_gathered_while_that_is_answered(rig: Slow) -> None:
    """Otherwise each connection could hold eight bodies of 32 MB for one that is being answered."""
    rig.held = True
    line = Line(rig)
    line.send(numbered(1), numbered(2, size=90_000)[:500])
    for _ in range(20):
        if line.wire.paused:
            break
        line.send(b"x" * 10_000)
    assert line.wire.paused
    assert sum(len(part) for x in line.client.reader.queue for part in x.parts) < 2000


def test_a_request_cut_behind_another_is_completed_in_its_turn(rig: Slow) -> None:
    """Its head came with the one before, its body later, in two pieces; then one more."""
    rig.held = True
    line = Line(rig)
    second, third = numbered(2, size=5000), numbered(3)
    line.send(numbered(1) + second[:400], second[400:3000], second[3000:] + third)
    assert bodies(rig) == [1]
    for _ in range(3):
        line.end()
        rig.loop.turn()
    assert bodies(rig) == [1, 2, 3]
    assert line.statuses == [200] * 3


def test_new_bytes_never_overtake_bytes_that_wait(rig: Slow) -> None:
    """Between the end of an answer and the turn in which the held bytes are read, more may arrive."""
    rig.held = True
    line = Line(rig)
    second, third = numbered(2, size=3000), numbered(3)
    line.send(numbered(1), second[:1000], second[1000:2000])
    line.end()
    line.client.data_received(second[2000:] + third)
    rig.loop.turn()
    rig.release()
    rig.loop.turn()
    rig.release()
    rig.loop.turn()
    assert bodies(rig) == [1, 2, 3]


@pytest.mark.parametrize(
    "first",
    [
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ],
)
def test_nothing_begins_after_the_answer_that_closes(rig: Slow, first: bytes) -> None:
    """What stands behind it is not read as a request."""
    for pieces in ([first + numbered(2)], [first, numbered(2)], [first + numbered(2)[:100], numbered(2)[100:]]):
        rig.seen = []
        line = Line(rig)
        line.send(*pieces)
        assert [seen.path for seen in rig.seen] == ["/livez"]
        assert line.statuses == [200]
        assert line.wire.closed


def test_a_draining_process_begins_nothing_after_the_answer_at_hand(rig: Slow) -> None:
    """Requests behind it in the pipeline are not begun: their client asks another process."""
    rig.held = True
    line = Line(rig)
    line.send(numbered(1) + numbered(2))
    rig.house.draining = True
    line.client.drain()
    line.end()
    rig.loop.turn()
    assert bodies(rig) == [1]
    assert line.wire.closed


@pytest.mark.parametrize("body", [(sized(), BODY), (CHUNKED, chunks(BODY))])
@pytest.mark.parametrize("cut", [10**9, 1, 100])
def test_a_post_that_offers_http2_is_served_with_its_body(rig: Slow, body: tuple[bytes, bytes], cut: int) -> None:
    """Some clients offer h2c on every clear-text request; we speak HTTP/1.1 all the same, and close after the answer."""
    framing, content = body
    data = post(
        framing, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", body=content
    )
    line = Line(rig)
    line.send(*(data[at : at + cut] for at in range(0, len(data), cut)))
    assert [seen.body for seen in rig.seen] == [BODY]
    assert line.statuses == [200]
    assert line.answers[0].get("connection") == "close"
    assert line.wire.closed


def test_behind_an_offer_of_another_protocol_nothing_is_read(rig: Slow) -> None:
    """One answer, then the close: whatever protocol those bytes are in."""
    for framing, content in ((sized(), BODY), (CHUNKED, chunks(BODY))):
        rig.seen = []
        line = Line(rig)
        again = post(framing, b"Connection: Upgrade", b"Upgrade: h2c", body=content)
        line.send(again + again + numbered(3), again)
        assert [seen.body for seen in rig.seen] == [BODY]
        assert line.statuses == [200]


def test_blanks_around_values_are_no_part_of_them(rig: Slow) -> None:
    """RFC 9112 §5: optional white space before and after a value."""
    line = Line(rig)
    line.send(post(b"Content-Length: \t%d \t " % len(BODY)), post(b"Transfer-Encoding: \tchunked ", body=chunks(BODY)))
    assert [seen.body for seen in rig.seen] == [BODY, BODY]


def test_http10_is_answered_once_and_closed(rig: Slow) -> None:
    """Even where it asks to be kept: our answers do not say so in its way."""
    line = Line(rig)
    line.send(post(sized(), b"Connection: keep-alive", version=b"1.0"))
    assert line.statuses == [200]
    assert line.answers[0].get("connection") == "close"
    assert line.wire.closed


def test_a_half_closed_client_gets_all_its_answers_and_then_the_close(rig: Slow) -> None:
    """Also those of requests that waited; the connection is not kept for one who can ask nothing more."""
    rig.held = True
    line = Line(rig)
    line.send(numbered(1), numbered(2), numbered(3))
    assert line.client.eof_received() is True
    for _ in range(3):
        assert not line.wire.closed
        line.end()
        rig.loop.turn()
    assert line.statuses == [200] * 3
    assert line.wire.closed


def test_a_client_that_closes_in_the_middle_of_a_request_is_gone(rig: Slow) -> None:
    """Half a head, half a body, half a request behind another."""
    for sent, seen in (
        (numbered(1)[:20], []),
        (numbered(1, size=500)[:-100], []),
        (numbered(1) + numbered(2)[:50], [1]),
        (numbered(1) + numbered(2, size=50)[:-9], [1]),
        (numbered(1) + numbered(2, size=9000)[:-9], [1]),
    ):
        rig.seen, rig.held, rig.waiting = [], bool(seen), []
        line = Line(rig)
        line.send(sent)
        if line.client.eof_received():
            line.end()
            rig.loop.turn()
            assert line.wire.closed
        line.client.connection_lost(None)
        rig.loop.turn()
        assert bodies(rig) == seen
        assert not rig.house.active and not rig.connections


def test_a_slow_request_behind_a_long_answer_does_not_break_into_it(rig: Slow) -> None:
    """The time-out of a head counts from when its turn comes; its refusal is never written into another answer."""
    rig.held = True
    line = Line(rig)
    line.send(numbered(1), b"GET /v1/mod")
    rig.pass_(40)
    assert line.wire.writes == []
    line.end()
    rig.loop.turn()
    assert line.statuses == [200]
    rig.pass_(12)
    assert line.statuses == [200, 408]
    assert line.wire.closed


def test_what_is_refused_behind_a_request_is_refused_after_it(rig: Slow) -> None:
    """The first is answered, then the refusal, then the close; nothing behind it is read."""
    rig.held = True
    line = Line(rig)
    line.send(numbered(1) + b"GET / HTTP/9.9\r\n\r\n" + numbered(2), numbered(3))
    assert line.wire.writes == []
    line.end()
    rig.loop.turn()
    assert line.statuses == [200, 400]
    assert bodies(rig) == [1]
    assert line.wire.closed


def test_nothing_of_one_request_is_left_for_the_next(rig: Slow) -> None:
    """Key, type, encoding, expectation, address and length are each request's own."""
    seen: list[Exchange] = []
    rig.watch = seen.append
    line = Line(rig)
    line.send(
        post(sized(), b"Content-Encoding: gzip", b"Expect: 100-continue", b"X-Forwarded-For: 192.0.2.7"),
        b"POST /v1/completions HTTP/1.1\r\nHost: h\r\n\r\n",
    )
    first, second = seen
    assert (first.authorization is not None, first.content_type, first.content_encoding, first.content_length) == (
        True,
        b"application/json",
        b"gzip",
        64,
    )
    assert (
        second.authorization,
        second.content_type,
        second.content_encoding,
        second.content_length,
        second.expect,
    ) == (None, b"", b"", None, False)
    assert (second.key, second.body, second.size) == (None, b"", 0)
    assert first.id != second.id


def test_a_time_out_error_reads_like_any_other(rig: Slow) -> None:
    """An idle connection closes without a word, a head that began and does not end gets 408."""
    idle, begun = Line(rig), Line(rig)
    idle.send(numbered(1))
    begun.send(b"POST /v1/chat")
    rig.pass_(12)
    assert (idle.statuses, begun.statuses) == ([200], [ClientTimeout.status])
    assert begun.answers[0].json["error"]["code"] == "request_timeout"
    assert not idle.wire.closed
    rig.pass_(70)
    assert idle.wire.closed
    assert idle.statuses == [200]
    worker: Any = rig
    sweep(worker)
