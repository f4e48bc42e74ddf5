# SPDX-License-Identifier: Apache-2.0
"""Requests that one reader may take for two, or for another one: each must be refused, and its connection closed.

In: the head that every vector begins with, and a good request to hide. Out: `REFUSED` (name → bytes) and `ONCE` (name →
bytes): requests that may be served or refused, but must have one answer.
"""

import json
from collections.abc import Iterator

BODY = json.dumps({"model": "words", "messages": [{"role": "user", "content": "count to 3"}]}).encode()
FULL = len(BODY)
SIZED = f"Content-Length: {FULL}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"


def start(key: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    """The lines of a good head, without its end."""
    return f"{method} {path} HTTP/1.1\r\nHost: beffroi.test\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()


def hidden(key: str) -> bytes:
    """What must not be read as a request of its own: it would reach the engine."""
    return start(key) + SIZED.encode() + b"\r\n" + BODY


def chunks(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


# name → (header lines, what follows the head); {hidden} is a whole request, {length} its length
_LENGTHS: dict[str, tuple[str, bytes]] = {
    "both lengths": (SIZED + CHUNKED, chunks(BODY)),
    "both lengths, the other way round": (CHUNKED + "Content-Length: 4\r\n", chunks(BODY)),
    "a length that covers what follows an empty chunked body": (CHUNKED + "Content-Length: {length}\r\n", b"0\r\n\r\n{hidden}"),
    "two lengths that differ": (SIZED + "Content-Length: 5\r\n", BODY + b"{hidden}"),
    "two lengths, one of them zero": ("Content-Length: 0\r\nContent-Length: {length}\r\n", b"{hidden}"),
    "the same length twice": (SIZED + SIZED, BODY),
    "a list of lengths": (f"Content-Length: {FULL}, {FULL + 3}\r\n", BODY + b"{hidden}"),
    "a list of one length": (f"Content-Length: {FULL}, {FULL}\r\n", BODY),
    "a negative length": ("Content-Length: -1\r\n", b"{hidden}"),
    "a length with a sign": (f"Content-Length: +{FULL}\r\n", BODY),
    "a hexadecimal length": (f"Content-Length: 0x{FULL:x}\r\n", BODY),
    "an empty length": ("Content-Length: \r\n", BODY),
    "a length without a value": ("Content-Length:\r\n", BODY),
    "a length with a separator": (f"Content-Length: {FULL // 10}_{FULL % 10}\r\n", BODY),
    "a length with a blank inside": (f"Content-Length: {FULL // 10} {FULL % 10}\r\n", BODY),
    "a length with a point": (f"Content-Length: {FULL}.0\r\n", BODY),
    "a length of thirty digits": (f"Content-Length: {'9' * 30}\r\n", b"{hidden}"),
    "a length of 2^64 and some": (f"Content-Length: {2**64 + FULL}\r\n", BODY),
    "a superscript digit": (f"Content-Length: {FULL}\u00b2\r\n", BODY),
    "an unknown coding": ("Transfer-Encoding: xchunked\r\n", chunks(BODY)),
    "chunked and something else": ("Transfer-Encoding: chunked, identity\r\n", chunks(BODY)),
    "something else and chunked": ("Transfer-Encoding: gzip, chunked\r\n", chunks(BODY)),
    "chunked twice in one line": ("Transfer-Encoding: chunked, chunked\r\n", chunks(BODY)),
    "chunked twice": (CHUNKED + CHUNKED, chunks(BODY)),
    "chunked and cow": (CHUNKED + "Transfer-Encoding: cow\r\n", chunks(BODY)),
    "identity": ("Transfer-Encoding: identity\r\n" + SIZED, BODY),
    "an empty coding": ("Transfer-Encoding: \r\n" + SIZED, BODY),
    "quoted chunked": ('Transfer-Encoding: "chunked"\r\n', chunks(BODY)),
    "chunked with a parameter": ("Transfer-Encoding: chunked;q=1\r\n", chunks(BODY)),
    "a vertical tab before chunked": ("Transfer-Encoding: \x0bchunked\r\n", chunks(BODY)),
    "a NUL after chunked": ("Transfer-Encoding: chunked\x00\r\n", chunks(BODY)),
    "a blank before the colon of the length": (f"Content-Length : {FULL}\r\n", BODY),
    "a tab before the colon of the coding": ("Transfer-Encoding\t: chunked\r\n" + SIZED, BODY),
    "a folded line": ("X-A: b\r\n Transfer-Encoding: chunked\r\n" + SIZED, BODY),
    "a folded coding": ("Transfer-Encoding:\r\n chunked\r\n" + SIZED, BODY),
    "a folded line with a tab": ("X-A: b\r\n\tc\r\n" + SIZED, BODY),
    "a bare CR in a value": ("X-A: b\r" + CHUNKED + SIZED, BODY),
    "a bare CR as a line end": ("X-A: b\rX-C: d\r\n" + SIZED, BODY),
    "a bare LF as a line end": ("X-A: b\n" + SIZED, BODY),
    "a bare LF before the coding": ("X-A: b\n" + CHUNKED + SIZED, BODY),
    "a NUL in a value": ("X-A: b\x00c\r\n" + SIZED, BODY),
    "a control byte in a name": ("X\x01A: b\r\n" + SIZED, BODY),
    "a blank in a name": ("X A: b\r\n" + SIZED, BODY),
    "an empty name": (": b\r\n" + SIZED, BODY),
    "a line without a colon": ("nonsense\r\n" + SIZED, BODY),
    "a letter beyond ASCII in a name": ("X-\u00c4: b\r\n" + SIZED, BODY),
    "a second Host": ("Host: other.test\r\n" + SIZED, BODY),
    "the same Host twice": ("host: beffroi.test\r\n" + SIZED, BODY),
    "two keys": ("Authorization: Bearer other\r\n" + SIZED, BODY),
}  # fmt: skip
_SIZES: dict[str, bytes] = {
    "no digits": b"zz\r\n%b\r\n0\r\n\r\n", "a prefix": b"0x%x\r\n%b\r\n0\r\n\r\n", "a plus": b"+%x\r\n%b\r\n0\r\n\r\n", "a minus": b"-%x\r\n%b\r\n0\r\n\r\n",
    "2^64 and some": b"1%016x\r\n%b\r\n0\r\n\r\n", "twenty digits": b"000000000000000000000000000000000000%xfffffffffffffffff\r\n%b\r\n0\r\n\r\n", "a separator": b"0_%x\r\n%b\r\n0\r\n\r\n",
    "nothing": b"\r\n%b\r\n0\r\n\r\n", "a blank before": b" %x\r\n%b\r\n0\r\n\r\n", "a bare LF": b"%x\n%b\r\n0\r\n\r\n", "a bare CR": b"%x\r%b\r\n0\r\n\r\n", "an extension with a bare LF": b"%x;a\nb\r\n%b\r\n0\r\n\r\n",
    "an extension with a NUL": b"%x;a=\x00\r\n%b\r\n0\r\n\r\n", "more data than it says": b"%x\r\n%bX\r\n0\r\n\r\n", "no CRLF behind the data": b"%x\r\n%bXX0\r\n\r\n", "a bare LF behind the data": b"%x\r\n%b\n0\r\n\r\n",
    "a NUL": b"%x\x00\r\n%b\r\n0\r\n\r\n", "a comma": b"%x,0\r\n%b\r\n0\r\n\r\n", "a bad end": b"%x\r\n%b\r\n0\r\nno trailer\r\n\r\n", "a trailer with a bare LF": b"%x\r\n%b\r\n0\r\nX: y\n\r\n",
    "a trailer with a blank before the colon": b"%x\r\n%b\r\n0\r\nX : y\r\n\r\n",
}  # fmt: skip
_LINES: dict[str, tuple[bytes, bytes]] = {
    "version 2": (b"HTTP/1.1", b"HTTP/2.0"), "version 0.9": (b"HTTP/1.1", b"HTTP/0.9"), "version 1.2": (b"HTTP/1.1", b"HTTP/1.2"), "version 1.1x": (b"HTTP/1.1", b"HTTP/1.1x"), "version 1.10": (b"HTTP/1.1", b"HTTP/1.10"),
    "version 01.1": (b"HTTP/1.1", b"HTTP/01.1"), "no version": (b" HTTP/1.1", b""), "lower case": (b"HTTP/1.1", b"http/1.1"), "tabs": (b" /v1/chat/completions ", b"\t/v1/chat/completions\t"), "a blank in the target": (b"/completions", b"/completions x"),
    "a NUL in the target": (b"/completions", b"/completions\x00"), "a tab in the target": (b"/completions", b"/comp\tletions"), "a line end of LF": (b"HTTP/1.1\r\n", b"HTTP/1.1\n"), "a line end of CR": (b"HTTP/1.1\r\n", b"HTTP/1.1\r"),
    "a strange method": (b"POST", b"P(ST"), "a lower case method": (b"POST", b"post"), "a blank before the first header": (b"\r\nHost", b"\r\n X-A: b\r\nHost"), "no Host": (b"Host: beffroi.test\r\n", b""),
    "an empty Host and a Host": (b"Host:", b"Host:\r\nHost:"), "a blank before the colon of Host": (b"Host:", b"Host :"), "a bare CR before the version": (b" HTTP/1.1", b"\r HTTP/1.1"), "a target with a blank and a version": (b" HTTP/1.1", b" HTTP/1.1 HTTP/1.1"),
}  # fmt: skip


def refused(key: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every vector that must be refused; a hidden request follows each."""
    secret = hidden(key)
    for name, (lines, rest) in _LENGTHS.items():
        filled = rest.replace(b"{hidden}", secret)
        yield (
            name,
            start(key) + lines.replace("{length}", str(len(secret) + 5)).encode("latin-1") + b"\r\n" + filled + secret,
        )
    for name, form in _SIZES.items():
        body = form % ((FULL, BODY) if form.count(b"%") == 2 else (BODY,))
        yield f"a chunk size with {name}", start(key) + CHUNKED.encode() + b"\r\n" + body + secret
    for name, (old, new) in _LINES.items():
        good = start(key) + SIZED.encode() + b"\r\n" + BODY
        assert old in good
        yield f"a first line with {name}", good.replace(old, new, 1) + secret
    yield (
        "chunked in HTTP/1.0",
        start(key).replace(b"1.1", b"1.0", 1) + CHUNKED.encode() + b"\r\n" + chunks(BODY) + secret,
    )
    yield (
        "an extension of 1 MB",
        start(key) + CHUNKED.encode() + b"\r\n%x;%b\r\n%b\r\n0\r\n\r\n" % (FULL, b"a" * 1_000_000, BODY),
    )
    yield (
        "trailers of 1 MB",
        start(key) + CHUNKED.encode() + b"\r\n%x\r\n%b\r\n0\r\n" % (FULL, BODY) + b"X-T: a\r\n" * 125_000 + b"\r\n",
    )
    yield (
        "ten thousand chunks of one byte, each with an extension",
        start(key) + CHUNKED.encode() + b"\r\n" + (b"1;" + b"e" * 200 + b"\r\n \r\n") * 10_000,
    )


def once(key: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of requests whose rest must not be read as another request: one answer, whatever it says."""
    secret = hidden(key)
    length = f"Content-Length: {len(secret)}\r\n\r\n".encode()
    yield "the body of a GET", start(key, "/v1/models", "GET") + length + secret
    yield "the body of a refused key", start("bf-" + "0" * 51) + length + secret
    yield "the body of an unknown path", start(key, "/v1/nope") + length + secret
    yield "the body of a refused method", start(key, method="PUT") + length + secret
    yield "the body of another type", start(key).replace(b"application/json", b"text/plain") + length + secret
    yield "the body of HEAD", start(key, "/livez", "HEAD") + length + secret
    yield "what follows CONNECT", start(key, "beffroi.test:443", "CONNECT") + b"\r\n" + secret
    yield (
        "what follows an offer of another protocol",
        start(key, "/v1/models", "GET") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + secret,
    )
    yield "what follows Connection: close", start(key, "/v1/models", "GET") + b"Connection: close\r\n\r\n" + secret
    yield (
        "what follows HTTP/1.0",
        start(key, "/v1/models", "GET").replace(b"1.1", b"1.0", 1) + b"Connection: keep-alive\r\n\r\n" + secret,
    )
