# SPDX-License-Identifier: Apache-2.0
"""One delivery: signed as Standard Webhooks says, to the address that was looked at, with bounds on every wait and size."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.control.webhooks import deliver, signature
from beffroi.control.webhooks.addresses import networks
from beffroi.control.webhooks.deliver import Sender
from tests.control.webhooks.receiver import Receiver, receiver
from tests.gateway.certificates import Authority

pytestmark = pytest.mark.anyio
HERE = networks(["127.0.0.0/8"])
SECRET = signature.new_secret()


@pytest.fixture
def told() -> Iterator[Receiver]:
    """A program that is told."""
    with receiver() as found:
        yield found


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """One that may reach this machine."""
    found = Sender(HERE)
    yield found
    await found.close()


async def test_a_delivery_is_signed_and_says_what_it_is(told: Receiver, sender: Sender) -> None:
    """The signature is checked as a receiver does, by hand."""
    outcome = await sender.send(f"{told.url}/in?a=b", SECRET, "dlv_1", "api:key:create", b'{"type":"x"}')
    assert (outcome.status, outcome.fault) == (204, "")
    (got,) = told.got
    assert (got.path, got.headers["beffroi-event"], got.headers["content-type"]) == (
        "/in?a=b", "api:key:create", "application/json",
    )  # fmt: skip
    identifier, at = got.headers["webhook-id"], got.headers["webhook-timestamp"]
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    wanted = hmac.new(key, f"{identifier}.{at}.".encode() + got.body, hashlib.sha256).digest()
    assert got.headers["webhook-signature"] == "v1," + base64.b64encode(wanted).decode()
    assert (identifier, json.loads(got.body)) == ("dlv_1", {"type": "x"})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(told: Receiver, sender: Sender, status: int) -> None:
    """It might lead into the house."""
    told.status, told.headers = status, {"location": f"{told.url}/elsewhere"}
    outcome = await sender.send(told.url, SECRET, "dlv_1", "e", b"{}")
    assert outcome.status == status and "redirects are not followed" in outcome.fault
    assert [got.path for got in told.got] == ["/"]


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
async def test_anything_but_2xx_is_a_failure(told: Receiver, sender: Sender, status: int) -> None:
    """410 says that nothing is wanted any more."""
    told.status = status
    outcome = await sender.send(told.url, SECRET, "dlv_1", "e", b"{}")
    assert (outcome.fault, outcome.gone) == (f"it answered {status}", status == 410)


async def test_a_slow_answer_and_one_that_is_not_there_are_failures(
    told: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within its time."""
    monkeypatch.setattr(deliver, "SECONDS", 0.2)
    told.wait = 1.0
    assert (await sender.send(told.url, SECRET, "dlv_1", "e", b"{}")).fault == "no answer within 0 s"
    outcome = await sender.send("http://127.0.0.1:9/", SECRET, "dlv_1", "e", b"{}")
    assert outcome.status is None and "Connect" in outcome.fault


async def test_of_a_long_answer_little_is_read(sender: Sender) -> None:
    """A program that answers for ever is taken at its status."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
                sent += 4096
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcome = await sender.send(f"http://127.0.0.1:{port}/", SECRET, "dlv_1", "e", b"{}")
    assert (outcome.status, outcome.fault) == (200, "")
    server.close()
    assert sent < 16 << 20


async def test_a_private_address_is_not_called_at_all(told: Receiver) -> None:
    """Nothing reaches it."""
    sender = Sender(())
    outcome = await sender.send(told.url, SECRET, "dlv_1", "e", b"{}")
    assert outcome.status is None and "server.webhook_networks" in outcome.fault
    assert not told.got
    await sender.close()


async def test_the_address_that_was_looked_at_is_the_one_that_is_called(
    told: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers otherwise the second time is not asked a second time; the name is in `host`."""
    loop, asked = asyncio.get_running_loop(), []
    real = loop.getaddrinfo

    async def once(host: Any, port: Any, **more: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            return await real("127.0.0.1" if len(asked) == 1 else "192.0.2.1", port, **more)
        return await real(host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", once)
    port = told.url.rpartition(":")[2]
    outcome = await sender.send(f"http://rebind.example:{port}/", SECRET, "dlv_1", "e", b"{}")
    assert (outcome.status, outcome.fault, asked) == (204, "", ["rebind.example"])
    assert told.got[0].headers["host"] == f"rebind.example:{port}"


async def test_over_tls_the_name_is_what_the_certificate_must_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though an address is called: right for `localhost`, wrong for another name of the same machine."""
    authority = Authority(tmp_path)
    chain, key = authority.sign("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(next(tmp_path.glob("authority*.pem"))))
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def here(host: Any, port: Any, **more: Any) -> Any:
        return await real("127.0.0.1" if host in ("localhost", "other.example") else host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", here)
    sender = Sender(HERE)
    port = server.server_address[1]
    try:
        assert (await sender.send(f"https://localhost:{port}/", SECRET, "d", "e", b"{}")).status == 200
        wrong = await sender.send(f"https://other.example:{port}/", SECRET, "d", "e", b"{}")
        assert wrong.status is None and "ertificate" in wrong.fault
    finally:
        await sender.close()
        server.shutdown()
        thread.join()
        server.server_close()
