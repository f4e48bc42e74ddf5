# SPDX-License-Identifier: Apache-2.0
"""The networks that a key may be used from, compiled: no object is made per network, and none at all per request.

In: networks as control wrote them (`10.0.0.0/8`, `2001:db8::/32`), and an address as the door found it. Out: in or not.
An IPv4 address that arrives as IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) counts as the IPv4 address that it is. What
cannot be read is outside of every network: the list exists to keep people out.
"""

from collections.abc import Iterable
from ipaddress import IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton

_MAPPED = 0xFFFF


class Networks:
    """An allow-list of networks."""

    __slots__ = ("_four", "_six")

    def __init__(self, networks: Iterable[str]) -> None:
        four: list[tuple[int, int]] = []
        six: list[tuple[int, int]] = []
        for text in networks:
            try:
                network = ip_network(text, strict=False)
            except ValueError:
                continue
            base, mask = int(network.network_address), int(network.netmask)
            if not isinstance(network, IPv6Network):
                four.append((base, mask))
            elif network.prefixlen >= 96 and base >> 32 == _MAPPED:
                four.append((base & 0xFFFFFFFF, mask & 0xFFFFFFFF))
            else:
                six.append((base, mask))
        self._four = tuple(four)
        self._six = tuple(six)

    def __contains__(self, address: str) -> bool:
        try:
            if ":" in address:
                number = int.from_bytes(inet_pton(AF_INET6, address.partition("%")[0]))
                if number >> 32 != _MAPPED:
                    return any(number & mask == base for base, mask in self._six)
                number &= 0xFFFFFFFF
            else:
                number = int.from_bytes(inet_pton(AF_INET, address))
        except (OSError, ValueError):
            return False
        return any(number & mask == base for base, mask in self._four)
