# SPDX-License-Identifier: Apache-2.0
"""Where a webhook may lead: not into the house, by whatever name or spelling, unless its operator says so."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from beffroi.control.webhooks import addresses
from beffroi.control.webhooks.addresses import Refused, allows, networks, parse, resolve
from beffroi.core.errors import BadRequest

pytestmark = pytest.mark.anyio
INSIDE = (
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fec0::1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "2002:7f00:1::", "2002:a00:1::",
    "2001:db8::1", "2001::1",
)  # fmt: skip
OUTSIDE = ("8.8.8.8", "93.184.215.14", "2a00:1450:4007:80c::200e", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8")


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_of_the_house_is_refused(text: str) -> None:
    """Loopback, private, link-local with the machine's own secrets behind it, and the same in the clothes of IPv6."""
    assert not allows(ipaddress.ip_address(text), ())


@pytest.mark.parametrize("text", OUTSIDE)
def test_an_address_of_the_internet_is_not(text: str) -> None:
    """Also where it is spelt as IPv6."""
    assert allows(ipaddress.ip_address(text), ())


def test_the_operator_may_allow_a_network() -> None:
    """That one and no other."""
    allowed = networks(["10.2.0.0/16", "fd00:1::/32"])
    assert [allows(ipaddress.ip_address(text), allowed) for text in ("10.2.3.4", "fd00:1::5", "10.3.0.1", "::1")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "https://", "ftp://host/", "https://user@host/", "https://u:p@host/", "https://host/#part", "https://host:0/",
        "https://host:99999/", "https://ho st/", "https://hôte/", "//host", "https://[::1", "https://host/\x00", "",
        "https://host/a\\b", "https://" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_program_is_refused(url: str) -> None:
    """When it is written, not when it is called."""
    with pytest.raises(BadRequest):
        parse(url)


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"])
async def test_other_spellings_of_this_machine_lead_to_it_and_are_refused(host: str) -> None:
    """It is the address that is looked at, not the text."""
    with pytest.raises(Refused):
        await resolve(parse(f"https://{host}/x"), ())


async def test_one_address_of_a_name_that_is_inside_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them would have been taken."""

    async def both(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("8.8.8.8", 443)), (*kind, ("10.0.0.1", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    with pytest.raises(Refused, match=r"leads to 10\.0\.0\.1"):
        await resolve(parse("https://both.example/"), ())


async def test_plain_http_is_for_allowed_networks_alone() -> None:
    """Over the internet everybody on the way would read it."""
    with pytest.raises(Refused, match="told by https"):
        await resolve(parse("http://8.8.8.8/"), ())
    assert await resolve(parse("http://127.0.0.1:9/"), networks(["127.0.0.0/8"])) == "127.0.0.1"
    assert await resolve(parse("https://8.8.8.8/"), ()) == "8.8.8.8"


def test_the_parts_of_a_url_are_kept() -> None:
    """Port, path and query, and the authority for the `host` header."""
    assert parse("https://h.example/a?b=c") == addresses.Target("https", "h.example", 443, "/a?b=c")
    assert [parse(url).authority for url in ("https://h", "https://h:8443", "http://[2a00::1]:80", "https://[2a00::1]:9")] == [
        "h", "h:8443", "[2a00::1]", "[2a00::1]:9",
    ]  # fmt: skip
