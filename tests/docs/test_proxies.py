# SPDX-License-Identifier: Apache-2.0
"""docs/how-to/behind-a-proxy.md: each proxy, with the configuration of the page, does the six things that the page promises."""

import itertools
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.client import Answer, Conn, chat, request
from tests.docs.blocks import of
from tests.docs.proxies import NAME, PAGE, Proxy
from tests.engines.scripted import ScriptedEngine
from tests.harness import Served, program, wait_for

KINDS = ("nginx", "caddy", "apache", "haproxy")
CLIENT = "127.0.0.5"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a certificate for the name on the page."""
    folder = Path(tempfile.mkdtemp(prefix="bf-"))
    told = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    subprocess.run(
        [program("openssl"), "req", *told.split(), "-keyout", "site.key", "-out", "site.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def behind(place: Path) -> Iterator[tuple[Served, ScriptedEngine]]:
    """Beffroi with the settings of the page, before a scripted engine."""
    (settings,) = (yaml.safe_load(block.text)["gateway"] for block in of(PAGE, "yaml"))
    models = [{"id": name, "targets": [{"engine": "e0"}]} for name in ("words", "org/words")]
    with (
        ScriptedEngine() as engine,
        Served(place / "data", {"e0": engine.url}, models=models, settings=settings) as served,
    ):
        yield served, engine


class Before:
    """A client of one proxy."""

    def __init__(self, proxy: Proxy, served: Served, engine: ScriptedEngine) -> None:
        self.proxy, self.served, self.engine = proxy, served, engine
        self.context = ssl.create_default_context(cafile=str(proxy.chain))

    def connect(self) -> Conn:
        """A connection to the proxy by TLS, from an address that is not the proxy's own."""
        conn = Conn.__new__(Conn)
        sock = socket.create_connection(("127.0.0.1", self.proxy.port), timeout=15, source_address=(CLIENT, 0))
        conn.sock = self.context.wrap_socket(sock, server_hostname=NAME)
        conn.rest, conn.interim = b"", []
        return conn

    def asked(self, content: str = "count to 3", headers: tuple[str, ...] = (), **more: Any) -> bytes:
        """A chat request."""
        return self.named(request(self.served.key, chat(content, **more), headers=headers))

    @staticmethod
    def named(data: bytes) -> bytes:
        """For the name of the site."""
        return data.replace(b"Host: beffroi.test", f"Host: {NAME}".encode())

    def ask(self, *args: Any, **more: Any) -> Answer:
        """One request and its answer."""
        with self.connect() as conn:
            conn.send(self.asked(*args, **more))
            return conn.answer()


@pytest.fixture(scope="module", params=KINDS)
def before(request: pytest.FixtureRequest, place: Path, behind: tuple[Served, ScriptedEngine]) -> Iterator[Before]:
    """Each proxy in turn."""
    proxy = Proxy(
        request.param, place / request.param, f"127.0.0.1:{behind[0].port}", place / "site.pem", place / "site.key"
    ).start()
    yield Before(proxy, *behind)
    proxy.stop()


def test_each_event_arrives_when_it_is_made(before: Before) -> None:
    """The first long before the last, and in as many pieces as there were moments."""
    before.engine.script("gap=0.15")
    moments: list[float] = []
    with before.connect() as conn:
        conn.send(before.asked("count to 6", stream=True))
        seen = 0

        def watch(answer: Answer) -> bool:
            nonlocal seen
            if (now := answer.body.count(b"\n\n")) > seen:
                seen = now
                moments.append(time.monotonic())
            return False

        answer = conn.answer(until=watch)
    assert answer.text == "1 2 3 4 5 6"
    assert answer.events[-1] == b"[DONE]"
    assert moments[-1] - moments[0] > 0.6
    apart = sum(later - earlier > 0.05 for earlier, later in itertools.pairwise(moments))
    assert apart >= 5, "events were held back and came together"


def test_the_client_s_address_is_known_and_cannot_be_invented(before: Before) -> None:
    """It is in the ledger, whatever the client says of itself."""
    told = [before.ask(), before.ask(headers=("X-Forwarded-For: 203.0.113.9",))]
    ids = [answer.get("x-request-id") or "" for answer in told]
    rows = before.served.settled(ids)
    assert [rows[one][-1]["address"] for one in ids] == [CLIENT, CLIENT]


def test_a_large_request_passes(before: Before) -> None:
    """Five megabytes."""
    assert before.ask("x " * 2_500_000).status == 200


def test_a_name_with_a_slash_passes(before: Before) -> None:
    """As a client encodes it in the path."""
    with before.connect() as conn:
        conn.send(before.named(request(before.served.key, path="/v1/models/org%2Fwords", method="GET")))
        answer = conn.answer("GET")
    assert (answer.status, answer.json["id"]) == (200, "org/words")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_engine(before: Before, stream: bool) -> None:
    """In the middle of a stream, and while it waits for a plain answer (Apache learns of that only when it writes)."""
    if before.proxy.kind == "apache" and not stream:
        pytest.skip("the page says so: Apache notices at its next write, and a plain answer is one write")
    aborted = before.engine.stats["aborted"]
    before.engine.script("gap=0.1" if stream else "first=6")
    conn = before.connect()
    conn.send(before.asked("count to 80", stream=stream))
    wait_for(lambda: before.engine.stats["open"] == 1, 5, "the engine works")
    if stream:
        conn.answer(until=lambda answer: b"2" in answer.body)
    conn.sock.close()
    wait_for(lambda: before.engine.stats["aborted"] == aborted + 1, 4, "the engine is told to stop")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "caddy"])
def test_what_the_page_sets_is_what_bounds_a_slow_answer(
    kind: str, place: Path, behind: tuple[Served, ScriptedEngine], request: pytest.FixtureRequest
) -> None:
    """With one second in the place of 610 an answer after two is given up: nothing else is shorter. Caddy has no bound."""
    proxy = Proxy(
        kind, place / f"{kind}-hasty", f"127.0.0.1:{behind[0].port}", place / "site.pem", place / "site.key", "1"
    ).start()
    request.addfinalizer(proxy.stop)
    hasty = Before(proxy, *behind)
    hasty.engine.script("first=2")
    assert hasty.ask().status in {502, 504}
    wait_for(lambda: hasty.engine.stats["open"] == 0, 5, "the engine is free")


def test_an_answer_that_takes_its_time_arrives(before: Before) -> None:
    """Two seconds in silence."""
    before.engine.script("first=2")
    assert before.ask().text == "1 2 3"


def test_haproxy_can_say_it_by_proxy_v2_instead(place: Path, request: pytest.FixtureRequest) -> None:
    """With the two changes that the page names, and without the header."""
    settings = {"trusted_proxies": ["127.0.0.9"], "proxy_protocol": True}  # the harness asks without PROXY v2
    with ScriptedEngine() as engine, Served(place / "v2", {"e0": engine.url}, settings=settings) as served:
        server = f"127.0.0.1:{served.port}"
        proxy = Proxy(
            "haproxy",
            place / "haproxy-v2",
            f"{server} source 127.0.0.9 send-proxy-v2",
            place / "site.pem",
            place / "site.key",
        )
        request.addfinalizer(proxy.start().stop)
        answer = Before(proxy, served, engine).ask()
        rows = served.settled([answer.get("x-request-id") or ""])
    assert [row[-1]["address"] for row in rows.values()] == [CLIENT]


def test_caddy_with_the_setting_that_the_page_warns_of_goes_on_for_nobody(
    place: Path, behind: tuple[Served, ScriptedEngine], request: pytest.FixtureRequest
) -> None:
    """So the warning is deserved."""
    backend = f"127.0.0.1:{behind[0].port} {{\n        flush_interval -1\n    }}"
    proxy = Proxy("caddy", place / "caddy-flush", backend, place / "site.pem", place / "site.key")
    request.addfinalizer(proxy.start().stop)
    client = Before(proxy, *behind)
    aborted = client.engine.stats["aborted"]
    client.engine.script("first=1.5")
    conn = client.connect()
    conn.send(client.asked())
    wait_for(lambda: client.engine.stats["open"] == 1, 5, "the engine works")
    conn.sock.close()
    wait_for(lambda: client.engine.stats["open"] == 0, 5, "the engine has ended")
    assert client.engine.stats["aborted"] == aborted
