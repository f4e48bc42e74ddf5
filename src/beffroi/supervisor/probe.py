# SPDX-License-Identifier: Apache-2.0
"""Asks control whether every part is ready.

In: the listening socket of the control port. Out: what is not ready, part by part, in words.
"""

import http.client
import json
import socket

_TIMEOUT = 1.0
_LONGEST = 64 << 10


def missing(door: socket.socket) -> dict[str, str]:
    """The parts that `GET /readyz` says are not ready, each with its reason; empty when it answers 200."""
    host, port = door.getsockname()[:2]
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(_LONGEST)
    except (OSError, http.client.HTTPException) as error:
        return {"control": f"does not answer ({error})"}
    finally:
        connection.close()
    if answer.status == 200:
        return {}
    try:
        parts = json.loads(body)["parts"]
        return {name: str(part["reason"]) for name, part in parts.items() if not part["ready"]} or {
            "control": "not ready"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"control": f"answers with status {answer.status}"}
