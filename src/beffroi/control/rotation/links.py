# SPDX-License-Identifier: Apache-2.0
"""One-time links: a key's text at rest, encrypted under a secret that stands in the link and nowhere else.

In: the text of a key, a rotation's id, a secret (ours, or one that the client chose to be able to ask again). Out: what the
table keeps (a hash of the secret, and AES-256-GCM under a key derived from it, bound to the rotation), and the text again
for whoever has the secret. A copy of the database has neither; 256 bits are not guessed, however many requests are made.
"""

import hashlib
import hmac
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_LONGEST = 200  # characters of a token that is looked at
SECRET = 43  # characters of 32 bytes in base64url
LINK = "/api/v1/links/{token}"


class Sealed(NamedTuple):
    """What is kept of a secret and a text."""

    hash: str
    box: bytes


def new_secret() -> str:
    """256 bits, fit for a path."""
    return secrets.token_urlsafe(32)


def seal(text: str, rotation: str, secret: str) -> Sealed:
    """A text that only the secret opens."""
    nonce = secrets.token_bytes(_NONCE)
    box = AESGCM(_key(secret)).encrypt(nonce, text.encode(), rotation.encode())
    return Sealed(secret_hash(secret), nonce + box)


def unseal(box: bytes, rotation: str, secret: str) -> str | None:
    """The text; None where the secret is another, or the box is that of another rotation."""
    try:
        return AESGCM(_key(secret)).decrypt(box[:_NONCE], box[_NONCE:], rotation.encode()).decode()
    except InvalidTag:
        return None


def secret_hash(secret: str) -> str:
    """What the table has of a secret: of no use to open the box, whose key is derived apart."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"beffroi link id").hexdigest()


def fits(secret: str, hashed: str) -> bool:
    """Whether this is the secret, in constant time."""
    return hmac.compare_digest(secret_hash(secret), hashed)


def token(rotation: str, secret: str) -> str:
    """The last part of a link: where to look, and what opens it."""
    return f"{rotation}.{secret}"


def parts(text: str) -> tuple[str, str] | None:
    """A token as (rotation, secret); None where it is none."""
    rotation, dot, secret = text[:_LONGEST].partition(".")
    return (rotation, secret) if dot and rotation and len(secret) >= SECRET else None


def _key(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"beffroi link key").digest()
