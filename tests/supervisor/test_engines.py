# SPDX-License-Identifier: Apache-2.0
"""Which engines are found, and which are none. The model lists are recorded shapes of each engine's answer."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.supervisor import engines
from beffroi.supervisor.errors import StartError
from tests.harness import free_port

VLLM = {"object": "list", "data": [{"id": "mistral", "object": "model", "owned_by": "vllm", "max_model_len": 32768}]}
SGLANG = {"object": "list", "data": [{"id": "qwen", "object": "model", "owned_by": "sglang", "max_model_len": 4096}]}
OLLAMA = {"object": "list", "data": [{"id": "llama3:8b", "object": "model", "created": 1, "owned_by": "library"}]}
LM_STUDIO = {"object": "list", "data": [{"id": "gemma", "object": "model", "owned_by": "organization_owner"}]}
LLAMACPP = {
    "object": "list",
    "data": [{"id": "tiny", "owned_by": "llamacpp", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}],
}
Start = Callable[..., int]


class Door:
    """A server that answers every connection with the same bytes."""

    def __init__(self, answer: bytes, *, pause: float = 0.0, port: int = 0, path: Path | None = None) -> None:
        self.asked: list[bytes] = []
        self._answer, self._pause = answer, pause
        self._door = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind(str(path) if path else ("127.0.0.1", port))
        self._door.listen()
        self.port = 0 if path else self._door.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._door.settimeout(0.05)
        while not self._ended.is_set():
            try:
                client, _ = self._door.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(5)
                self.asked.append(client.recv(4096))
                try:
                    for byte in self._answer if self._pause else ():
                        client.sendall(bytes([byte]))
                        if self._ended.wait(self._pause):
                            break
                    else:
                        client.sendall(self._answer)
                except OSError:
                    pass

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._door.close()


def http_answer(body: Any, status: str = "200 OK", server: str = "x") -> bytes:
    """A whole answer that ends with the connection."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status}\r\nServer: {server}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
        + text
    )


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    """Opens doors that close with the test."""
    doors: list[Door] = []

    def start(answer: bytes, **options: Any) -> Door:
        doors.append(Door(answer, **options))
        return doors[-1]

    yield start
    for one in doors:
        one.close()


@pytest.mark.parametrize(
    ("listed", "server", "kind", "length"),
    [
        (VLLM, "uvicorn", "vllm", 32768),
        (SGLANG, "uvicorn", "sglang", 4096),
        (OLLAMA, "", "ollama", None),
        (LM_STUDIO, "", "openai", None),
        (LLAMACPP, "llama.cpp", "llamacpp", 2048),
    ],
)
def test_an_engine_is_told_by_its_answers_and_not_by_its_port(
    door: Callable[..., Door], listed: Any, server: str, kind: str, length: int | None
) -> None:
    """Kind, models and context length are those of its own list."""
    port = door(http_answer(listed, server=server)).port
    found = engines.on_loopback({"anything": port})
    assert found == [
        engines.Found(kind, f"http://127.0.0.1:{port}", kind, (engines.Served(listed["data"][0]["id"], length),))
    ]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"<html>"),
        http_answer({"data": []}),
        http_answer({"data": "many"}),
        http_answer({"data": [1]}),
        http_answer({"data": [{"id": "has spaces"}]}),
        http_answer([]),
        http_answer(b"[" * 100_000),
        http_answer(VLLM, status="401 Unauthorized"),
        http_answer(VLLM, status="404 Not Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_what_answers_anything_but_a_model_list_is_no_engine(door: Callable[..., Door], answer: bytes) -> None:
    """Many things listen on port 8080."""
    assert engines.on_loopback({"anything": door(answer).port}) == []


def test_the_whole_look_takes_less_than_a_second_whatever_answers(door: Callable[..., Door]) -> None:
    """A closed port, one that says nothing, one that drips, and one engine, which is found."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    ports = {
        "closed": free_port(),
        "silent": silent.getsockname()[1],
        "drips": door(http_answer(VLLM), pause=0.3).port,
        "engine": door(http_answer(OLLAMA)).port,
    }
    began = time.monotonic()
    found = engines.on_loopback(ports)
    assert time.monotonic() - began < 1.0
    silent.close()
    assert [engine.kind for engine in found] == ["ollama"]


def test_an_engine_that_is_named_gets_time_to_start(door: Callable[..., Door]) -> None:
    """The URL may carry `/v1` or lack its scheme."""
    port = free_port()
    later = threading.Timer(0.5, lambda: door(http_answer(VLLM), port=port))
    later.start()
    found = engines.named((f"127.0.0.1:{port}/v1/",), wait=5)
    later.join()
    assert (found[0].url, found[0].kind) == (f"http://127.0.0.1:{port}", "vllm")


def test_an_engine_on_a_unix_socket_is_asked_there(door: Callable[..., Door], folder: Path) -> None:
    """`unix:/path`."""
    door(http_answer(LLAMACPP, server="llama.cpp"), path=folder / "s")
    assert engines.named((f"unix:{folder}/s",))[0].kind == "llamacpp"


def test_a_prefix_in_the_url_is_kept(door: Callable[..., Door]) -> None:
    """Engines behind a path of a proxy."""
    one = door(http_answer(VLLM))
    assert engines.named((f"http://127.0.0.1:{one.port}/gpu/",))[0].url.endswith("/gpu")
    assert one.asked[0].startswith(b"GET /gpu/v1/models HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http_answer(VLLM, status="401 Unauthorized"), "wants a key"),
        (http_answer(VLLM, status="500 Oops"), "status 500"),
        (http_answer({"data": []}), "load a model first"),
        (http_answer(b"hello"), "no model list"),
    ],
)
def test_a_named_engine_that_does_not_serve_is_an_error_with_its_reason(
    door: Callable[..., Door], answer: bytes, reason: str
) -> None:
    """And what an engine is."""
    with pytest.raises(StartError, match=reason):
        engines.named((f"http://127.0.0.1:{door(answer).port}",), wait=0)


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://user:pass@host:1", "http://host:99999", "unix:x", "http://h/?q"]
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    """Status 2: what was asked for is wrong."""
    with pytest.raises(StartError, match="no engine's URL") as refused:
        engines.named((url,))
    assert refused.value.code == 2


def test_a_model_that_two_engines_list_has_both_in_its_pool() -> None:
    """Under its smaller context, and engines of one kind under names that differ."""
    small = engines.Found("vllm", "http://a:1", "vllm", (engines.Served("m", 100),))
    large = engines.Found("vllm-2", "http://b:1", "vllm", (engines.Served("m", 200), engines.Served("n", None)))
    assert engines.resources([small, large]) == {
        "engines": [
            {"name": "vllm", "url": "http://a:1", "kind": "vllm", "machine": "a"},
            {"name": "vllm-2", "url": "http://b:1", "kind": "vllm", "machine": "b"},
        ],
        "models": [
            {
                "id": "m",
                "targets": [{"engine": "vllm", "model": "m"}, {"engine": "vllm-2", "model": "m"}],
                "max_model_len": 100,
            },
            {"id": "n", "targets": [{"engine": "vllm-2", "model": "n"}]},
        ],
    }


def test_engines_of_one_kind_get_names_that_differ(door: Callable[..., Door]) -> None:
    """`vllm`, `vllm-2`."""
    urls = tuple(f"http://127.0.0.1:{door(http_answer(VLLM)).port}" for _ in range(3))
    assert [engine.name for engine in engines.named(urls)] == ["vllm", "vllm-2", "vllm-3"]


def test_of_configured_engines_those_that_take_no_connection_are_told(tmp_path: Path) -> None:
    """Whatever the others answer: a key may be wanted, a model may be loading."""
    with socket.socket() as door, socket.socket(socket.AF_UNIX) as local:
        door.bind(("127.0.0.1", 0))
        local.bind(str(tmp_path / "s"))
        for one in (door, local):
            one.listen()
        there = [f"http://127.0.0.1:{door.getsockname()[1]}/prefix", f"unix:{tmp_path}/s"]
        gone = [f"https://127.0.0.1:{free_port()}", f"unix:{tmp_path}/none", "http://no-such-host.invalid:80"]
        found = engines.closed([*there, *gone])
    assert list(found) and set(found) <= set(gone)
    assert found[gone[0]] == "Connection refused"
    assert found[gone[1]] == "No such file or directory"
