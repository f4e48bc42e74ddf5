# SPDX-License-Identifier: Apache-2.0
"""The HTTP page is what a running Beffroi does: its routes, headers and statuses, asked for on sockets."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from beffroi.gateway.reader import _HEADERS
from tests.client import Answer, call, chat, request
from tests.docs.blocks import of
from tests.gateway.door import Door, opened
from tests.harness import program
from tests.house import http


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One worker before a scripted engine."""
    with opened() as door:
        yield door


def test_every_header_that_is_read_is_on_the_page() -> None:
    """And none that is not."""
    assert {spelling.decode().lower() for spelling in _HEADERS} == set(http.SENT)


def test_every_listed_path_answers_each_of_its_methods_and_no_other(door: Door) -> None:
    """With and without /v1; the other methods are 405 with what is allowed."""
    for methods, path, _ in http.routes():
        for spelling in {path, path.removeprefix("/v1")}:
            target = spelling.replace("{id}", "words")
            body = {"model": "words", "input": "a", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
            for method in methods.split(", "):
                sent = request(door.key, body if method == "POST" else None, path=target, method=method)
                assert call(door.address, sent, method=method).status == 200, f"{method} {target}"
            other = "DELETE" if "POST" in methods else "POST"
            refused = call(door.address, request(door.key, {}, path=target, method=other))
            assert (refused.status, refused.get("allow")) == (405, methods), target


def test_no_other_path_is_served(door: Door) -> None:
    """404 with a key, 401 without one."""
    for path in ("/", "/v1", "/v2/chat/completions", "/v1/chat", "/metrics", "/api/v1/keys", "/v1/models/words/x"):
        assert call(door.address, request(door.key, path=path, method="GET")).status == 404, path
        assert call(door.address, request(None, path=path, method="GET")).status == 401, path


def test_every_header_of_every_kind_of_answer_is_on_the_page(door: Door) -> None:
    """Plain answers, streams, each sort of refusal."""
    limited = door.served.new_key(requests_per_minute=1)
    kinds: dict[str, Answer] = {
        "plain": call(door.address, request(limited, chat())),
        "stream": call(door.address, request(door.key, chat(stream=True))),
        "429": call(door.address, request(limited, chat())),
        "401": call(door.address, request(None, chat())),
        "405": call(door.address, request(door.key, {}, method="PUT")),
        "malformed": call(door.address, b"GET / HTTP/1.1\r\nbad header\r\n\r\n", method="GET"),
    }
    seen = {name for answer in kinds.values() for name, _ in answer.headers}
    assert seen == set(http.ANSWERED)
    known = {str(status) for status, _, _ in http.statuses()}
    assert {str(answer.status) for answer in kinds.values()} <= known


def test_the_command_of_the_page_answers(door: Door) -> None:
    """docs/reference/http.md: what is on control.sock is there for its owner."""
    program("curl")
    (block,) = of("docs/reference/http.md", "sh")
    (door.served.data.parent / ".beffroi").symlink_to("data")
    done = subprocess.run(
        ["bash", "-ec", block.text], cwd=door.served.data.parent, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["models"] == ["words"]
