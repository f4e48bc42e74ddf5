# SPDX-License-Identifier: Apache-2.0
"""Asks control whether every part is ready.

In: the listening socket of the control port. Out: None, or what is not ready, in words.
"""

import http.client
import socket

_TIMEOUT = 1.0
_LONGEST = 2000


def readiness(door: socket.socket) -> str | None:
    """None when `GET /readyz` answers 200; else its text, or why there was no answer."""
    host, port = door.getsockname()[:2]
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(_LONGEST).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the control process does not answer ({error})"
    finally:
        connection.close()
    return None if answer.status == 200 else text or f"status {answer.status}"
