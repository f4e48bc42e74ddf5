# SPDX-License-Identifier: Apache-2.0
"""Connections of control: nobody keeps others out by holding them, and each has an end."""

import asyncio
import errno
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from beffroi.cli.main import main
from beffroi.control.api import protocol, reading
from beffroi.control.api.problems import HANDLERS, problem
from tests.control.fakes import Control, control

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A control process."""
    with control(tmp_path_factory.mktemp("c")) as process:
        yield process


def test_held_connections_keep_no_command_out(running: Control) -> None:
    """Many more than may be there at once, some silent and some in the middle of a head: commands are answered."""
    held = []
    try:
        for index in range(protocol.MOST + 44):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(5)
            held.append(one)
            while one.connect_ex(str(running.data / "control.sock")) == errno.EAGAIN:  # it accepts as fast as it can
                time.sleep(0.001)
            if index % 2:
                one.sendall(b"GET /api/v1/keys HTT")
        for _ in range(3):
            done = CliRunner().invoke(main, ["keys", "list", "--json", "--data", str(running.data)])
            assert done.exit_code == 0, done.output
            assert json.loads(done.output)
    finally:
        for one in held:
            one.close()


@asynccontextmanager
async def served(tmp_path: Path, app: protocol.Bounded) -> AsyncIterator[Path]:
    """An application behind the protocol of control."""
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as door:
        door.bind(str(path))
        door.listen()
        server = uvicorn.Server(uvicorn.Config(app, http=protocol.protocol(), lifespan="off", log_config=None))
        serving = asyncio.create_task(server._serve([door]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield path
        finally:
            server.should_exit = True
            await serving


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """Says that all is well."""
    await problem(200, "well", "well")(scope, receive, send)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: x\r\nslow: "])
async def test_a_head_that_does_not_end_ends_the_connection(
    tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence from the start, or a byte at a time."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    async with served(tmp_path, protocol.Bounded(answers)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        async with asyncio.timeout(3):

            async def drip() -> None:
                with suppress(OSError):
                    while True:
                        await asyncio.sleep(0.05)
                        writer.write(b"x" if sent else b"")

            dripping = asyncio.create_task(drip())
            with suppress(ConnectionError):
                assert await reader.read() == b""
            dripping.cancel()
        writer.close()


@pytest.mark.parametrize("sent", [b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000])
async def test_a_head_that_is_too_long_is_refused(tmp_path: Path, sent: bytes) -> None:
    """In the form of every other refusal."""
    async with served(tmp_path, protocol.Bounded(answers)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent + (b"" if b"HTTP" in sent else b" HTTP/1.1\r\n\r\n"))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 400 ") and json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
        writer.close()


async def test_too_many_calls_at_once_are_told_so_as_json(tmp_path: Path) -> None:
    """And served again once one has ended."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go.wait()
        await answers(scope, receive, send)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    async with served(tmp_path, protocol.Bounded(waits, 1)) as path:
        first = asyncio.create_task(ask())
        await begun.wait()
        second = await ask()
        assert second.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in second
        assert json.loads(second.partition(b"\r\n\r\n")[2])["code"] == "busy"
        go.set()
        assert (await first).startswith(b"HTTP/1.1 200 ")
        assert (await ask()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_does_not_come_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the connection is closed: nobody is held up by a byte at a time."""
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.3)

    async def takes(request: Request) -> Response:
        return Response(await reading.content(request, 1000))

    app = Starlette(routes=[Route("/", takes, methods=["POST"])], exception_handlers=HANDLERS)
    async with served(tmp_path, protocol.Bounded(app)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")

        async def drip() -> None:
            with suppress(OSError):
                while True:
                    await asyncio.sleep(0.05)
                    writer.write(b"x")

        dripping = asyncio.create_task(drip())
        answer = await asyncio.wait_for(reader.read(), 3)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"
        writer.close()
