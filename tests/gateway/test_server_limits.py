# SPDX-License-Identifier: Apache-2.0
"""Bounds of size and time, each a setting: what is over them gets a clear answer, and nothing waits for ever."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import Conn, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.gateway.door import Door, drain, envelope, opened, statuses
from tests.gateway.inside import FastLoop, inside
from tests.gateway.vectors import BODY
from tests.harness import wait_for

LIMITS = {
    "max_head": 4096,
    "max_headers": 20,
    "max_target": 1000,
    "max_body": 100_000,
    "head_timeout": 2.0,
    "body_timeout": 2.0,
    "keep_alive": 3.0,
}


@pytest.fixture(scope="module")
def strict() -> Iterator[Door]:
    """A worker with tight limits."""
    with opened(LIMITS) as door:
        yield door


def error_of(got: bytes) -> tuple[int, str]:
    final = statuses(got)[-1]
    return final, envelope(got.rpartition(b"\r\n\r\n")[2])["code"]


@pytest.mark.parametrize(
    ("lines", "path", "answer"),
    [
        (["X-Big: " + "a" * 5000], "/v1/models", (431, "head_too_large")),
        ([f"X-{i}: {'v' * 400}" for i in range(10)], "/v1/models", (431, "head_too_large")),
        ([f"X-{i}: v" for i in range(30)], "/v1/models", (431, "head_too_large")),
        (["X-Empty:"] * 25, "/v1/models", (431, "head_too_large")),
        ([], "/v1/models?" + "a" * 1000, (414, "target_too_long")),
        ([], "/" + "a" * 100_000, (414, "target_too_long")),
    ],
)
@pytest.mark.parametrize("cut", [0, 500])
def test_a_head_over_its_bounds_is_refused(
    strict: Door, lines: list[str], path: str, answer: tuple[int, str], cut: int
) -> None:
    """In size, in number of lines, in length of the target; whole or in pieces, and before its end is there."""
    data = strict.head(*lines, path=path, method="GET")
    for sent in (data, data[:-2]) if len(data) > 4200 else (data,):
        pieces = [sent[at : at + cut] for at in range(0, len(sent), cut)] if cut else [sent]
        _, closed, got = strict.raw(*pieces, within=3)
        assert (error_of(got), closed) == (answer, True)


def test_a_head_within_its_bounds_is_served(strict: Door) -> None:
    """A little less of each."""
    sent = strict.head(*(f"X-{i}: {'v' * 180}" for i in range(16)), path="/v1/models?" + "a" * 900, method="GET")
    assert 3800 < len(sent) <= 4096
    with strict.connect() as conn:
        for _ in range(3):
            conn.send(sent)
            assert conn.answer().status == 200


def test_heads_that_follow_each_other_are_measured_apart(strict: Door) -> None:
    """Twenty requests in one write are together larger than one head may be."""
    with strict.connect() as conn:
        conn.send(request(strict.key, path="/v1/models", method="GET", headers=("X-A: " + "a" * 1500,)) * 20)
        assert [conn.answer().status for _ in range(20)] == [200] * 20


def test_a_declared_body_over_the_limit_is_refused_at_once(strict: Door) -> None:
    """413 as soon as the head is there."""
    begin = time.monotonic()
    for path in ("/v1/chat/completions", "/v1/models"):
        _, closed, got = strict.raw(strict.head("Content-Length: 100001", path=path), within=2)
        assert (error_of(got), closed) == ((413, "body_too_large"), True)
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("piece", [65536, 1000])
def test_a_body_that_grows_over_the_limit_is_cut(strict: Door, piece: int) -> None:
    """Chunked, without end: 413 and a close after the limit, not before, and the engine hears nothing."""
    before = strict.reached
    chunk = b"%x\r\n" % piece + b" " * piece + b"\r\n"
    with strict.connect() as conn:
        conn.send(strict.head("Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                conn.send(chunk)
                sent += piece
        assert 100_000 < sent < 50_000_000
        got, closed = drain(conn.sock, 3)
    assert closed
    assert error_of(got) == (413, "body_too_large")
    assert strict.reached == before


def test_a_client_that_sends_all_its_body_first_still_reads_the_refusal(strict: Door) -> None:
    """The connection is not reset under an answer on its way, as long as the rest is not endless."""
    with strict.connect() as conn:
        conn.send(strict.head("Content-Length: 150000") + b" " * 150_000)
        time.sleep(0.2)
        assert conn.answer().status == 413
        assert conn.closed()


def test_a_body_of_exactly_the_limit_is_read(strict: Door) -> None:
    """To the byte."""
    body = BODY + b" " * (100_000 - len(BODY))
    with strict.connect() as conn:
        conn.send(strict.head(f"Content-Length: {len(body)}") + body)
        assert conn.answer().status == 200


def drip(conn: Conn, first: bytes, piece: bytes, every: float = 0.2) -> tuple[bytes, bool, float]:
    """Send a piece now and then until the server answers; → what it said, whether it closed, after how long."""
    begin = time.monotonic()
    conn.send(first)
    while time.monotonic() - begin < 6:
        conn.sock.settimeout(every)
        with contextlib.suppress(TimeoutError, ConnectionError):
            if not conn.sock.recv(1, socket.MSG_PEEK):
                return b"", True, time.monotonic() - begin
            break
        with contextlib.suppress(ConnectionError):
            conn.send(piece)
    took = time.monotonic() - begin
    got, closed = drain(conn.sock, 3)
    return got, closed, took


SLOW = {
    "half a first line": (b"POST /v1/ch", b""),
    "a header now and then": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n", b"X-A: b\r\n"),
    "a byte now and then": (b"GET /", b"a"),
    "a body that does not come": (b"{length}", b""),
    "a body by the byte": (b"{length}", b" "),
    "chunks by the byte": (b"{chunked}", b"1\r\n \r\n"),
    "half a chunk size": (b"{chunked}", b"0"),
}  # fmt: skip


def test_clients_that_drip_are_cut_in_time(strict: Door) -> None:
    """408 within the time-out and the sweep that follows it, and the close; all at once, each for itself."""
    before = strict.reached
    heads = (
        (b"{length}", strict.head("Content-Length: 5000")),
        (b"{chunked}", strict.head("Transfer-Encoding: chunked")),
    )

    def one(name: str) -> tuple[bytes, bool, float]:
        first, piece = SLOW[name]
        for mark, head in heads:
            first = first.replace(mark, head)
        with strict.connect() as conn:
            return drip(conn, first, piece)

    with ThreadPoolExecutor(len(SLOW)) as pool:
        for name, (got, closed, took) in zip(SLOW, pool.map(one, SLOW), strict=True):
            assert (statuses(got), closed) == ([408], True), name
            assert error_of(got) == (408, "request_timeout"), name
            assert 0.9 < took < 4.5, name  # the clock of the sweep is a second coarse
    assert strict.reached == before


def test_silence_is_closed_without_a_word(strict: Door) -> None:
    """Before the first request after the time for a head; after an answer when it has been idle."""
    with strict.connect() as never, strict.connect() as after:
        after.send(strict.chat())
        assert after.answer().status == 200
        begin = time.monotonic()
        assert never.closed(5)
        assert time.monotonic() - begin < 4
        assert after.closed(5)
        assert 1.5 < time.monotonic() - begin < 5


def test_a_slow_body_that_comes_on_is_waited_for(strict: Door) -> None:
    """Longer than the time-out, but never without progress."""
    body = BODY + b" " * 50_000
    with strict.connect() as conn:
        conn.send(strict.head(f"Content-Length: {len(body)}"))
        for at in range(0, len(body), 6000):
            conn.send(body[at : at + 6000])
            time.sleep(0.4)
        assert conn.answer().status == 200


def test_a_reader_that_is_slow_holds_little_and_pauses_its_engine() -> None:
    """At most 256 KB wait in the worker, whatever the engine has; once the client reads again all of it comes, in order."""
    with ScriptedEngine() as engine, inside(engine.url, FastLoop(), write_timeout=30.0) as worker:
        engine.script("tokens=60000")
        conn = slow(worker.address)
        conn.send(request(worker.key, chat("count to 60000", stream=True)))
        connection = worker.connection()
        wait_for(lambda: connection.paused, 10, "the worker pauses")
        most, made = 0, -1
        while made != engine.entries[-1].made:
            made = engine.entries[-1].made
            for _ in range(20):
                most = max(most, worker.ask(connection.transport.get_write_buffer_size))
                time.sleep(0.01)
        assert 0 < most <= 256 << 10
        assert made < 60_000, "the engine was not held back"
        with Conn(worker.address) as other:  # nobody else waits for the slow one
            begin = time.monotonic()
            other.send(request(worker.key, chat("count to 3")))
            assert other.answer().text == "1 2 3"
            assert time.monotonic() - begin < 1
        got = bytearray()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += conn.sock.recv(1 << 20)
        said = b"".join(re.findall(rb'"content":\s*"([^"]*)"', got)).decode()
        assert said == " ".join(map(str, range(1, 60_001)))
        conn.sock.close()


def slow(address: tuple[str, int]) -> Conn:
    """A client whose kernel takes little for it."""
    conn = Conn(address, timeout=20)
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return conn


@pytest.mark.parametrize("comments", [15.0, 0.2])
def test_a_reader_that_has_stopped_is_cut_and_its_engine_freed(comments: float) -> None:
    """After the time-out without a byte of progress; what is written for it meanwhile is none."""
    options = {"write_timeout": 1.0, "comment_interval": comments}
    with ScriptedEngine() as engine, inside(engine.url, FastLoop(), **options) as worker:
        engine.always("tokens=200000")
        conn = slow(worker.address)
        conn.send(request(worker.key, chat("count to 200000", stream=True)))
        wait_for(lambda: engine.stats["open"] == 1, 5, "the engine generates")
        took = wait_for(lambda: engine.stats["open"] == 0, 8, "the engine is freed")
        assert took > 0.9
        assert engine.entries[-1].state == "aborted"
        assert not worker.ask(lambda: worker.worker.connections or worker.worker.house.active)
        conn.sock.close()
