# SPDX-License-Identifier: Apache-2.0
"""The listening sockets, opened once and handed to the children, so that a child's death drops no connection.

In: a host and a port. Out: bound and listening sockets.
"""

import contextlib
import errno
import ipaddress
import socket

from beffroi.supervisor.errors import StartError

_BACKLOG = 4096
_UNSENT = 128 << 10  # bytes the kernel takes for a client before the wire does; else 4 MiB wait for each slow reader


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """`count` sockets on one address, among which the kernel shares connections out (SO_REUSEPORT).

    Args:
        host: a name or an address; of a name's addresses the first is taken.
        port: 0 takes a free one, the same for all.

    Raises:
        StartError: the address is not ours, or somebody listens there already.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise StartError(f"There is no address for the host {host!r}.", code=2) from None
    bound: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        try:
            # SO_REUSEPORT lets any process of this user share the port, a second Beffroi too: one without it tells.
            with _open(family, kind, protocol) as probe:
                probe.bind(address)
            for _ in range(count):
                one = undo.enter_context(_open(family, kind, protocol))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind(address)
                address = one.getsockname()
                bound.append(one)
            for one in bound:
                one.listen(_BACKLOG)
        except OSError as error:
            raise StartError(_reason(host, port, error)) from None
        undo.pop_all()
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open(family: int, kind: int, protocol: int) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what is accepted inherits it
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    return one


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken. Stop what listens there, or choose another port (--port, --control-port)."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs rights that this user has not. Choose one above 1023."
    return f"Cannot listen on {host}, port {port}: {error.strerror}."
