# SPDX-License-Identifier: Apache-2.0
"""curl: what a person types."""

import json
import subprocess
from typing import Any

import pytest

from tests.compat.conftest import Gateway
from tests.harness import program

BODY = {"model": "beffroi-tiny", "messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 16}


class Curl:
    """The program, with the address and the key."""

    def __init__(self, gateway: Gateway) -> None:
        self._base, self._key = gateway.url, gateway.key

    def __call__(self, path: str, *options: str, body: Any = None, stdin: str | None = None, key: bool = True) -> str:
        """What it prints."""
        command = [program("curl"), "-sS", "--noproxy", "*", "--max-time", "30", *options]
        command += ["-H", f"Authorization: Bearer {self._key}"] if key else []
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run([*command, self._base + path], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def curl(gateway: Gateway) -> Curl:
    """The real one."""
    return Curl(gateway)


def test_an_answer_and_a_stream(curl: Curl) -> None:
    """As the page that `serve` prints says."""
    assert json.loads(curl("/chat/completions", body=BODY))["choices"][0]["message"]["content"] == "1 + 1 = 2"
    streamed = curl("/chat/completions", "-N", body=BODY | {"stream": True})
    assert streamed.startswith("data: {")
    assert streamed.endswith("data: [DONE]\n\n")


def test_large_and_piped_uploads(curl: Curl) -> None:
    """Over a megabyte curl asks first (`Expect: 100-continue`); from a pipe it sends chunks."""
    large = json.dumps(BODY) + " " * 1_200_000
    typed = ("-H", "Content-Type: application/json")
    answer = curl("/chat/completions", "-i", *typed, "-H", "Expect: 100-continue", "--data-binary", "@-", stdin=large)
    assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") or "HTTP/1.1 100" in answer[:40]
    assert '"choices"' in answer
    chunked = ("-H", "Transfer-Encoding: chunked", "-X", "POST", "-T", "-")
    assert '"choices"' in curl("/chat/completions", *typed, *chunked, stdin=json.dumps(BODY))


def test_what_is_forgotten_is_told(curl: Curl) -> None:
    """No key, no content type, no such model: the status, and an error that says so."""
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    assert curl("/models", *status, key=False) == "401"
    form = json.loads(curl("/chat/completions", "-d", json.dumps(BODY)))  # curl then calls it a form
    assert "Content-Type" in form["error"]["message"]
    unknown = json.loads(curl("/chat/completions", body=BODY | {"model": "no-such"}))
    assert unknown["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("option", ["--http1.0", "--http2", "--compressed", "-k"])
def test_options_that_change_how_it_speaks(curl: Curl, option: str) -> None:
    """An older version, an offer to upgrade, a wish for compression."""
    assert "beffroi-tiny" in curl("/models", option)


def test_only_the_head(curl: Curl) -> None:
    """`-I` shows the headers and waits for no body."""
    head = curl("/models", "-I").lower()
    assert head.startswith("http/1.1 200")
    assert "x-request-id: req_" in head
