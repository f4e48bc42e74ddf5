# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 answers as bytes: one place that spells heads (RFC 9110, RFC 9112).

In: a status, a media type, headers of ours. Out: bytes ready for a transport. No server name, no version, ever.
"""

import time
from email.utils import formatdate

from beffroi.core.kernel import KERNEL

REASONS: dict[int, bytes] = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
JSON = b"application/json"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def date_line() -> bytes:
    """The Date header of this second (RFC 9110 §6.6.1); callers keep it for a second."""
    return b"date: " + formatdate(time.time(), usegmt=True).encode() + b"\r\n"


def answer(status: int, kind: bytes, request_id: str, extra: bytes, body: bytes) -> bytes:
    """A whole answer, head and body."""
    if KERNEL is not None:
        return KERNEL.plain_head(status, REASONS.get(status, b"Status"), kind, len(body), request_id, extra, body)
    return plain_head(status, kind, len(body), request_id, extra) + body


def plain_head(status: int, kind: bytes, length: int, request_id: str, extra: bytes) -> bytes:
    """Head of an answer with a known length; `extra` is whole header lines, CRLF included."""
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\nx-content-type-options: nosniff\r\n%b\r\n"
        % (
            status,
            REASONS.get(status, b"Status"),
            kind,
            length,
            request_id.encode(),
            extra,
        )
    )


def stream_head(request_id: str, framing: bytes, extra: bytes) -> bytes:
    """Head of an event stream; `framing` is the line that says how its end is found."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
        b"%bx-request-id: %b\r\nx-content-type-options: nosniff\r\n%b\r\n" % (framing, request_id.encode(), extra)
    )
