# SPDX-License-Identifier: Apache-2.0
"""Room 1, authenticate: from the Authorization header to the key record, in memory, in constant time.

In: the header and the key table. Out: `x.key`; or `AuthenticationError`, which never repeats what was sent; or 403, for a
good key whose tenant is suspended, or that is not for this address or this endpoint. Each of those costs a truth test where
it is not used.
"""

import hashlib
import hmac
from typing import Protocol

from beffroi.core.clock import Clock
from beffroi.core.errors import (
    AddressNotAllowed,
    AuthenticationError,
    EndpointNotAllowed,
    KeysStale,
    TenantSuspended,
)
from beffroi.core.exchange import Exchange
from beffroi.core.key import LENGTH, PREFIX, PUBLIC
from beffroi.core.snapshot import KeyRecord
from beffroi.gateway.authn.networks import Networks

MISSING = "Send your API key in the header 'Authorization: Bearer bf-…'."
UNKNOWN = "This API key is not valid here: check that it is complete, and ask for a new one if it was revoked."
EXPIRED = "This API key has expired; ask for a new one."
STALE = "This gateway has been without its database for too long to know whether this key is still valid. Try again shortly."
_FROM, _TO = len(PREFIX), len(PREFIX) + PUBLIC


class KeyTable(Protocol):
    """What is asked of the key table."""

    by_public: dict[bytes, KeyRecord]
    peppers: dict[int, bytes]
    closed: frozenset[str]
    networks: dict[str, Networks]


class Authenticating(Protocol):
    """What authenticate needs of the house."""

    @property
    def keys(self) -> KeyTable: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def stale(self) -> bool: ...


def authenticate(x: Exchange, house: Authenticating) -> None:
    """Who asks.

    Raises:
        AuthenticationError: no header, another scheme, or no key that is valid now.
        TenantSuspended, AddressNotAllowed, EndpointNotAllowed: the key is good, and not for this.
    """
    header = x.authorization
    if header is None:
        raise AuthenticationError(MISSING)
    scheme, _, token = header.partition(b" ")
    if scheme != b"Bearer" and scheme.lower() != b"bearer":
        raise AuthenticationError(MISSING)
    if len(token) != LENGTH:
        token = token.strip(b" \t")  # blanks are no part of a header's value
    if len(token) != LENGTH:
        raise AuthenticationError(UNKNOWN if token.strip() else MISSING)
    key = house.keys.by_public.get(token[_FROM:_TO])
    if key is None:
        raise AuthenticationError(UNKNOWN)
    pepper = house.keys.peppers.get(key.pepper_id)
    if pepper is None or not hmac.compare_digest(hashlib.blake2b(token, digest_size=32, key=pepper).digest(), key.hash):
        raise AuthenticationError(UNKNOWN)
    if key.revoked:
        raise AuthenticationError(UNKNOWN)
    if key.expires_at is not None and key.expires_at * 1_000_000_000 <= x.wall_ns:
        raise AuthenticationError(EXPIRED)
    if house.stale:
        raise KeysStale(STALE, retry_after=5)
    x.key = key  # known from here on: what is refused below is recorded as this key's
    if house.keys.closed:
        _require_open(key, house.keys.closed)
    if key.addresses:
        _require_address(key, x.address, house.keys.networks)
    if key.endpoints is not None and x.endpoint:
        require_endpoint(key, x.endpoint)


def require_endpoint(key: KeyRecord, endpoint: str) -> None:
    """Refuse an endpoint that a key is not for; asked again where a body turns out to mean another than its path.

    Raises:
        EndpointNotAllowed: it is not.
    """
    if key.endpoints is not None and endpoint not in key.endpoints:
        those = ", ".join(sorted(key.endpoints)) or "none"
        raise EndpointNotAllowed(
            f"This key may not use {endpoint}, only: {those}. Ask whoever gave it to you for a key that may."
        )


def _require_open(key: KeyRecord, closed: frozenset[str]) -> None:
    if key.organisation in closed:
        raise TenantSuspended(f"The organisation {key.organisation} is suspended; ask whoever runs this service why.")
    if f"{key.organisation}/{key.project}" in closed:
        raise TenantSuspended(f"The project {key.project} is suspended; ask an administrator of your organisation why.")


def _require_address(key: KeyRecord, address: str, networks: dict[str, Networks]) -> None:
    allowed = networks.get(key.id)
    if allowed is None:  # compiled when it is first used: a table of 100,000 keys would hold the loop
        allowed = networks[key.id] = Networks(key.addresses)
    if address not in allowed:
        raise AddressNotAllowed(
            f"This key may not be used from {address}; use it from a network that it is for, or ask for this one to be added."
        )
