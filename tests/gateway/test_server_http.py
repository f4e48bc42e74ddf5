# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 as clients speak it, on a real socket: framing, pipelining, methods, paths, and what is refused when."""

import json
import random

import pytest

from tests.client import Conn, chat, request
from tests.gateway.door import Door, statuses
from tests.gateway.vectors import BODY, chunks


def test_a_connection_carries_many_requests_and_errors_between_them(door: Door) -> None:
    """An error that leaves the connection in step does not end it."""
    bad = request(door.key, chat(model="nobody"))
    wrong = request(door.key, {"model": "words", "messages": []})
    with door.connect() as conn:
        for data, status in (
            (door.chat(), 200),
            (bad, 404),
            (door.chat(stream=True), 200),
            (wrong, 400),
            (request(door.key, path="/v1/nope", method="GET"), 404),
            (door.chat(), 200),
        ):
            conn.send(data)
            answer = conn.answer()
            assert answer.status == status
            assert answer.get("connection") is None
            assert conn.rest == b""


@pytest.mark.parametrize("stream", [False, True])
def test_thirty_requests_in_one_write_are_answered_in_order(door: Door, stream: bool) -> None:
    """More than may wait: the others wait as bytes. Each answer is the one of its request."""
    with door.connect() as conn:
        conn.send(b"".join(door.chat(f"count to {i}", stream=stream) for i in range(1, 31)))
        answers = [conn.answer() for _ in range(30)]
    assert [answer.text for answer in answers] == [" ".join(map(str, range(1, i + 1))) for i in range(1, 31)]
    assert len({answer.get("x-request-id") for answer in answers}) == 30


def test_pages_and_refusals_stand_in_the_same_row(door: Door) -> None:
    """What needs no engine does not overtake what does."""
    ask = (
        request(door.key, path="/v1/models", method="GET")
        + door.chat()
        + request(None, path="/livez", method="GET")
        + request(door.key, path="/x", method="GET")
    )
    with door.connect() as conn:
        conn.send(ask * 3)
        assert [conn.answer().status for _ in range(12)] == [200, 200, 200, 404] * 3


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_a_request_may_arrive_in_pieces_of_any_size(door: Door, size: int) -> None:
    """Byte by byte too."""
    data = door.chat()
    with door.connect() as conn:
        for at in range(0, len(data), size):
            conn.send(data[at : at + size])
        assert conn.answer().text == "1 2 3"


def test_a_large_request_in_pieces_arrives_whole(door: Door) -> None:
    """Six megabytes of text reach the engine byte for byte."""
    text = "".join(random.Random(1).choices("abcdefgh \u00e9\u20ac", k=2_000_000)) * 2
    door.engine.requests.clear()
    with door.connect(30) as conn:
        data = request(door.key, json.dumps(chat(text), ensure_ascii=False).encode())
        for at in range(0, len(data), 100_000):
            conn.send(data[at : at + 100_000])
        assert conn.answer().status == 200
    assert door.engine.generations()[-1].json["messages"][0]["content"] == text


def test_expect_gets_a_word_first(door: Door) -> None:
    """100 Continue once the key is known, then the answer to the body."""
    with door.connect() as conn:
        conn.send(door.head(f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        conn.sock.settimeout(2)
        assert conn.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        conn.send(BODY)
        assert conn.answer().text == "1 2 3"


def test_expect_is_not_answered_where_the_answer_is_known(door: Door) -> None:
    """A wrong key, a wrong type, a body too large: the final answer at once. HTTP/1.0 knows no interim answers."""
    expects = (f"Content-Length: {len(BODY)}", "Expect: 100-continue")
    for head, status in (
        (door.head(*expects).replace(door.key.encode(), b"bf-wrong"), 401),
        (door.head(*expects).replace(b"application/json", b"text/plain"), 415),
        (door.head("Content-Length: 99999999999", "Expect: 100-continue"), 413),
        (door.head(*expects, path="/v1/nope"), 404),
    ):
        finals, closed, got = door.raw(head, within=2)
        assert (finals, closed) == ([status], True)
        assert 100 not in statuses(got)
    finals, closed, got = door.raw(door.head(*expects, version="1.0") + BODY, within=2)
    assert (statuses(got), closed) == ([200], True)


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(
    ("extension", "trailers"),
    [
        (b"", b""),
        (b";a=b", b"X-Check: 1\r\n"),
        (b';a="q;x"', b"Authorization: Bearer x\r\nContent-Type: text/plain\r\n"),
    ],
)
def test_a_chunked_body_is_read_and_its_trailers_say_nothing(
    door: Door, size: int, extension: bytes, trailers: bytes
) -> None:
    """Chunks of any size; extensions are skipped; a trailer changes neither length nor key."""
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    body = (
        b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"
    )
    with door.connect() as conn:
        for _ in range(2):
            conn.send(door.head("Transfer-Encoding: chunked") + body)
            assert conn.answer().text == "1 2 3"
        assert conn.rest == b""


def test_the_engine_gets_framing_and_headers_of_our_own(door: Door) -> None:
    """Whatever the client's framing was: one length, our id, no key, no cookie, no header of the client."""
    door.engine.requests.clear()
    with door.connect() as conn:
        conn.send(
            door.head(
                "Transfer-Encoding: chunked",
                "Cookie: a=b",
                "X-Secret: y",
                "X-Request-Id: theirs",
                "X-Forwarded-For: 192.0.2.1",
            )
            + chunks(BODY)
        )
        answer = conn.answer()
    received = door.engine.generations()[-1]
    names = sorted(name.lower() for name, _ in received.headers)
    assert names == ["accept", "content-length", "content-type", "host", "x-request-id"]
    assert received.body == BODY
    assert received.get("x-request-id") == answer.get("x-request-id") != "theirs"
    assert door.key.encode() not in received.head


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", [(), ("Connection: keep-alive",)])
def test_http10_gets_a_body_that_ends_with_the_connection(door: Door, stream: bool, more: tuple[str, ...]) -> None:
    """No chunks, no interim answer, and the close."""
    body = json.dumps(chat("count to 3", stream=stream)).encode()
    with door.connect() as conn:
        conn.send(
            door.head(f"Content-Length: {len(body)}", *more, version="1.0").replace(b"Host: beffroi.test\r\n", b"")
            + body
        )
        answer = conn.answer()
        assert (answer.status, answer.text) == (200, "1 2 3")
        assert answer.get("transfer-encoding") is None
        assert answer.get("connection") == "close"
        if stream:
            assert answer.closed and answer.body.endswith(b"data: [DONE]\n\n")
        else:
            assert conn.closed()


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/words", "/livez", "/readyz"])
def test_head_is_get_without_a_body(door: Door, path: str) -> None:
    """The same headers, no byte more; the connection stays in step."""
    got = door.call("GET", path)
    with door.connect() as conn:
        for _ in range(2):
            conn.send(request(door.key, path=path, method="HEAD"))
            answer = conn.answer("HEAD")
            assert (answer.status, answer.get("content-length"), answer.get("content-type")) == (
                200,
                got.get("content-length"),
                "application/json",
            )
            assert conn.rest == b""
        conn.send(request(door.key, path="/x", method="HEAD"))
        assert conn.answer("HEAD").status == 404
        conn.send(door.chat())
        assert conn.answer().text == "1 2 3"


def test_nothing_of_one_request_is_there_in_the_next(door: Door) -> None:
    """Key, type, body and id of the first are not those of the second on the same connection."""
    with door.connect() as conn:
        conn.send(door.chat("count to 4"))
        first = conn.answer()
        conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
        second = conn.answer()
        assert (first.text, second.status) == ("1 2 3 4", 401)
        assert first.get("x-request-id") != second.get("x-request-id")


def test_every_answer_says_who_and_when_and_nothing_of_its_server(door: Door) -> None:
    """An id of ours, the date, nosniff; no name, no version, whatever was asked."""
    asked = [
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", chat()),
        ("POST", "/v1/chat/completions", chat(stream=True)),
        ("GET", "/x", None),
        ("POST", "/v1/chat/completions", b"{"),
    ]
    for method, path, body in asked:
        answer = door.call(method, path, body, headers=("X-Request-Id: <script>",))
        names = [name for name, _ in answer.headers]
        assert len(names) == len(set(names))
        assert {"x-request-id", "date", "x-content-type-options", "content-type"} <= set(names)
        assert not {"server", "x-powered-by", "via"} & set(names)
        assert (answer.get("x-request-id") or "").startswith("req_")


def test_an_empty_line_before_a_request_is_overlooked(door: Door) -> None:
    """RFC 9112 §2.2: old clients send one too many after a body."""
    with Conn(door.address) as conn:
        conn.send(b"\r\n" + door.chat() + b"\r\n" + door.chat())
        assert [conn.answer().status for _ in range(2)] == [200, 200]
