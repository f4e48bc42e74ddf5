# SPDX-License-Identifier: Apache-2.0
"""One delivery: one POST, signed, to the address that was looked at; no redirect is followed, little of an answer is read.

In: a URL, a secret, a body. Out: what came of it. Taken is what was answered with 2xx.
"""

import asyncio
import ssl
import time
from typing import NamedTuple

import httpx

from beffroi import __version__
from beffroi.control.webhooks.addresses import Networks, Refused, parse, resolve
from beffroi.control.webhooks.signature import headers
from beffroi.core.errors import BadRequest

SECONDS = 10.0  # for all of it: name, connection, answer
MOST = 64 << 10  # bytes of an answer that are read; the rest is not waited for


class Outcome(NamedTuple):
    """What came of it. `status` is None where nothing was answered; `fault` is empty where it was taken."""

    status: int | None
    fault: str
    milliseconds: int

    @property
    def gone(self) -> bool:
        """Whoever is there says that it wants nothing any more (RFC 9110, 15.5.11)."""
        return self.status == httpx.codes.GONE


class Sender:
    """Sends; one for the process, on its loop.

    Args:
        allowed: networks beside the internet.
    """

    def __init__(self, allowed: Networks) -> None:
        self._allowed = allowed
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,  # a proxy would connect to whatever it finds under the name
            follow_redirects=False,
            timeout=SECONDS,
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """End."""
        await self._client.aclose()

    async def send(self, url: str, secret: str, delivery: str, event: str, body: bytes) -> Outcome:
        """Try once."""
        began, status, fault = time.monotonic(), None, ""
        try:
            async with asyncio.timeout(SECONDS):
                status = await self._send(url, secret, delivery, event, body)
        except TimeoutError:
            fault = f"no answer within {SECONDS:.0f} s"
        except (Refused, BadRequest) as error:
            fault = str(error)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            fault = f"{type(error).__name__}: {error}"[:200]
        if status is not None and not 200 <= status < 300:
            moved = ", and redirects are not followed" if 300 <= status < 400 else ""
            fault = f"it answered {status}{moved}"
        return Outcome(status, fault, int((time.monotonic() - began) * 1000))

    async def _send(self, url: str, secret: str, delivery: str, event: str, body: bytes) -> int:
        target = parse(url)
        address = await resolve(target, self._allowed)
        host = f"[{address}]" if ":" in address else address
        request = self._client.build_request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.path}",
            content=body,
            headers={
                "host": target.authority,
                "content-type": "application/json",
                "user-agent": f"Beffroi/{__version__}",
                "beffroi-event": event,
                **headers(secret, delivery, int(time.time()), body),
            },
            extensions={"sni_hostname": target.host},
        )
        response = await self._client.send(request, stream=True)
        try:
            read = 0
            async for part in response.aiter_raw():
                read += len(part)
                if read > MOST:
                    break
        finally:
            await response.aclose()
        return response.status_code
