# SPDX-License-Identifier: Apache-2.0
"""Blocking HTTP connections, by the standard library, to where an engine, a gateway or a control process may be.

In: `http://…`, `https://…` or `unix:/path`. Out: a connection that is not open yet.
"""

import http.client
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

_UNIX = "unix:"


def connect(url: str, timeout: float, ca: Path | str | None = None) -> http.client.HTTPConnection:
    """A connection to the server of a URL; `ca`: a PEM file of the authority to trust, the system's when None.

    Raises:
        OSError: the authority's file cannot be read.
    """
    if url.startswith(_UNIX):
        return _UnixConnection(url.removeprefix(_UNIX), timeout)
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def prefix(url: str) -> str:
    """The path under which a URL's pages lie."""
    return "" if url.startswith(_UNIX) else urlsplit(url).path.rstrip("/")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
