# SPDX-License-Identifier: Apache-2.0
"""The door of the control port: how often an address may knock, and whose key it shows.

In: a request. Out: who it is, or a refusal. The address is that of the connection; where that is one of
`gateway.trusted_proxies`, the last address in `X-Forwarded-For` that is none, as on the API port.
"""

import ipaddress
from functools import lru_cache

from starlette.requests import Request

from beffroi.control.api.limits import Limits
from beffroi.control.house import House
from beffroi.control.tenancy.admin_keys import authenticate_admin
from beffroi.control.tenancy.scope import Actor
from beffroi.core.errors import AuthenticationError

_LONGEST = 200  # characters of a key
_MOST_HOPS = 20
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class Door:
    """Tells who calls, from an admin key."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._limits = Limits()

    async def __call__(self, request: Request) -> Actor:
        """Who calls.

        Raises:
            AuthenticationError: no key, or none that is good. LimitExceeded: too often.
        """
        address = caller(request, _networks(self._house.config.settings.trusted_proxies))
        self._limits.call(address)
        try:
            return await authenticate_admin(self._house, _key(request), address)
        except AuthenticationError:
            self._limits.wrong(address)
            raise


def caller(request: Request, proxies: Networks) -> str:
    """The address of who calls; what a proxy says of it is believed, what a client says is not."""
    address = "" if request.client is None else request.client.host
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops[-_MOST_HOPS:]):
        if not _is_one(address, proxies):
            break
        try:
            address = str(ipaddress.ip_address(hop))
        except ValueError:  # the proxy did not write that: nobody before it is known
            break
    return address


def _is_one(address: str, proxies: Networks) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in proxies)


@lru_cache(4)
def _networks(texts: tuple[str, ...]) -> Networks:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _key(request: Request) -> str:
    given = request.headers.getlist("authorization")
    kind, _, key = (given[0] if len(given) == 1 else "").strip().partition(" ")
    key = key.strip()
    if kind.lower() != "bearer" or not key or len(key) > _LONGEST:
        raise AuthenticationError("this needs an admin key, as `Authorization: Bearer bfa-…`, once")
    return key
