# SPDX-License-Identifier: Apache-2.0
"""Heads of answers: what stands in them, and what never does."""

import re
from email.utils import parsedate_to_datetime

import h11
import pytest

from beffroi.wire import http


def parsed(head: bytes, body: bytes = b"") -> tuple[h11.Response, bytes]:
    """As a strict reader of another house sees an answer."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head + body)
    answer, data = client.next_event(), b""
    assert isinstance(answer, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        data += event.data
    return answer, data


@pytest.mark.parametrize("status", http.REASONS)
def test_a_plain_answer_is_http_of_the_strictest_kind(status: int) -> None:
    """One length, one type, our id, nosniff, the date; no name or version of a server."""
    body = b"" if status == 204 else b'{"a":1}'
    answer, data = parsed(http.plain_head(status, http.JSON, len(body), "req_1", http.date_line()), body)
    names = [name for name, _ in answer.headers]
    assert (answer.status_code, answer.reason, data) == (status, http.REASONS[status], body)
    assert sorted(names) == [b"content-length", b"content-type", b"date", b"x-content-type-options", b"x-request-id"]


def test_the_head_of_a_stream_forbids_caching_and_buffering() -> None:
    """Proxies between must neither keep nor hold back events."""
    answer, data = parsed(
        http.stream_head("req_1", b"transfer-encoding: chunked\r\n", b"x-a: b\r\n"), b"3\r\nabc\r\n0\r\n\r\n"
    )
    headers = dict(answer.headers)
    assert data == b"abc"
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"], headers[b"x-content-type-options"]) == (
        b"no-cache",
        b"no",
        b"nosniff",
    )
    assert (headers[b"x-request-id"], headers[b"x-a"]) == (b"req_1", b"b")
    assert b"content-length" not in headers


def test_a_status_without_a_phrase_is_still_an_answer() -> None:
    """No engine and no later page can make the renderer fail."""
    assert parsed(http.plain_head(418, http.JSON, 0, "req_1", b""))[0].status_code == 418


def test_the_date_is_the_one_of_http() -> None:
    """RFC 9110 §5.6.7: IMF-fixdate, in GMT."""
    line = http.date_line().decode()
    found = re.fullmatch(r"date: ((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)\r\n", line)
    assert found
    assert parsedate_to_datetime(found[1]).tzinfo is not None


@pytest.mark.parametrize("interim", [http.CONTINUE, http.PROCESSING])
def test_interim_answers_are_followed_by_the_answer(interim: bytes) -> None:
    """A strict client reads on after 100 and 102."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(interim + http.plain_head(200, http.JSON, 0, "req_1", b""))
    assert isinstance(client.next_event(), h11.InformationalResponse)
    assert isinstance(client.next_event(), h11.Response)
