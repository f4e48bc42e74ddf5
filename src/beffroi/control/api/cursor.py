# SPDX-License-Identifier: Apache-2.0
"""Cursors of lists: where the last page ended, signed, so that nobody reads or writes one but this installation.

In: the key of a row. Out: text for the next call. One is good for its own list alone, and does not expire.
"""

import base64
import binascii
import hmac
from typing import Any

import msgspec

from beffroi.core.errors import BadRequest

LONGEST = 600  # characters
_TAG = 12  # bytes


def sign(secret: bytes, of: str, place: tuple[Any, ...]) -> str:
    """A cursor. `of`: the list that it belongs to."""
    body = msgspec.msgpack.encode(place)
    return _text(_tag(secret, of, body) + body)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def read(secret: bytes, of: str, text: str) -> tuple[Any, ...]:
    """The key in a cursor.

    Raises:
        BadRequest: it is none of this list.
    """
    wrong = BadRequest(
        "`cursor` is no `next` of an earlier answer of this list; leave it out to begin anew", param="cursor"
    )
    if not text or len(text) > LONGEST or not text.isascii():
        raise wrong
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    tag, body = raw[:_TAG], raw[_TAG:]
    if text != _text(raw) or not hmac.compare_digest(tag, _tag(secret, of, body)):  # one spelling alone
        raise wrong
    return msgspec.msgpack.decode(body, type=tuple)


def _tag(secret: bytes, of: str, body: bytes) -> bytes:
    return hmac.digest(secret, of.encode() + b"\0" + body, "sha256")[:_TAG]
