# SPDX-License-Identifier: Apache-2.0
"""Whose address counts at the control port: that of the connection, or what a proxy of the house says."""

import pytest
from starlette.requests import Request

from beffroi.control.api.door import _networks, caller

PROXIES = ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
    ],
)
def test_what_a_client_writes_changes_nothing(peer: str, forwarded: list[str], counted: str) -> None:
    """Only proxies of the house are believed, each about the hop before it alone."""
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    request = Request({"type": "http", "client": (peer, 1), "headers": headers})
    assert caller(request, _networks(PROXIES)) == counted
