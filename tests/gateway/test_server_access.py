# SPDX-License-Identifier: Apache-2.0
"""Who may ask what: keys, methods, paths and types, on a real socket. What is not listed is refused."""

import pytest

from tests.client import chat, request
from tests.gateway.door import Door, envelope
from tests.gateway.vectors import BODY


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/chat/completions", "POST"),
        ("/completions", "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/models/words", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused_with_those_that_are_allowed(door: Door, path: str, allow: str) -> None:
    """405 and `Allow`, whatever the method is; a preflight needs no key and gets no leave."""
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        if method not in allow:
            answer = door.call(
                method,
                path,
                None,
                key=None if method == "OPTIONS" else "",
                headers=("Origin: https://evil.example", "Access-Control-Request-Method: POST"),
            )
            assert (answer.status, answer.get("allow")) == (405, allow)
            assert envelope(answer.body)["code"] == "method_not_allowed"
            assert not [name for name, _ in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["BREW", "get", "CONNECT", "PRI", "M-SEARCH"])
def test_a_method_that_nobody_knows_is_refused(door: Door, method: str) -> None:
    """400 where it is no method of HTTP, else 404 or 405; never a hang, and the connection is closed or in step."""
    finals, _, _ = door.raw(request(door.key, path="/v1/models", method=method), within=0.5)
    assert len(finals) == 1
    assert finals[0] in (400, 404, 405)


OPEN = {"/livez", "/readyz"}
PATHS = ["/", "/v1", "/v1/", "/v1/models", "/models", "/v1/models/words", "/v1/models/x", "/v1/chat/completions", "/chat/completions", "/v1/completions", "/v1/embeddings",
         "/metrics", "/admin", "/v1/admin/keys", "/api/tags", "/docs", "/openapi.json", "/livez", "/readyz", "/livez/", "/LIVEZ", "//livez", "/v1/livez", "/livez/../v1/models", "/%6civez", "*"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_all_but_health_needs_a_key(door: Door, path: str) -> None:
    """Default deny: without a key every path and method but two gets 401, whether it exists or not; with one, no path serves what it is not."""
    for method in ("GET", "POST", "PUT", "HEAD"):
        answer = door.call(method, path, {} if method in ("POST", "PUT") else None, key=None)
        if path in OPEN:
            assert answer.status == (200 if method in ("GET", "HEAD") else 405)
        else:
            assert answer.status == 401
            assert answer.get("www-authenticate") == 'Bearer realm="beffroi"'


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions%20",
        "/v1/chat%2Fcompletions",
        "/v1/v1/models",
        "/v1/./models",
        "/v2/models",
    ],
)
def test_a_path_has_one_spelling(door: Door, path: str) -> None:
    """No folding of dots, slashes, case or escapes: a rule on a path in front of us cannot be walked around."""
    before = door.reached
    answer = door.call("POST" if "chat" in path else "GET", path, chat() if "chat" in path else None)
    assert (answer.status, envelope(answer.body)["code"]) == (404, "not_found")
    assert door.reached == before


@pytest.mark.parametrize(
    "target",
    [
        "http://beffroi.test/v1/models",
        "HTTP://other.test:80/v1/models?x=1",
        "https://u@h/models",
        "/v1/models?api_key=x&y=%00",
    ],
)
def test_the_absolute_form_and_queries_are_understood(door: Door, target: str) -> None:
    """The path counts, the rest says nothing."""
    assert door.call("GET", target).json["object"] == "list"


WRONG_KEYS = ("bf-wrong", "bf-" + "0" * 51, "sk-" + "a" * 48, "", " ", "x" * 5000)


def test_a_key_is_asked_for_before_the_body(door: Door) -> None:
    """401 as soon as the head is there, whatever the body will be; what was sent is not repeated."""
    for key in WRONG_KEYS:
        head = door.head("Content-Length: 1000000").replace(door.key.encode(), key.encode())
        finals, closed, got = door.raw(head, within=2)
        assert (finals, closed) == ([401], True)
        assert not key.strip() or key.encode() not in got
    before = door.reached
    answer = door.call("POST", "/v1/chat/completions", b"not json", key="bf-wrong")
    assert (answer.status, envelope(answer.body)["type"]) == (401, "authentication_error")
    assert door.reached == before


def test_a_key_counts_only_in_its_header(door: Door) -> None:
    """Not in the query, a cookie, another header or another scheme; the scheme may be written in any case, blanks may follow."""
    for headers in (
        (f"Cookie: key={door.key}",),
        (f"X-Api-Key: {door.key}",),
        (f"Authorization: {door.key}",),
        (f"Authorization: Basic {door.key}",),
        (f"Authorization: Bearer{door.key}",),
    ):
        assert door.call("GET", f"/v1/models?api_key={door.key}", key=None, headers=headers).status == 401
    for value in (f"bearer {door.key}", f"BEARER {door.key}", f"Bearer {door.key} \t", f"Bearer  {door.key}"):
        assert door.call("GET", "/v1/models", key=None, headers=(f"Authorization: {value}",)).status == 200


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonx",
        "",
        "json",
    ],
)
def test_another_type_is_refused(door: Door, kind: str) -> None:
    """415, before the body is read."""
    head = door.head(f"Content-Length: {len(BODY)}").replace(
        b"Content-Type: application/json", f"Content-Type: {kind}".encode()
    )
    finals, _, got = door.raw(head, within=2)
    assert finals == [415]
    assert envelope(got.partition(b"\r\n\r\n")[2])["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "Application/JSON", 'application/json ; charset="utf-8"', "application/json;"],
)
def test_json_by_any_spelling_is_taken(door: Door, kind: str) -> None:
    """Charset, case and blanks do not matter."""
    with door.connect() as conn:
        conn.send(door.head(f"Content-Length: {len(BODY)}").replace(b"application/json", kind.encode()) + BODY)
        assert conn.answer().text == "1 2 3"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_a_compressed_body_is_not_taken(door: Door, coding: str) -> None:
    """So there is no bomb to defuse: 415 before a byte is unpacked."""
    finals, _, _ = door.raw(door.head(f"Content-Encoding: {coding}", f"Content-Length: {len(BODY)}") + BODY, within=0.5)
    assert finals == [415]
