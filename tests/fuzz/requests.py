# SPDX-License-Identifier: Apache-2.0
"""Requests that are almost right: sound ones, changed a little, with everything that makes two readers disagree.

In: a seeded generator. Out: the bytes of one connection, and the pieces in which they arrive.
"""

import random
from collections.abc import Callable

KEY = b"bf-000000000000-" + b"0" * 38
BODY = b'{"model":"words","messages":[{"role":"user","content":"hello"}]}'
HIDDEN = b"GET /v1/models?hidden=1 HTTP/1.1\r\nHost: h\r\n\r\n"


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/v1/chat/completions", version: bytes = b"1.1") -> bytes:
    """A POST with the usual headers first."""
    lines = [
        b"POST " + path + b" HTTP/" + version,
        b"Host: beffroi.test",
        b"Authorization: Bearer " + KEY,
        b"Content-Type: application/json",
    ]
    return b"\r\n".join([*lines, *headers, b"", b""]) + body


def sized(body: bytes = BODY) -> bytes:
    return b"Content-Length: %d" % len(body)


def chunks(body: bytes, size: int = 20, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A chunked body."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailers + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
SOUND = (
    post(sized()),
    post(sized(), b"X-Request-Id: abc", b"Accept: */*", b"User-Agent: a/1 (b; c)"),
    post(CHUNKED, body=chunks(BODY)),
    post(CHUNKED, body=chunks(BODY, 7, b";a=b", b"X-Trailer: 1\r\n")),
    post(sized(), b"Expect: 100-continue"),
    post(sized(), version=b"1.0"),
    post(sized(), b"Connection: keep-alive", version=b"1.0"),
    post(sized(), b"Connection: close"),
    post(sized(), b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    post(CHUNKED, b"Connection: Upgrade", b"Upgrade: h2c", body=chunks(BODY)),
    post(sized(b""), body=b""),
    post(sized(), path=b"http://beffroi.test/v1/chat/completions"),
    post(sized(), path=b"/v1/completions?x=1&y=%20"),
    b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /livez HTTP/1.1\r\nhost: h\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\nGET /readyz HTTP/1.1\r\nHost:h\r\nX-Empty:\r\nX-Space: a b \t\r\n\r\n",
    b"DELETE /v1/models/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /v1/models HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
)
HEADERS = (
    b"Content-Length: 5", b"Content-Length: 0", b"content-length:64", b"Content-Length: 64, 64", b"Content-Length: +64", b"Content-Length: 0x40",
    b"Content-Length: 6_4", b"Content-Length: -1", b"Content-Length: 64 ", b"Content-Length: ", b"Content-Length: 18446744073709551680", b"Content-Length: 064",
    b"Content-Length : 5", b" Content-Length: 5", b"Content-Length\t: 5", b"Content_Length: 5", b"Content-Length:\x0b5", b"Content-Length: 5\x00",
    CHUNKED, b"Transfer-Encoding: Chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: chunked ", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked;a=b",
    b'Transfer-Encoding: "chunked"', b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\r\n : chunked", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: ", b"Transfer-Encoding: ,chunked", b"X: y\rTransfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"Host: other", b"Host:", b"Host : h", b"host: h\r\nHost: h", b"Authorization: Bearer x", b"Connection: close", b"Connection: keep-alive, close",
    b"Connection: Transfer-Encoding", b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: nothing", b"X-A: b\r\n folded", b"X-A: b\x00c", b"X\x01: a", b": empty", b"NoColon",
    b"X-High: \xff\xfe", b"X-Del: \x7f", b"X-Tab:\ta\tb\t", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"Trailer: Content-Length", b"TE: trailers", b"X" * 300 + b": y",
)  # fmt: skip
SIZES = (
    b"0x5",
    b"+5",
    b"-5",
    b"5 ",
    b" 5",
    b"05",
    b"5;",
    b"5;a",
    b'5;a="\r\n"',
    b"5;a\n",
    b"5\n",
    b"",
    b"g",
    b"fffffffffffffffff",
    b"1000000000000000f",
    b"5_0",
    b"5\t",
    b"5\x00",
    b"5,5",
)
BYTES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"/",
    b"?",
    b"#",
    b"%",
    b"\\",
    b'"',
    b"\xc2\xa0",
)
VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"HTTP/1.10",
    b"HTTP/01.1",
    b"http/1.1",
    b"HTTP /1.1",
    b"HTTP/1,1",
    b"HTTP/1.1 ",
    b"HTTP/1.1x",
    b"",
    b"ICE/1.0",
    b"RTSP/1.0",
)
METHODS = (
    b"GET",
    b"get",
    b"PUT",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PRI",
    b"BREW",
    b"GE T",
    b"GET\t",
    b"M-SEARCH",
    b"SOURCE",
    b"P\x00ST",
    b"DESCRIBE",
    b"QUERY",
)
TARGETS = (
    b"*", b"/", b"//", b"/a b", b"/a\tb", b"/\x80", b"/%00", b"/#f", b"?x", b"a", b"http://h", b"http://h?x", b"HTTPS://h:1/v1/models", b"http://u:p@h/v1/models", b"//h/v1/models", b"/v1/../v1/models",
    b"http:/v1/models", b"ftp://h/x", b"/v1/models\x00", b"h:443", b"",
)  # fmt: skip


def _line(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Where a line of the head begins and ends."""
    head = max(data.find(b"\r\n\r\n"), 0)
    starts = [0] + [at + 2 for at in range(head) if data.startswith(b"\r\n", at)]
    begin = rng.choice(starts)
    end = data.find(b"\r\n", begin)
    return begin, end if end >= 0 else len(data)


def _byte(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(BYTES) + data[at + rng.choice((0, 0, 1, 2)) :]


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 9) :]


def _header(data: bytes, rng: random.Random) -> bytes:
    at = data.find(b"\r\n\r\n") if rng.random() < 0.5 else data.find(b"\r\n")
    return data[:at] + b"\r\n" + rng.choice(HEADERS) + data[at:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    """A header in the place of another."""
    begin, end = _line(data, rng)
    return data if begin == 0 else data[:begin] + rng.choice(HEADERS) + data[end:]


def _twice(data: bytes, rng: random.Random) -> bytes:
    begin, end = _line(data, rng)
    return data[:end] + b"\r\n" + data[begin:end] + data[end:]


def _ends(data: bytes, rng: random.Random) -> bytes:
    """Another line end in one place, or in all of the head."""
    other = rng.choice((b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\r\n ", b"\r\n\t"))
    head = data.find(b"\r\n\r\n") + 4
    if rng.random() < 0.2:
        return data[:head].replace(b"\r\n", other) + data[head:]
    places = [at for at in range(len(data)) if data.startswith(b"\r\n", at)]
    at = rng.choice(places or [0])
    return data[:at] + other + data[at + 2 :]


def _size(data: bytes, rng: random.Random) -> bytes:
    """Another way to write the size of a chunk, or more of them."""
    head = data.find(b"\r\n\r\n") + 4
    end = data.find(b"\r\n", head)
    if CHUNKED not in data or end < 0:
        return _header(data, rng)
    return data[:head] + rng.choice(SIZES) + data[end if rng.random() < 0.7 else end + 2 :]


def _first(data: bytes, rng: random.Random) -> bytes:
    """Another method, target or version."""
    end = data.find(b"\r\n")
    parts = data[:end].split(b" ")
    if len(parts) != 3:
        return _byte(data, rng)
    place = rng.randrange(3)
    parts[place] = rng.choice((METHODS, TARGETS, VERSIONS)[place])
    return rng.choice((b" ", b" ", b" ", b"  ", b"\t")).join(parts) + data[end:]


def _behind(data: bytes, rng: random.Random) -> bytes:
    """Something behind the request: another one, rubbish, an empty line."""
    return data + rng.choice(
        (HIDDEN, HIDDEN, rng.choice(SOUND), b"\r\n", b"\r\n\r\n", b"X", b"0\r\n\r\n", b"G", b"\x00" * 4)
    )


def _inside(data: bytes, rng: random.Random) -> bytes:
    """A request in the place of the body."""
    head = data.find(b"\r\n\r\n") + 4
    return data[:head] + rng.choice((HIDDEN, chunks(HIDDEN, 1000), b"0\r\n\r\n" + HIDDEN)) + data[head:]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _byte,
    _byte,
    _flip,
    _cut,
    _header,
    _header,
    _swap,
    _twice,
    _ends,
    _size,
    _first,
    _behind,
    _inside,
)


def connection(rng: random.Random) -> bytes:
    """All bytes of a connection: one to three requests, up to three changes."""
    data = b"".join(rng.choice(SOUND) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        data = rng.choice(CHANGES)(data, rng) or b"\r\n"
    return data


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """The reads in which it arrives: whole, byte by byte, or cut anywhere."""
    how = rng.random()
    if how < 0.4:
        return [data]
    if how < 0.5:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
    return [piece for at, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if (piece := data[at:end])]
