# SPDX-License-Identifier: Apache-2.0
"""Clients that leave, or close only their half, and a process that is asked to stop: nobody is cut who should not be."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from tests.client import Broken, Conn, chat, request
from tests.gateway.door import Door, drain, opened, statuses
from tests.harness import wait_for

LONG = "count to 40"


def begun(door: Door) -> None:
    """Wait until the engine generates."""
    wait_for(lambda: door.engine.stats["open"] >= 1, 5, "the engine has the request")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_half_closed_client_gets_its_answer(door: Door, stream: bool, version: str) -> None:
    """It will ask nothing more, but it listens: the whole answer, and then the close."""
    door.engine.script("gap=0.01")
    data = request(door.key, chat(LONG, stream=stream)).replace(b"HTTP/1.1", b"HTTP/" + version.encode(), 1)
    with door.connect() as conn:
        conn.send(data)
        conn.sock.shutdown(socket.SHUT_WR)
        answer = conn.answer()
        assert answer.text == " ".join(map(str, range(1, 41)))
        assert answer.closed or conn.closed(2)
        if stream:
            assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_half_closed_client_gets_the_answers_of_its_whole_pipeline(door: Door) -> None:
    """All requests were there before the end of its half."""
    with door.connect() as conn:
        conn.send(b"".join(door.chat(f"count to {i}", stream=i % 2 == 0) for i in range(1, 13)))
        conn.sock.shutdown(socket.SHUT_WR)
        for i in range(1, 13):
            assert conn.answer().text == " ".join(map(str, range(1, i + 1)))
        assert conn.closed(2)


def test_half_a_request_and_the_end_is_no_request(door: Door) -> None:
    """Closed, in head or body, and the engine hears nothing."""
    before = door.reached
    data = door.chat()
    for cut in (5, len(data) - 3):
        with door.connect() as conn:
            conn.send(data[:cut])
            conn.sock.shutdown(socket.SHUT_WR)
            _, closed = drain(conn.sock, 2)
            assert closed
    assert door.reached == before


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("fault", ["hang", "gap=0.02", "stall_after=3"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_engine_at_once(door: Door, how: str, fault: str, stream: bool) -> None:
    """By a close or a reset, before the first byte, in the midst of a stream, or in a silence: within 100 ms."""
    if fault == "stall_after=3" and not stream:
        fault = "first=30"
    times = []
    for _ in range(3):
        door.engine.script(fault)
        conn = door.connect()
        conn.send(door.chat(LONG, stream=stream))
        begun(door)
        if stream and fault != "hang":
            conn.answer(until=lambda answer: b"2" in answer.body)
        conn.reset() if how == "reset" else conn.sock.close()
        times.append(wait_for(lambda: door.engine.stats["open"] == 0, 5, "the engine is free"))
    assert sorted(times)[1] <= 0.1
    wait_for(lambda: door.served.metric("beffroi_in_flight") == 0, 3, "nothing is in flight")


def test_a_client_of_http10_that_leaves_a_stream_frees_its_engine(door: Door) -> None:
    """It knows no interim answers, but a stream has its comments."""
    door.engine.script("stall_after=3")
    conn = door.connect()
    conn.send(door.chat(LONG, stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    conn.answer(until=lambda answer: b"2" in answer.body)
    conn.sock.close()
    wait_for(lambda: door.engine.stats["open"] == 0, 1, "the engine is free")


def test_a_client_that_leaves_while_it_waits_in_a_pipeline_takes_all_with_it(door: Door) -> None:
    """What had not begun does not begin."""
    door.engine.script("hang")
    before = door.reached
    conn = door.connect()
    conn.send(door.chat() * 5)
    begun(door)
    conn.reset()
    wait_for(lambda: door.engine.stats["open"] == 0, 5, "the engine is free")
    time.sleep(0.2)
    assert door.reached == before + 1


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(door: Door) -> None:
    """Twenty of them."""
    for place in range(20):
        with door.connect() as conn:
            conn.send(door.chat()[: -1 - place])
            conn.reset()
    wait_for(lambda: door.served.metric("beffroi_in_flight") == 0, 3, "nothing is in flight")
    door.serves()


def refused(address: tuple[str, int]) -> bool:
    """Whether a new connection gets no answer but the door."""
    try:
        with Conn(address, timeout=1) as conn:
            conn.send(request(None, path="/livez", method="GET"))
            return conn.answer().status == 503
    except (OSError, Broken):
        return True


def test_a_process_that_stops_finishes_what_it_began() -> None:
    """SIGTERM: an open stream and a plain answer end whole, idle connections close, new ones are refused, exit status 0."""
    with opened() as door:
        door.engine.always("gap=0.05")
        ended: dict[str, str] = {}

        def ask(name: str, stream: bool) -> None:
            with door.connect(20) as conn:
                conn.send(door.chat(LONG, stream=stream))
                answer = conn.answer()
                ended[name] = answer.text
                assert conn.closed(3)

        threads = [threading.Thread(target=ask, args=(str(stream), stream)) for stream in (True, False)]
        idle, fresh = door.connect(), door.connect()
        idle.send(request(None, path="/livez", method="GET"))
        assert idle.answer("GET").status == 200
        for thread in threads:
            thread.start()
        wait_for(lambda: door.engine.stats["open"] == 2, 5, "both are generated")
        popen = door.served.popen
        assert popen is not None
        begin = time.monotonic()
        popen.send_signal(signal.SIGTERM)
        assert idle.closed(2) and fresh.closed(2)
        idle.sock.close()
        fresh.sock.close()
        wait_for(lambda: refused(door.address), 2, "new connections are refused")
        assert popen.poll() is None, "it did not wait"
        for thread in threads:
            thread.join(10)
        assert ended == {"True": " ".join(map(str, range(1, 41))), "False": " ".join(map(str, range(1, 41)))}
        assert popen.wait(10) == 0
        assert 1 < time.monotonic() - begin < 8
        assert "Traceback" not in door.served.output
        door.served.popen = None


def test_a_request_behind_a_running_one_is_not_begun_by_a_process_that_stops() -> None:
    """Its client may send it again elsewhere: nothing of it has happened."""
    with opened() as door:
        door.engine.always("gap=0.03")
        with door.connect(20) as conn:
            conn.send(door.chat(LONG) + door.chat(LONG))
            begun(door)
            os.kill(door.served.worker_pids[0], signal.SIGTERM)
            time.sleep(0.2)
            assert conn.answer().text.endswith("40")
            assert conn.closed(3)
        assert door.engine.stats["requests"] == 1


def test_a_process_in_a_hurry_cuts_what_runs_and_says_so() -> None:
    """After the time to drain: the stream ends with an event that is an error, the plain answer with 503; both are settled."""
    with opened({"drain_timeout": 0.5}) as door:
        door.engine.always("gap=0.2")
        with door.connect(20) as stream, door.connect(20) as plain:
            stream.send(door.chat(LONG, stream=True))
            plain.send(door.chat(LONG))
            wait_for(lambda: door.engine.stats["open"] == 2, 5, "both are generated")
            stream.answer(until=lambda answer: b"2" in answer.body)
            os.kill(door.served.pid, signal.SIGTERM)
            got, closed = drain(stream.sock, 5)
            assert closed
            assert b'"finish_reason":"error"' in got and b"[DONE]" not in got
            assert b"shutting_down" in got
            got, closed = drain(plain.sock, 5)
            assert closed
            assert statuses(got) == [503]
        wait_for(lambda: door.engine.stats["open"] == 0, 2, "the engine is free")
        popen = door.served.popen
        assert popen is not None
        assert popen.wait(10) == 0
        with contextlib.suppress(AssertionError):
            door.served.stop()
        door.served.popen = None
