# SPDX-License-Identifier: Apache-2.0
"""Where a client stands behind proxies: believed of those that are configured, of nobody else."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beffroi.gateway.address import SIGNATURE, forwarded, proxy_header
from tests.client import Conn, call, chat, request
from tests.gateway.door import Door, drain, opened, statuses

PROXY = "127.0.0.2"
PROXIES = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


def is_proxy(address: str) -> bool:
    return any(ip_address(address) in network for network in PROXIES)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (",192.0.2.7", "192.0.2.7"),
        (",192.0.2.7, 10.0.0.1", "192.0.2.7"),
        (",203.0.113.9, 192.0.2.7, 10.0.0.1, 10.0.0.2", "192.0.2.7"),
        (",203.0.113.9,,192.0.2.7 ,", "192.0.2.7"),
        (",2001:db8:2::5,2001:db8:1::1", "2001:db8:2::5"),
        (",10.0.0.5", "10.0.0.5"),
        (",192.0.2.7, garbage", "127.0.0.1"),
        (",192.0.2.7, garbage, 10.0.0.1", "10.0.0.1"),
        (",192.0.2.7:4711", "127.0.0.1"),
        (",\xff\x00", "127.0.0.1"),
        (",", "127.0.0.1"),
        (",unknown, _hidden", "127.0.0.1"),
    ],
)
def test_the_last_entry_that_is_no_proxy_of_ours_counts(header: str, address: str) -> None:
    """What stands before it the client may have invented; what cannot be read ends the search."""
    assert forwarded(header.encode("latin-1"), "127.0.0.1", is_proxy) == address


@given(st.binary(max_size=60))
def test_any_header_gives_an_address(header: bytes) -> None:
    """The text of one that can be kept in a record."""
    ip_address(forwarded(header, "127.0.0.1", is_proxy))


def v2(source: str, *, command: int = 1, rest: bytes = b"", version: int = 2) -> bytes:
    """A PROXY v2 header."""
    family, size = (0x11, 4) if "." in source else (0x21, 16)
    packed = ip_address(source).packed
    assert len(packed) == size
    body = packed + packed + (4711).to_bytes(2, "big") + (8400).to_bytes(2, "big") + rest
    return SIGNATURE + bytes((version << 4 | command, family)) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
def test_a_proxy_header_names_the_source(source: str) -> None:
    """Of both families, with further fields or without, and what follows it is left alone."""
    for rest in (b"", b"\x03\x00\x04abcd" * 10):
        header = v2(source, rest=rest)
        assert proxy_header(header + b"GET /") == (source, b"GET /")
        for cut in range(len(header)):
            assert proxy_header(header[:cut]) is None


def test_a_health_check_of_the_proxy_names_nobody() -> None:
    """LOCAL, and families that have no address: the peer is the client."""
    assert proxy_header(v2("192.0.2.7", command=0) + b"x") == (None, b"x")
    assert proxy_header(SIGNATURE + b"\x21\x00\x00\x00x") == (None, b"x")
    assert proxy_header(SIGNATURE + b"\x21\x31\x00\xd8" + b"u" * 216) == (None, b"")
    assert proxy_header(SIGNATURE + b"\x21\x11\x00\x04abcd") == (None, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIX",
        v2("192.0.2.7", version=1),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_proxy_header_is_an_error(data: bytes) -> None:
    """Another protocol, another version, a length without sense; as soon as that can be seen."""
    with pytest.raises(ValueError, match="PROXY"):
        proxy_header(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_wait_or_are_refused(data: bytes) -> None:
    """Nothing else is raised."""
    for prefix in (b"", SIGNATURE, SIGNATURE + b"\x21\x21\x00\x05"):
        try:
            found = proxy_header(prefix + data)
        except ValueError:
            continue
        assert found is None or isinstance(found[1], bytes)


class ProxyConn(Conn):
    """A connection that comes from the proxy."""

    def __init__(self, door: Door) -> None:
        self.sock = socket.create_connection(door.address, timeout=10, source_address=(PROXY, 0))
        self.rest, self.interim = b"", []


def recorded(door: Door, request_id: str | None) -> str:
    """The address in the ledger."""
    assert request_id
    return str(door.served.settled([request_id])[request_id][-1]["address"])


@pytest.fixture(scope="module")
def trusting() -> Iterator[Door]:
    """Loopback is a proxy of ours."""
    with opened({"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}) as door:
        yield door


@pytest.fixture(scope="module")
def proxied() -> Iterator[Door]:
    """127.0.0.2 is a proxy of ours that speaks PROXY v2; whoever comes from 127.0.0.1 does not."""
    with opened({"trusted_proxies": [PROXY], "proxy_protocol": True, "head_timeout": 1.0}) as door:
        yield door


def test_a_trusted_proxy_is_believed_request_by_request(trusting: Door) -> None:
    """On one connection each request has its own client; without the header it is the proxy's own."""
    told = [
        (("X-Forwarded-For: 192.0.2.7",), "192.0.2.7"),
        ((), "127.0.0.1"),
        (("X-Forwarded-For: 203.0.113.9", "x-forwarded-for: 192.0.2.8, 10.0.0.1"), "192.0.2.8"),
    ]
    with trusting.connect() as conn:
        for headers, address in told:
            conn.send(trusting.chat(headers=headers))
            assert recorded(trusting, conn.answer().get("x-request-id")) == address


def test_nobody_else_is_believed(door: Door) -> None:
    """Without configured proxies the header says nothing, and a PROXY header is no request."""
    answer = call(door.address, door.chat(headers=("X-Forwarded-For: 192.0.2.7",)))
    assert recorded(door, answer.get("x-request-id")) == "127.0.0.1"
    finals, closed, _ = door.raw(v2("192.0.2.7") + door.chat(), within=2)
    assert (finals, closed) == ([400], True)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_the_proxy_protocol_names_the_client_of_a_connection(proxied: Door, cut: int) -> None:
    """In one piece or in many; all requests of the connection are that client's, who cannot name another."""
    with ProxyConn(proxied) as conn:
        data = v2("192.0.2.77", rest=b"\x04\x00\x02xy") + proxied.chat(headers=("X-Forwarded-For: 203.0.113.1",))
        for at in range(0, len(data), cut):
            conn.send(data[at : at + cut])
        first = conn.answer()
        conn.send(proxied.chat())
        second = conn.answer()
    assert {recorded(proxied, answer.get("x-request-id")) for answer in (first, second)} == {"192.0.2.77"}


def test_a_proxy_that_does_not_say_who_is_refused(proxied: Door) -> None:
    """A plain request, a broken header: 400 and a close; a header that does not come: the close in time."""
    before = proxied.reached
    for data in (
        request(proxied.key, chat()),
        b"\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c" + b"x" * 12 + request(proxied.key, chat()),
    ):
        with ProxyConn(proxied) as conn:
            conn.send(data)
            got, closed = drain(conn.sock, 2)
        assert (statuses(got), closed) == ([400], True)
        assert b"PROXY" in got
    with ProxyConn(proxied) as conn:
        conn.send(SIGNATURE[:5])
        got, closed = drain(conn.sock, 4)
        assert (statuses(got), closed) == ([], True)
    assert proxied.reached == before


def test_the_header_of_one_connection_is_not_that_of_the_next(proxied: Door) -> None:
    """Each names its own client, both families."""
    for source in ("192.0.2.1", "2001:db8::1", "192.0.2.2"):
        with ProxyConn(proxied) as conn:
            conn.send(v2(source) + proxied.chat())
            assert recorded(proxied, conn.answer().get("x-request-id")) == source
    with ProxyConn(proxied) as conn:
        conn.send(v2("192.0.2.9", command=0) + proxied.chat())
        assert recorded(proxied, conn.answer().get("x-request-id")) == PROXY


def test_who_is_no_proxy_speaks_for_itself(proxied: Door) -> None:
    """Straight from another address: plain HTTP is served, a PROXY header is no request."""
    answer = call(proxied.address, proxied.chat(headers=("X-Forwarded-For: 192.0.2.7",)))
    assert recorded(proxied, answer.get("x-request-id")) == "127.0.0.1"
    finals, closed, _ = proxied.raw(v2("192.0.2.7") + proxied.chat(), within=2)
    assert (finals, closed) == ([400], True)
