# SPDX-License-Identifier: Apache-2.0
"""The tests' own HTTP reader is strict: an answer that is not sound is not taken for one."""

import pytest

from tests.client import Broken, Conn, Framing, call, chat, request
from tests.engines.scripted import ScriptedEngine

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n4\r\n x\n\n\r\n0\r\n\r\nHTTP/1.1 404"


def test_an_answer_is_the_same_however_it_is_cut() -> None:
    """Byte by byte or at once; what follows it stays."""
    for size in (1, 3, 1000):
        framing = Framing()
        data = CHUNKED
        while not framing.feed(data[:size]):
            data = data[size:]
        assert framing.answer
        assert framing.answer.events == [b"x"]
        assert bytes(framing.buffer) + data[size:] == b"HTTP/1.1 404"


def test_both_length_headers_are_refused() -> None:
    """A gateway that sends both confuses what stands behind it."""
    with pytest.raises(Broken, match="both length headers"):
        Framing().feed(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("cut", [10, 60, 68])
def test_an_answer_that_ends_too_soon_is_broken(cut: int) -> None:
    """In the head, in a chunk, between chunks."""
    framing = Framing()
    framing.feed(CHUNKED[:cut])
    with pytest.raises(Broken, match="closed before the end"):
        framing.finish()


def test_a_close_ends_an_answer_without_length() -> None:
    """And is told apart from a framed end."""
    framing = Framing()
    framing.feed(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert framing.finish().closed


def test_kept_connections_and_interim_answers() -> None:
    """Two requests on one connection, the first with Expect."""
    with ScriptedEngine() as engine, Conn(("127.0.0.1", engine.port)) as conn:
        whole = request(None, chat("count to 2"), headers=("Expect: 100-continue",))
        cut = whole.index(b"\r\n\r\n") + 4
        conn.send(whole[:cut])
        conn.send(whole[cut:])
        assert conn.answer().text == "1 2"
        conn.send(request(None, chat("count to 3", stream=True)))
        assert conn.answer().text == "1 2 3"
        assert call(("127.0.0.1", engine.port), request(None, None, path="/v1/models", method="GET")).status == 200
