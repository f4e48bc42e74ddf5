# SPDX-License-Identifier: Apache-2.0
"""Room 1, authenticate: from the Authorization header to the key record, in memory, in constant time.

In: the header and the key table. Out: `x.key`; or `AuthenticationError`, which never repeats what was sent.
"""

import hashlib
import hmac
from typing import Protocol

from beffroi.core.clock import Clock
from beffroi.core.errors import AuthenticationError
from beffroi.core.exchange import Exchange
from beffroi.core.key import LENGTH, PREFIX, PUBLIC
from beffroi.core.snapshot import KeyRecord

MISSING = "Send your API key in the header 'Authorization: Bearer bf-…'."
UNKNOWN = "This API key is not valid here: check that it is complete, and ask for a new one if it was revoked."
EXPIRED = "This API key has expired; ask for a new one."
_FROM, _TO = len(PREFIX), len(PREFIX) + PUBLIC


class KeyTable(Protocol):
    """What is asked of the key table."""

    by_public: dict[bytes, KeyRecord]
    peppers: dict[int, bytes]


class Authenticating(Protocol):
    """What authenticate needs of the house."""

    @property
    def keys(self) -> KeyTable: ...
    @property
    def clock(self) -> Clock: ...


def authenticate(x: Exchange, house: Authenticating) -> None:
    """Who asks.

    Raises:
        AuthenticationError: no header, another scheme, or no key that is valid now.
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
    x.key = key
