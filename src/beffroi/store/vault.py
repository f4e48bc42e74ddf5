# SPDX-License-Identifier: Apache-2.0
"""Secrets at rest: sealed with AES-256-GCM under a key that stands outside the database.

In: bytes and what they are for, and a key: the file `vault.key` of the data directory, or the secret that a fleet shares.
Out: sealed bytes, which name their key. A copy of the database alone opens nothing. What is sealed for one purpose does not
open for another: the context is authenticated (NIST SP 800-38D, additional data).
"""

import base64
import binascii
import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from beffroi.store.files import replace_file

FILE = "vault.key"
SHORTEST = 32  # characters of a fleet's secret
_FORM = b"\x01"  # first byte of what is sealed
_ID, _NONCE, _KEY = 4, 12, 32  # bytes
_LINE = "beffroi-vault-1:"
_MOST_KEYS = 100


class VaultError(Exception):
    """The key file cannot be used, or does not open what was sealed; the text says what to do."""


class Vault:
    """Seals with its first key, opens with any.

    Args:
        keys: 32 bytes each, the newest first.
        file: where they stand; None: nowhere, a fleet shares a secret.
    """

    def __init__(self, keys: list[bytes], file: Path | None = None) -> None:
        self._file = file
        self._take(keys)

    def _take(self, keys: list[bytes]) -> None:
        self._keys = {_derive(key, b"id", _ID): AESGCM(_derive(key, b"seal")) for key in keys}
        self._newest = next(iter(self._keys))
        self._oldest = keys[-1]

    @classmethod
    def open(cls, data: Path) -> Self:
        """The vault of a data directory; its first start makes the key. Blocks.

        Raises:
            VaultError: the file is there and holds no keys. OSError: it cannot be read or made.
        """
        path = data / FILE
        try:
            return cls(read_keys(path), path)
        except FileNotFoundError:
            _write(path, [secrets.token_bytes(_KEY)])
            return cls(read_keys(path), path)

    @classmethod
    def shared(cls, secret: str) -> Self:
        """The vault of a fleet, from the secret that all its members know; several, the newest first, with commas between.

        Raises:
            VaultError: one is too short to keep anything.
        """
        parts = [part.strip() for part in secret.split(",")]
        if any(len(part) < SHORTEST for part in parts):
            raise VaultError(f"a secret of a fleet has {SHORTEST} characters or more: `openssl rand -hex 32` makes one")
        return cls([_derive(part.encode(), b"shared") for part in parts])

    @property
    def ids(self) -> frozenset[bytes]:
        """Ids of its keys, as `key_of` tells them."""
        return frozenset(self._keys)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Sealed bytes. `context`: what they are and whose (`webhook whk_…`); the same is needed to open them."""
        newest, nonce = self._newest, secrets.token_bytes(_NONCE)
        return _FORM + newest + nonce + self._keys[newest].encrypt(nonce, plain, _bound(newest, context))

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            VaultError: another key sealed it, for something else, or it was changed.
        """
        key = key_of(sealed)
        cipher = self._keys.get(key)
        if cipher is None:
            raise VaultError(
                f"a secret was sealed with the key {key.hex()}, which {FILE} (or `server.fleet_secret`) does not hold: "
                "put back the one it was sealed with"
            )
        rest = sealed[1 + _ID :]
        try:
            return cipher.decrypt(rest[:_NONCE], rest[_NONCE:], _bound(key, context))
        except (InvalidTag, ValueError):
            raise VaultError("a sealed secret is damaged, or stands where another belongs") from None

    def rotate(self) -> str:
        """Put a new key before those of the file, which seals from now on; what was sealed opens still. Its id. Blocks.

        Raises:
            VaultError: there is no file, or it has no room; nothing was changed. OSError: it cannot be written.
        """
        if self._file is None:
            raise VaultError(
                "a fleet's secret is in its configuration: write `NEW,OLD` into `server.fleet_secret`, and restart"
            )
        keys = read_keys(self._file)
        if len(keys) >= _MOST_KEYS:
            raise VaultError(f"{FILE} holds {len(keys)} keys, which is enough for any age")
        keys.insert(0, secrets.token_bytes(_KEY))
        _write(self._file, keys)
        self._take(keys)
        return self._newest.hex()

    def secret(self, purpose: str) -> bytes:
        """32 bytes for one purpose, the same at every start, whichever keys were added since."""
        return _derive(self._oldest, b"secret " + purpose.encode())


def key_of(sealed: bytes) -> bytes:
    """The id of the key that sealed it; empty where it is nothing sealed."""
    return sealed[1 : 1 + _ID] if sealed[:1] == _FORM else b""


def read_keys(path: Path) -> list[bytes]:
    """The keys of a file, the newest first.

    Raises:
        VaultError: it holds none, or something else. OSError: it cannot be read.
    """
    keys = []
    for line in path.read_text("ascii", errors="replace").split():
        try:
            key = base64.b64decode(line.removeprefix(_LINE), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not line.startswith(_LINE) or len(key) != _KEY:
            raise VaultError(f"{path} holds something that is no key of a vault: restore it from a backup")
        keys.append(key)
    if not keys:
        raise VaultError(f"{path} is empty: restore it from a backup; what was sealed with its key opens with no other")
    return keys


def _write(path: Path, keys: list[bytes]) -> None:
    replace_file(path, "".join(f"{_LINE}{base64.b64encode(key).decode()}\n" for key in keys).encode())


def _derive(key: bytes, purpose: bytes, length: int = _KEY) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"beffroi vault 1 " + purpose).derive(key)


def _bound(key: bytes, context: str) -> bytes:
    return _FORM + key + context.encode()
