# SPDX-License-Identifier: Apache-2.0
"""Every error of the tree, as it leaves the house: status, headers, `error{message,type,param,code}`, a string `detail`."""

import json
from collections.abc import Iterator

import pytest

from beffroi.core import errors
from beffroi.core.errors import (
    AuthenticationError,
    BeffroiError,
    EngineRejected,
    InternalError,
    LimitExceeded,
    MethodNotAllowed,
)
from beffroi.wire import http
from beffroi.wire.envelope import HIDDEN, header_lines, openai_body, openai_event, status_of

SAID = 'A sentence with é, "quotes" and \u2028.'


def tree(kind: type[BeffroiError] = BeffroiError) -> Iterator[type[BeffroiError]]:
    """The whole tree."""
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def made(kind: type[BeffroiError]) -> BeffroiError:
    """One of each."""
    if issubclass(kind, MethodNotAllowed):
        return kind(SAID, allow="GET, HEAD")
    if issubclass(kind, LimitExceeded):
        return kind(SAID, limit="requests_per_minute", retry_after=1.2)
    return kind(SAID)


def lines(error: BeffroiError) -> dict[str, str]:
    """Its headers, which must be whole lines."""
    text = header_lines(error).decode("ascii")
    assert text == "" or text.endswith("\r\n")
    return dict(line.split(": ", 1) for line in text.split("\r\n")[:-1])


ALL = sorted(set(tree()), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_its_envelope(kind: type[BeffroiError]) -> None:
    """Four keys inside, null where empty, and `detail` as old clients read it."""
    error = made(kind)
    body = json.loads(openai_body(error))
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    inner = body["error"]
    assert isinstance(inner["message"], str) and inner["message"] == body["detail"]
    assert inner["type"].endswith("_error")
    assert inner["code"] is None or isinstance(inner["code"], str)
    assert inner["param"] is None
    assert inner["message"] == (SAID if kind.exposable else HIDDEN)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_status_that_http_knows(kind: type[BeffroiError]) -> None:
    """With a reason phrase, and `Retry-After` in whole seconds wherever a retry can help."""
    error = made(kind)
    status = status_of(error)
    assert status in http.REASONS
    assert status >= 400
    found = lines(error)
    if kind.retryable:
        assert found["retry-after"].isdigit() and int(found["retry-after"]) >= 1
    else:
        assert "retry-after" not in found
    assert ("allow" in found) == issubclass(kind, MethodNotAllowed)
    assert ("www-authenticate" in found) == issubclass(kind, AuthenticationError) == (status == 401)


@pytest.mark.parametrize(
    ("name", "status", "kind", "code"),
    [
        ("BadRequest", 400, "invalid_request_error", None), ("ProtocolError", 400, "invalid_request_error", "malformed_http"),
        ("HeadTooLarge", 431, "invalid_request_error", "head_too_large"), ("TargetTooLong", 414, "invalid_request_error", "target_too_long"),
        ("BodyTooLarge", 413, "invalid_request_error", "body_too_large"), ("ClientTimeout", 408, "invalid_request_error", "request_timeout"),
        ("UnsupportedMedia", 415, "invalid_request_error", "unsupported_media_type"), ("RouteNotFound", 404, "invalid_request_error", "not_found"),
        ("MethodNotAllowed", 405, "invalid_request_error", "method_not_allowed"), ("ModelNotFound", 404, "invalid_request_error", "model_not_found"),
        ("AuthenticationError", 401, "authentication_error", "invalid_api_key"), ("ModelNotAllowed", 403, "permission_error", "model_not_allowed"),
        ("EndpointNotAllowed", 403, "permission_error", "endpoint_not_allowed"), ("AddressNotAllowed", 403, "permission_error", "address_not_allowed"),
        ("TenantSuspended", 403, "permission_error", "tenant_suspended"),
        ("PromptBlocked", 403, "permission_error", "prompt_blocked"), ("LimitExceeded", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("BudgetExceeded", 429, "rate_limit_error", "insufficient_quota"), ("NoEngine", 503, "service_unavailable_error", "no_engine_available"),
        ("JournalUnavailable", 503, "service_unavailable_error", "journal_unavailable"), ("Draining", 503, "service_unavailable_error", "shutting_down"),
        ("EngineBroken", 502, "server_error", "engine_broken"), ("EngineTimeout", 504, "server_error", "engine_timeout"),
        ("InternalError", 500, "server_error", "internal_error"),
    ],
)  # fmt: skip
def test_what_clients_switch_on_does_not_change(name: str, status: int, kind: str, code: str | None) -> None:
    """Status, type and code are promises: SDKs pick their exception by them."""
    error = made(getattr(errors, name))
    inner = json.loads(openai_body(error))["error"]
    assert (status_of(error), inner["type"], inner["code"]) == (status, kind, code)


def test_an_internal_error_keeps_its_text_inside() -> None:
    """Neither body nor headers nor the event of a stream repeat it."""
    error = InternalError("secret: /srv/beffroi/x.py line 3")
    shown = openai_body(error) + header_lines(error) + openai_event(error, "req_1", "chatcmpl-1", 1, "m")
    assert b"secret" not in shown
    assert b"x-request-id" in shown


@pytest.mark.parametrize(
    ("asked", "said"), [(0.0, "1"), (0.001, "1"), (1.0, "1"), (1.001, "2"), (59.2, "60"), (86400, "86400")]
)
def test_retry_after_is_rounded_up(asked: float, said: str) -> None:
    """A client that waits as long as it is told is served."""
    assert lines(LimitExceeded("x", limit="l", retry_after=asked))["retry-after"] == said


def test_a_limit_per_minute_asks_for_a_minute_at_most() -> None:
    """OpenAI's libraries heed no more than that, and then try again after half a second, in vain."""
    said = [lines(LimitExceeded("x", limit="l", retry_after=asked))["retry-after"] for asked in (60.0, 60.3, 61.2)]
    assert said == ["60", "60", "62"]


def test_an_engines_own_status_is_kept() -> None:
    """Its 422 is a 422."""
    assert status_of(EngineRejected("x", status=422)) == 422


def test_the_event_that_ends_a_stream_is_one_event() -> None:
    """`error{…}` with the request id and `finish_reason: "error"`, in a chunk that clients can read."""
    event = openai_event(errors.EngineBroken(SAID), "req_1", "chatcmpl-1", 7, "words")
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    chunk = json.loads(event[6:])
    assert (chunk["id"], chunk["created"], chunk["model"], chunk["object"]) == (
        "chatcmpl-1",
        7,
        "words",
        "chat.completion.chunk",
    )
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert chunk["error"] == {
        "message": SAID,
        "type": "server_error",
        "param": None,
        "code": "engine_broken",
        "request_id": "req_1",
    }


def test_param_and_message_come_back_as_json_whatever_they_hold() -> None:
    """Quotes, control characters and lines of headers stay inside their strings."""
    hostile = 'x"}\r\nset-cookie: a=1\r\n\x00'
    body = openai_body(errors.BadRequest(hostile, param=hostile))
    assert b"\r" not in body and b"\n" not in body
    assert json.loads(body)["error"]["param"] == hostile
