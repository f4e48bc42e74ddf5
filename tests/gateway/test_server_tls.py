# SPDX-License-Identifier: Apache-2.0
"""TLS on both sides: 1.3 towards clients, certificates renewed while it serves, engines with an authority of their own."""

import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client import Answer, Broken, Conn, chat, request
from tests.engines.scripted import ScriptedEngine
from tests.gateway.certificates import Authority
from tests.harness import Served, get, wait_for


class Secure:
    """A `Served` in front of one engine, with TLS where the test wants it."""

    def __init__(self, folder: Path, engine: ScriptedEngine, tls: dict[str, Any] | None = None, **more: Any) -> None:
        self.served = Served(folder / "data", server={"tls": tls} if tls else None, settings={"head_timeout": 1.0})
        self.served.document["resources"] = {
            "engines": [{"name": "e0", "url": engine.url, **more}],
            "models": [{"id": "words", "targets": [{"engine": "e0"}]}],
        }
        self.served.start(ready=False)
        wait_for(lambda: get(self.served.control_port, "/readyz")[0] == 200, 20, "it is ready")
        self.served.key = self.served.printed_key()

    def chat(self, context: ssl.SSLContext | None = None, **more: Any) -> Answer:
        with Conn(self.served.address, tls=context) as conn:
            conn.send(request(self.served.key, chat("count to 3", **more)))
            return conn.answer()


Start = Callable[..., Secure]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a `Secure`; killed at the end."""
    started: list[Secure] = []

    def begin(*arguments: Any, **more: Any) -> Secure:
        started.append(Secure(folder, *arguments, **more))
        return started[-1]

    yield begin
    for secure in started:
        secure.served.kill()


@pytest.fixture
def authority(folder: Path) -> Authority:
    """Who signs what the tests show."""
    return Authority(folder)


def named(pair: tuple[Path, Path]) -> dict[str, Any]:
    """The certificate as a configuration names it."""
    return {"certificate": str(pair[0]), "key": str(pair[1])}


def serial(address: tuple[str, int], context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with Conn(address, tls=context) as conn:
        assert isinstance(conn.sock, ssl.SSLSocket)
        shown = conn.sock.getpeercert()
        assert shown
        return int(str(shown["serialNumber"]), 16)


def test_clients_speak_tls_13_and_nothing_older(start: Start, engine: ScriptedEngine, authority: Authority) -> None:
    """Plain, streamed, pipelined; TLS 1.2, clear text and a client that says nothing get nowhere."""
    secure = start(engine, named(authority.sign("server")))
    context = authority.client()
    assert secure.chat(context).text == "1 2 3"
    assert secure.chat(context, stream=True).text == "1 2 3"
    address = secure.served.address
    with Conn(address, tls=context) as conn:
        assert isinstance(conn.sock, ssl.SSLSocket)
        assert conn.sock.version() == "TLSv1.3"
        conn.send(request(secure.served.key, chat("count to 2")) * 5)
        assert [conn.answer().text for _ in range(5)] == ["1 2"] * 5
        conn.send(b"GET / HTTP/9\r\n\r\n")
        assert conn.answer().status == 400
    with pytest.raises(ssl.SSLError):
        Conn(address, tls=authority.client(version=ssl.TLSVersion.TLSv1_2))
    with pytest.raises(ssl.SSLError):
        Conn(address, tls=ssl.create_default_context())
    with Conn(address, timeout=5) as clear, Conn(address, timeout=5) as silent:
        clear.send(request(secure.served.key, chat()))
        assert b"HTTP" not in clear.sock.recv(1000)
        begin = time.monotonic()
        assert silent.closed(5)
        assert time.monotonic() - begin < 4
    assert secure.chat(context).text == "1 2 3"


def test_a_large_request_and_a_long_stream_pass_through_tls(
    start: Start, engine: ScriptedEngine, authority: Authority
) -> None:
    """Megabytes in, thousands of events out, and a client that leaves frees its engine."""
    secure = start(engine, named(authority.sign("server")))
    context = authority.client()
    with Conn(secure.served.address, tls=context) as conn:
        conn.send(request(secure.served.key, chat("x " * 1_500_000)))
        assert conn.answer().status == 200
        conn.send(request(secure.served.key, chat("count to 3000", stream=True)))
        assert conn.answer().text.endswith(" 2999 3000")
    engine.script("stall_after=3")
    conn = Conn(secure.served.address, tls=context)
    conn.send(request(secure.served.key, chat("count to 9", stream=True)))
    conn.answer(until=lambda answer: b"2" in answer.body)
    conn.sock.close()
    assert wait_for(lambda: engine.stats["open"] == 0, 2, "the engine is free") < 0.2


def test_a_certificate_is_renewed_without_a_restart(
    start: Start, engine: ScriptedEngine, authority: Authority, folder: Path
) -> None:
    """New connections are shown the new one, open streams go on; a chain without its key leaves the old one in place."""
    cert, key = authority.sign("live", 1)
    secure = start(engine, named((cert, key)))
    context, address = authority.client(), secure.served.address
    assert serial(address, context) == 1
    engine.script("gap=0.1")
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(secure.chat(context, stream=True, max_tokens=3).text))
    with Conn(address, tls=context) as conn:
        conn.send(request(secure.served.key, chat("count to 60", stream=True)))
        conn.answer(until=lambda answer: b"2" in answer.body)
        fresh_cert, fresh_key = authority.sign("fresh", 2)
        shutil.copy(fresh_cert, cert)
        time.sleep(1.5)  # a sweep sees a chain that does not fit its key
        assert serial(address, context) == 1
        shutil.copy(fresh_key, key)
        wait_for(lambda: serial(address, context) == 2, 5, "the new certificate is shown")
        thread.start()
        conn.rest = b""
        thread.join()
    assert texts == ["1 2 3"]
    key.write_text("no key")
    time.sleep(1.5)
    assert serial(address, context) == 2
    assert "certificate_refused" in secure.served.output


@pytest.mark.parametrize("asked", ["required", "optional"])
def test_clients_show_certificates_where_they_must(
    start: Start, engine: ScriptedEngine, authority: Authority, folder: Path, asked: str
) -> None:
    """Required: only those of the authority come in. Optional: none will do, a foreign one will not."""
    tls = {**named(authority.sign("server")), "client_ca": str(authority.cert), "client_certificates": asked}
    secure = start(engine, tls)
    assert secure.chat(authority.client(authority.sign("client", 3))).text == "1 2 3"
    foreign = Authority(folder, "foreign").sign("stranger", 4)
    with pytest.raises((OSError, Broken)):
        secure.chat(authority.client(foreign))
    if asked == "optional":
        assert secure.chat(authority.client()).text == "1 2 3"
    else:
        with pytest.raises((OSError, Broken)):
            secure.chat(authority.client())


def test_an_engine_with_an_authority_of_its_own_is_trusted_by_it_alone(
    start: Start, authority: Authority, folder: Path
) -> None:
    """With its CA the engine is reached; with another one nothing is sent to it."""
    foreign = Authority(folder, "foreign")
    with ScriptedEngine(tls=authority.server(authority.sign("engine"))) as engine:
        assert engine.url.startswith("https://")
        secure = start(engine, ca_file=str(authority.cert))
        assert secure.chat().text == "1 2 3"
        assert secure.chat(stream=True).text == "1 2 3"
        assert len({asked.connection for asked in engine.generations()}) == 1
        secure.served.document["resources"]["engines"][0]["ca_file"] = str(foreign.cert)
        secure.served.write_config()
        before = len(engine.requests)
        wait_for(lambda: secure.chat().status != 200, 10, "the other authority is in force")
        before = len(engine.requests)
        answer = secure.chat()
        assert (answer.status, answer.json["error"]["type"]) in [
            (502, "server_error"),
            (503, "service_unavailable_error"),
        ]
        assert len(engine.requests) == before


def test_an_engine_on_a_unix_socket_is_reached(start: Start, folder: Path) -> None:
    """Plain and streamed, on a connection that is kept."""
    with ScriptedEngine(uds=folder / "engine.sock") as engine:
        secure = start(engine)
        for stream in (False, True, False):
            assert secure.chat(stream=stream).text == "1 2 3"
        assert len({asked.connection for asked in engine.generations()}) == 1
