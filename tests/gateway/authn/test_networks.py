# SPDX-License-Identifier: Apache-2.0
"""Networks of a key, compiled: who is in, who is out, and what cannot be read is out."""

import random
from ipaddress import ip_address, ip_network

import pytest

from beffroi.gateway.authn.networks import Networks


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (("10.0.0.0/8",), "10.255.255.255", True),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.7/32",), "192.0.2.8", False),
        (("0.0.0.0/0",), "203.0.113.9", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("2001:db8::/32",), "2001:db8:ffff::1", True),
        (("2001:db8::/32",), "2001:db9::1", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), "::ffff:0a01:0203", True),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "11.1.2.3", False),
        (("::/0",), "10.1.2.3", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24"), "198.51.100.77", True),
        (("no network", "10.0.0.0/8"), "10.0.0.1", True),
        (("no network",), "10.0.0.1", False),
        ((), "10.0.0.1", False),
    ],
)
def test_an_address_is_in_or_out(networks: tuple[str, ...], address: str, inside: bool) -> None:
    """IPv4, IPv6, IPv4 in the clothes of IPv6; a network that cannot be read lets nobody in."""
    assert (address in Networks(networks)) is inside


@pytest.mark.parametrize(
    "address", ["", "unix", "10.0.0", "10.0.0.1 ", "10.0.0.1\x00", "010.0.0.1", "1::2::3", "[::1]"]
)
def test_what_is_no_address_is_outside_of_everything(address: str) -> None:
    """The list keeps people out: it does not guess."""
    assert address not in Networks(("0.0.0.0/0", "::/0"))


def test_it_agrees_with_the_standard_library() -> None:
    """Over networks and addresses drawn at random, of both families."""
    draw = random.Random(7)
    for _ in range(2_000):
        bits = draw.choice((32, 128))
        number = draw.getrandbits(bits) | (1 << 127 if bits == 128 else 0)  # clear of the mapped range
        network = ip_network((number, draw.randint(1, bits)), strict=False)
        near = int(network.network_address) ^ (1 << draw.randrange(bits))
        for candidate in (network[0], network[-1], ip_address(near.to_bytes(bits // 8))):
            assert (str(candidate) in Networks((str(network),))) is (candidate in network)
