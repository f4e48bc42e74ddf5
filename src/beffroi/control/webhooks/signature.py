# SPDX-License-Identifier: Apache-2.0
"""Signatures of deliveries, as Standard Webhooks 1.0 has them, so that libraries for every language check them.

In: a secret (`whsec_…`), the id of a delivery, the moment, the body. Out: the headers of the request.
HMAC-SHA256 over `id.timestamp.body`: who records a request cannot send it again later, nor its body under another id.
"""

import base64
import hmac
import secrets

_PREFIX = "whsec_"
_LENGTH = 32


def new_secret() -> str:
    """A secret, as its owner keeps it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_LENGTH)).decode()


def headers(secret: str, delivery: str, at: int, body: bytes) -> dict[str, str]:
    """The three headers that whoever receives it checks. `at`: Unix seconds."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    told = hmac.digest(key, f"{delivery}.{at}.".encode() + body, "sha256")
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(told).decode()}",
    }
