# SPDX-License-Identifier: Apache-2.0
"""The scripted engine does what its scripts say; were it wrong, tests that lean on it would prove nothing."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import ledger
from tests.engines.answers import smallest
from tests.engines.faults import GARBAGE, parse, parse_queue
from tests.engines.scripted import ScriptedEngine
from tests.harness import wait_for

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
    },
}


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """A sound engine on a free port."""
    with ScriptedEngine() as engine:
        yield engine


def ask(
    engine: ScriptedEngine, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **body: Any
) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    if "chat" in path:
        body = {"model": "words", "messages": [{"role": "user", "content": "hello there"}]} | body
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def events(data: bytes) -> list[Any]:
    """The data of a stream's events, [DONE] as None."""
    found = [line[5:].strip() for line in data.splitlines() if line.startswith(b"data:")]
    return [None if d == b"[DONE]" else json.loads(d) for d in found]


def text(chunks: list[Any]) -> str:
    """The content of the first choice."""
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c and c["choices"])


def test_the_same_request_gets_the_same_words_plain_and_streamed(engine: ScriptedEngine) -> None:
    """Deterministic answers are what makes streams comparable."""
    _, plain = ask(engine)
    _, stream = ask(engine, stream=True)
    assert json.loads(plain)["choices"][0]["message"]["content"] == text(events(stream)) != ""
    assert events(stream)[-1] is None


def test_counting_is_honoured_and_bounded(engine: ScriptedEngine) -> None:
    """`count to N` gives numbers; max_tokens cuts them with finish_reason length."""
    _, body = ask(engine, messages=[{"role": "user", "content": "Please count to 5"}])
    assert json.loads(body)["choices"][0]["message"]["content"] == "1 2 3 4 5"
    _, body = ask(engine, messages=[{"role": "user", "content": "Please count to 50"}], max_tokens=3)
    answer = json.loads(body)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 3)


def test_a_stop_sequence_ends_the_text_before_it(engine: ScriptedEngine) -> None:
    """The sequence itself is not part of the answer."""
    _, body = ask(engine, messages=[{"role": "user", "content": "count to 9"}], stop=[" 4"])
    assert json.loads(body)["choices"][0]["message"]["content"] == "1 2 3"


def test_a_required_tool_is_called_with_arguments_that_obey_its_schema(engine: ScriptedEngine) -> None:
    """tool_choice required takes the first tool, a named one its own; streamed deltas add up to the same call."""
    _, body = ask(engine, tools=[TOOL], tool_choice="required")
    call = json.loads(body)["choices"][0]["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("look", {"where": "x"})
    _, body = ask(engine, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}}, stream=True)
    deltas = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in events(body)
        if c and "tool_calls" in c["choices"][0]["delta"]
    ]
    assert json.loads("".join(d["function"]["arguments"] for d in deltas)) == {"where": "x"}
    assert all(d["index"] == 0 for d in deltas)


def test_the_smallest_instance_obeys_the_schema() -> None:
    """References, alternatives, enumerations and bounds."""
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"enum": ["x", "y"]}, "c": {"anyOf": [{"type": "null"}, {"type": "string"}]}, "d": {"type": "array", "items": {"type": "boolean"}, "minItems": 2}},
        "required": ["a", "b", "c", "d"],
        "$defs": {"n": {"type": "integer", "minimum": 3}},
    }  # fmt: skip
    assert smallest(schema) == {"a": 3, "b": "x", "c": None, "d": [False, False]}


def test_usage_is_streamed_only_when_asked_for(engine: ScriptedEngine) -> None:
    """As OpenAI's: a last chunk without choices."""
    _, body = ask(engine, stream=True)
    assert not any(c and "usage" in c for c in events(body))
    _, body = ask(engine, stream=True, stream_options={"include_usage": True})
    assert events(body)[-2]["choices"] == []
    assert events(body)[-2]["usage"]["completion_tokens"] == engine.entries[-1].completion == 12


def test_reasoning_choices_and_logprobs_are_counted_and_given(engine: ScriptedEngine) -> None:
    """N choices, four reasoning tokens each, a log probability for each token of text."""
    _, body = ask(engine, n=2, reasoning_effort="low", logprobs=True, top_logprobs=2)
    answer = json.loads(body)
    assert answer["usage"]["completion_tokens"] == 2 * 16
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 8
    assert answer["choices"][1]["message"]["reasoning_content"].startswith("thought0")
    assert len(answer["choices"][0]["logprobs"]["content"]) == 12
    assert len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2


def test_embeddings_depend_on_their_text_alone_and_legacy_completions_answer(engine: ScriptedEngine) -> None:
    """Alone or in a batch, as a list of numbers or base64; token arrays are inputs too."""
    alone = json.loads(ask(engine, "/v1/embeddings", model="e", input="one text", dimensions=4)[1])["data"][0][
        "embedding"
    ]
    batch = json.loads(ask(engine, "/v1/embeddings", model="e", input=["other", "one text"], dimensions=4)[1])["data"][
        1
    ]["embedding"]
    assert alone == batch
    assert len(alone) == 4
    packed = json.loads(ask(engine, "/v1/embeddings", model="e", input=[[1, 2], [3]], encoding_format="base64")[1])[
        "data"
    ]
    assert len(packed) == 2
    assert isinstance(packed[0]["embedding"], str)
    assert (
        json.loads(ask(engine, "/v1/completions", model="words", prompt="count to 3")[1])["choices"][0]["text"]
        == "1 2 3"
    )


def test_random_counts_are_reproducible_and_stand_in_the_log(tmp_path: Path) -> None:
    """The log agrees with the usage that the client saw, request by request, and two seeds alike draw alike."""
    seen: list[list[tuple[int, int, int]]] = []
    for turn in range(2):
        with ScriptedEngine(seed=7, log=tmp_path / str(turn)) as engine:
            usages = [json.loads(ask(engine, headers={"x-request-id": f"r{i}"})[1])["usage"] for i in range(5)]
        entries = ledger.read(tmp_path / str(turn))
        assert [e.request_id for e in entries] == ["r0", "r1", "r2", "r3", "r4"]
        assert {e.state for e in entries} == {"completed"}
        seen.append(
            [(u["prompt_tokens"], u["completion_tokens"], u["prompt_tokens_details"]["cached_tokens"]) for u in usages]
        )
        assert seen[-1] == [(e.prompt, e.completion, e.cached) for e in entries]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1


def test_a_client_that_leaves_is_noticed_and_what_was_made_is_logged(engine: ScriptedEngine) -> None:
    """The count of tokens made lies between nothing and everything, the entry says aborted."""
    engine.always("gap=0.01")
    with socket.create_connection(("127.0.0.1", engine.port)) as client:
        body = json.dumps(
            {"model": "words", "stream": True, "messages": [{"role": "user", "content": "count to 500"}]}
        ).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        time.sleep(0.2)
        client.recv(65536)
    deadline = time.monotonic() + 2
    while engine.stats["open"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.stats == {"requests": 1, "completed": 0, "aborted": 1, "open": 0}
    assert 0 < engine.entries[0].made < 500


def test_faults_are_taken_from_the_queue_then_from_the_model_then_the_standing_one(engine: ScriptedEngine) -> None:
    """One request, one fault."""
    engine.script("status=429;message=slow down*2", "status=500;code_number")
    engine.always("status=503")
    assert [ask(engine, model="words!status=400")[0] for _ in range(4)] == [429, 429, 500, 400]
    assert ask(engine)[0] == 503
    engine.always()
    assert ask(engine)[0] == 200


def test_a_fault_that_does_not_exist_is_refused() -> None:
    """A misspelt script must not pass for a sound answer."""
    for wrong in ("clsoe", "garbage=nothing", "framing=other", "cut_after=x"):
        with pytest.raises(ValueError, match=r"no such fault|invalid literal"):
            parse(wrong)
    assert [f.cut_after for f in parse_queue("cut_after=1|*2|cut_after=2;rst")] == [1, -1, -1, 2]


@pytest.mark.parametrize("fault", ["close", "close;rst", "head_only", "cut_after=0", "cut_after=3", "cut_after=3;rst"])
def test_it_breaks_where_it_was_told_to(engine: ScriptedEngine, fault: str) -> None:
    """Closed before the head, after it, or after exactly so many tokens."""
    engine.script(fault)
    got = b""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=5) as client:
        body = json.dumps(
            {"model": "words", "stream": True, "messages": [{"role": "user", "content": "count to 50"}]}
        ).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        reset = False
        try:
            while data := client.recv(65536):
                got += data
        except ConnectionResetError:
            reset = True
    assert reset == ("rst" in fault)
    tokens = re.findall(rb'"content":" ?(\d+)"', got)
    assert len(tokens) == (3 if "3" in fault else 0)
    assert got.startswith(b"HTTP/1.1 200") != fault.startswith("close")
    assert b"[DONE]" not in got


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_what_its_name_says(engine: ScriptedEngine, garbage: str) -> None:
    """Each kind changes the bytes in its own way; framing stays sound, so that the stream is read to its end."""
    ask_it: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    _, sound = ask(engine, **ask_it)
    engine.script(garbage)
    _, data = ask(engine, **ask_it)
    same_bytes = {"byte_by_byte", "two_writes", "many_in_one"}
    changed = data.replace(b"%024x" % 2, b"%024x" % 1) != sound
    assert changed == (garbage not in same_bytes)
    found: dict[str, Callable[[], bool]] = {
        "half_utf8": lambda: b'\xc3"' in data,
        "long_line": lambda: max(map(len, data.splitlines())) > 10 << 20,
        "crlf": lambda: data.count(b"\r\n\r\n") == data.count(b"\n\r\n") > 10,
        "no_done": lambda: b"[DONE]" not in data,
        "usage_missing": lambda: b"usage" not in data,
        "usage_zero": lambda: b'"completion_tokens":0' in data,
        "usage_twice": lambda: data.count(b'"usage"') == 2,
        "usage_in_last": lambda: (
            events(data)[-2]["choices"][0]["finish_reason"] == "stop" and "usage" in events(data)[-2]
        ),
        "after_finish": lambda: text(events(data)).endswith(" late"),
        "no_space": lambda: b"data:{" in data,
    }
    if garbage in found:
        assert found[garbage]()


def test_streams_can_be_framed_by_length_or_by_close(engine: ScriptedEngine) -> None:
    """Both carry the same events as chunks do."""
    engine.script("framing=length", "framing=close", "")
    bodies = [events(ask(engine, stream=True)[1]) for _ in range(3)]
    assert text(bodies[0]) == text(bodies[1]) == text(bodies[2])


def test_tool_calls_can_be_given_as_some_engines_do(engine: ScriptedEngine) -> None:
    """Arguments as an object; no id, index or type."""
    engine.script("tool_object;tool_bare")
    call = json.loads(ask(engine, tools=[TOOL], tool_choice="required")[1])["choices"][0]["message"]["tool_calls"][0]
    assert call == {"function": {"name": "look", "arguments": {"where": "x"}}}


def test_requests_are_kept_as_they_came(engine: ScriptedEngine) -> None:
    """Header case, order and raw body, chunked bodies decoded."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=5) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-B: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.sendall(b'5\r\n{"mod\r\n16\r\nel":"m","messages":[]}\r\n0\r\n\r\n')
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    received = engine.generations()[0]
    assert received.headers[:3] == [("Host", "x"), ("X-B", "1"), ("x-a", "2")]
    assert received.body == b'{"model":"m","messages":[]}'


def test_it_runs_as_a_process_and_takes_faults_over_http(tmp_path: Path) -> None:
    """The same engine for load tests that need a core of their own; a Unix socket works as well."""
    log = tmp_path / "log"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.scripted", "--log", str(log), "--seed", "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout
        line = child.stdout.readline()
        engine = ScriptedEngine(port=int(line.rpartition(":")[2]))
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=5)
        connection.request("GET", "/control?faults=status=500|close&standing=gap=0.001")
        assert json.loads(connection.getresponse().read()) == {"queued": 2}
        connection.close()
        assert ask(engine)[0] == 500
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(engine)
        assert ask(engine)[0] == 200
        # The client has its last byte before the engine has written its line.
        wait_for(lambda: ledger.read(log)[-1].state != "open", 5, "the line of the last request")
        assert [e.state for e in ledger.read(log)] == ["failed", "failed", "completed"]
    finally:
        os.kill(child.pid, signal.SIGTERM)
        child.communicate(timeout=10)
    with ScriptedEngine(uds=tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b'"id": "words"' in client.recv(65536)


@pytest.mark.alone
def test_a_thousand_streams_are_served_at_once(engine: ScriptedEngine) -> None:
    """The engine must not be what a test of a thousand streams trips over."""
    engine.always("gap=0.2")
    body = json.dumps(
        {"model": "words", "stream": True, "messages": [{"role": "user", "content": "count to 3"}]}
    ).encode()
    clients = []
    for _ in range(1000):
        client = socket.create_connection(("127.0.0.1", engine.port), timeout=20)
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        clients.append(client)
    for client in clients:
        data = b""
        while b"[DONE]" not in data:
            data += client.recv(65536)
        client.close()
    assert engine.stats["requests"] == 1000
