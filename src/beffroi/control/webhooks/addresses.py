# SPDX-License-Identifier: Apache-2.0
"""Where a webhook may lead: to the internet, and into networks of the house only where its operator allows them.

In: a URL, the networks of `server.webhook_networks`. Out: an address to connect to, or a reason. A name is resolved once,
and the address that was looked at is the one that is called: a name server that answers otherwise the second time gains
nothing (DNS rebinding). One address of a name that is not allowed refuses all of it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from beffroi.core.errors import BadRequest

LONGEST = 2_000  # characters of a URL
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """It may not be called, or has no address; the text says why."""


class Target(NamedTuple):
    """What a URL says."""

    scheme: str
    host: str
    port: int
    path: str  # and query

    @property
    def authority(self) -> str:
        """As in the `host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def networks(texts: Sequence[str]) -> Networks:
    """The networks of a setting.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


def parse(url: str) -> Target:
    """The parts of a URL.

    Raises:
        BadRequest: it is none that can be called.
    """
    wrong = "`url` is no address of a program: write https://host/path, in ASCII, without a user or a fragment"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRequest(wrong, param="url") from None
    sound = (
        len(url) <= LONGEST
        and url.isascii()
        and url.isprintable()
        and not set(url) & set(' "<>\\^`{|}')
        and parts.scheme in _PORTS
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and not parts.fragment
        and port != 0
    )
    if not sound or parts.hostname is None:
        raise BadRequest(wrong, param="url")
    path = parts.path or "/"
    return Target(
        parts.scheme, parts.hostname, port or _PORTS[parts.scheme], f"{path}?{parts.query}" if parts.query else path
    )


async def resolve(target: Target, allowed: Networks) -> str:
    """The address to connect to.

    Raises:
        Refused: there is none, or one is not for webhooks.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(f"the name {target.host} has no address") from None
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    for address in addresses:
        if not allows(address, allowed):
            raise Refused(
                f"{target.host} leads to {address}, which is no address of the internet; "
                "whoever runs this installation may allow its network with `server.webhook_networks`"
            )
        if target.scheme == "http" and not _named(address, allowed):
            raise Refused("a webhook over the internet is told by https; http is for networks of the house")
    return str(addresses[0])


def allows(address: Address, allowed: Networks) -> bool:
    """Whether a webhook may be told at this address."""
    if _named(address, allowed):
        return True
    inner = _inner(address)
    if inner is not None:
        return allows(inner, allowed)
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local  # of old, and still of the house
    return address.is_global and not address.is_multicast and not address.is_reserved and not site_local


def _named(address: Address, allowed: Networks) -> bool:
    return any(address.version == network.version and address in network for network in allowed)


def _inner(address: Address) -> Address | None:
    """The IPv4 address that one of IPv6 stands for."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
