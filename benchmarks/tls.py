# SPDX-License-Identifier: Apache-2.0
"""What TLS adds: the same client with and without it, and the gateway's CPU time around each.

In: two gateways alike but for TLS. Out: CPU microseconds per request on kept connections and per new connection. The
client is asyncio's, slower than the C one, so only the difference means something, not the figures themselves.
"""

import asyncio
import contextlib
import json
import ssl
from typing import Any

from benchmarks.gateways import Gateway
from benchmarks.load import BODY, LoadFailed

CONNECTIONS = 16


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a certificate made a moment ago, on loopback
    return context


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise LoadFailed(f"answered {head[:60]!r}")
    lower = head.lower()
    at = lower.index(b"content-length:") + 15
    await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))


async def _many(gateway: Gateway, count: int, *, fresh: bool) -> None:
    body = json.dumps(BODY).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: bench", *gateway.headers, "content-type: application/json"]
    request = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
    context = _context() if gateway.tls else None
    left = count

    async def client() -> None:
        nonlocal left
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while left > 0:
            left -= 1
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
            reader, writer = streams
            writer.write(request)
            await _answer(reader)
            if fresh:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                streams = None
        if streams:
            streams[1].close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def measure(gateway: Gateway, requests: int, *, fresh: bool) -> dict[str, Any]:
    """CPU microseconds of the workers per request; `fresh` opens a connection (and a TLS session) for each."""
    gateway.settle()
    workers, whole = gateway.cpu()
    asyncio.run(_many(gateway, requests, fresh=fresh))
    gateway.settle()
    workers_after, whole_after = gateway.cpu()
    return {
        "requests": requests,
        "cpu_us": (workers_after - workers) / requests * 1e6,
        "tree_us": (whole_after - whole) / requests * 1e6,
    }
