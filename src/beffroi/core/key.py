# SPDX-License-Identifier: Apache-2.0
"""The format of an API key and how it is stored.

    bf-<public id: 12 characters>-<secret: 32 characters><checksum: 6 characters>
    bfa-<…>                                                one to the administration, alike in all else

In: what a client sent, or nothing (a new key). Out: the public id, which may be logged and indexed, and a keyed hash
(BLAKE2b-256, RFC 7693, keyed by a pepper with an id), which is all that is stored. The checksum (base62 of CRC-32)
lets scanners of leaked secrets and the gateway tell a mistyped key from a wrong one without a look-up.
"""

import hashlib
import secrets
import zlib
from typing import NamedTuple

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX, ADMIN = "bf-", "bfa-"
PUBLIC, SECRET, CHECKSUM = 12, 32, 6
REST = 1 + SECRET + CHECKSUM  # characters after the public id
LENGTH = len(PREFIX) + PUBLIC + REST


class NewKey(NamedTuple):
    """A key just made. `text` is shown once and never stored."""

    text: str
    public: str


def _draw(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))


def _checksum(text: str) -> str:
    value, out = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM):
        value, digit = divmod(value, 62)
        out = ALPHABET[digit] + out
    return out


def new_key(prefix: str = PREFIX, public: str = "") -> NewKey:
    """A fresh key: 71 bits of public id (unless it keeps the one it had), 190 bits of secret."""
    public = public or _draw(PUBLIC)
    head = f"{prefix}{public}-{_draw(SECRET)}"
    return NewKey(head + _checksum(head), public)


def public_id(text: str, prefix: str = PREFIX) -> str | None:
    """The public id of a key that is well formed and whose checksum holds; None otherwise."""
    begin = len(prefix)
    end = begin + PUBLIC
    if len(text) != end + REST or not text.startswith(prefix) or text[end] != "-" or not text.isascii():
        return None
    if _checksum(text[:-CHECKSUM]) != text[-CHECKSUM:]:
        return None
    public = text[begin:end]
    return public if public.isalnum() else None  # it will be logged: nothing else may pass, checksum or not


def key_hash(text: str, pepper: bytes) -> bytes:
    """What is stored of a key: 32 bytes. `pepper` is 16 to 64 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=32, key=pepper).digest()
