# SPDX-License-Identifier: Apache-2.0
"""The embedded engine, for real: llama.cpp on the model that we ship, started as the supervisor starts it."""

import contextlib
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beffroi.embedded import settings
from beffroi.supervisor import engines
from beffroi.supervisor.process import Child
from tests.harness import ROOT, wait_for

Vector = list[float]


class Engine:
    """A started engine."""

    def __init__(self, data: Path) -> None:
        self.told = settings.arguments(data)
        self.child = Child("engine", "beffroi.embedded.process", self.told, announces=True)
        self.start()

    def start(self) -> None:
        self.child.start()
        wait_for(lambda: self.child.hear() or bool(self.child.ready), 20, "the engine is ready")

    def end(self, number: int) -> int:
        """Signal it; its status."""
        self.child.signal(number)
        wait_for(self.child.reap, 5, "the engine ended")
        return self.child.status

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("engine", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(self.told["host"])
        return connection

    def post(self, path: str, body: Any) -> Any:
        with contextlib.closing(self.connect()) as connection:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)

    def embed(self, *texts: str) -> list[Vector]:
        listed = self.post("/v1/embeddings", {"input": list(texts)})["data"]
        return [entry["embedding"] for entry in sorted(listed, key=lambda entry: entry["index"])]


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    """One engine in a data directory of its own."""
    engine = Engine(folder)
    yield engine
    if engine.child.pid:
        engine.end(signal.SIGKILL)


def cosine(one: Vector, other: Vector) -> float:
    return (
        math.sumprod(one, other) / math.hypot(*one) / math.hypot(*other)
        if hasattr(math, "sumprod")
        else (sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other))
    )


def test_one_server_answers_chat_and_embeddings(engine: Engine) -> None:
    """The answer is right, counted by the engine, and the same text always has the same vector."""
    question = {"role": "user", "content": "What is the capital of France?"}
    answer = engine.post("/v1/chat/completions", {"messages": [question]})
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["usage"]["completion_tokens"] == 10
    texts = ["the cat is here", "Bonjour le monde, je suis là et je reste.", "no"]
    together = engine.embed(*texts)
    assert len(together[0]) == 128
    for text, vector in zip(texts, together, strict=True):
        assert cosine(vector, engine.embed(text)[0]) > 0.9999
    assert cosine(together[0], together[1]) < 0.9


def test_it_is_described_as_it_answers(engine: Engine) -> None:
    """The resources that the gateway gets agree with the engine's own model list."""
    resources = settings.resources(engine.told)
    found = engines.ask(resources["engines"][0]["url"], timeout=5)
    assert found.kind == resources["engines"][0]["kind"]
    model = resources["models"][0]
    assert [(one.id, one.length) for one in found.models] == [(model["id"], model["max_model_len"])]


def test_it_ends_at_once_with_a_stream_open(engine: Engine) -> None:
    """Status 0, within a second, and the client sees the end."""
    with contextlib.closing(engine.connect()) as connection:
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "stream": True, "max_tokens": 1000}
        connection.request("POST", "/v1/chat/completions", json.dumps(body | {"ignore_eos": True}))
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data:")
        began = time.monotonic()
        assert engine.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 1
        with contextlib.suppress(http.client.IncompleteRead, ConnectionResetError):
            answer.read()


def test_the_next_one_takes_the_socket_of_one_that_was_killed(engine: Engine) -> None:
    """The dead one's socket file is in nobody's way."""
    engine.end(signal.SIGKILL)
    assert Path(engine.told["host"]).exists()
    engine.start()
    assert len(engine.embed("hello")) == 1


def test_a_data_directory_whose_path_cannot_be_a_url_gets_a_loopback_port(folder: Path) -> None:
    """Spaces, accents, or too long for a socket."""
    for name in ("with space", "données", "x" * 90, "a?b"):
        told = settings.arguments(folder / name)
        assert (told["host"], told["port"] > 0) == ("127.0.0.1", True)
        assert settings.resources(told)["engines"][0]["url"] == f"http://127.0.0.1:{told['port']}"
    assert os.fsencode(settings.arguments(folder)["host"]) == os.fsencode(folder / "engine.sock")


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("raise ModuleNotFoundError(name='xllamacpp')", "pip install 'beffroi[embedded]'"),
        (
            "raise ImportError('libgomp.so.1: cannot open shared object file', name='xllamacpp')",
            "apt-get install libgomp1",
        ),
    ],
)
def test_an_engine_that_cannot_be_loaded_says_what_is_missing(tmp_path: Path, module: str, says: str) -> None:
    """The extra where it is not installed; the library of the system where that is what it lacks, as on a bare Debian."""
    (tmp_path / "xllamacpp.py").write_text(module)
    told = {"model": "none", "alias": "none", "host": "127.0.0.1", "port": 1, "ready_fd": 1}
    done = subprocess.run(
        [sys.executable, "-c", "from beffroi.embedded.process import main; main()"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}", "BEFFROI_CHILD": json.dumps(told)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr and "--engine" in done.stderr
