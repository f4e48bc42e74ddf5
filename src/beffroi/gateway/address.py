# SPDX-License-Identifier: Apache-2.0
"""Where a client stands when a proxy is between: X-Forwarded-For and PROXY v2, believed only of configured proxies.

In: header bytes. Out: an address as text. In X-Forwarded-For the last entry that is no proxy of ours counts: what stands
before it the client may have invented.
"""

from collections.abc import Callable
from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD = 16


def forwarded(header: bytes, peer: str, is_proxy: Callable[[str], bool]) -> str:
    """The client's address out of X-Forwarded-For."""
    address = peer
    for entry in reversed(header.decode("latin-1").split(",")):
        text = entry.strip()
        if not text:
            continue
        try:
            ip_address(text)
        except ValueError:
            break
        address = text
        if not is_proxy(text):
            break
    return address


def proxy_header(data: bytes) -> tuple[str | None, bytes] | None:
    """(address, what follows) of a PROXY v2 header; None while it is incomplete. The address is None for LOCAL.

    Raises:
        ValueError: these bytes are no PROXY v2 header.
    """
    if data[:12] != SIGNATURE[: len(data[:12])]:
        raise ValueError("A proxy that speaks PROXY protocol v2 is configured here, and this is none.")
    if len(data) < _HEAD:
        return None
    length = int.from_bytes(data[14:16], "big")
    if data[12] >> 4 != 2 or length > 1024:
        raise ValueError("This PROXY header is not of version 2.")
    end = _HEAD + length
    if len(data) < end:
        return None
    command, family = data[12] & 0xF, data[13] >> 4
    if command == 1 and family == 1 and length >= 12:
        return str(ip_address(data[16:20])), data[end:]
    if command == 1 and family == 2 and length >= 36:
        return str(ip_address(data[16:32])), data[end:]
    return None, data[end:]
