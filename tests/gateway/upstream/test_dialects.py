# SPDX-License-Identifier: Apache-2.0
"""Every engine's stream reaches the client in one form, however the network cuts it."""

import json
import random
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client import chat
from tests.gateway.rig import PUBLIC, Rig, Run, head, stream
from tests.gateway.upstream import judge
from tests.gateway.upstream.dialects import ALL, vllm
from tests.gateway.upstream.events import Dialect

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("bell", "hour")]


def ask(rig: Rig, told: Dialect, *, asked: bool) -> Run:
    """The request that is answered with such a stream."""
    if "/chat/" not in told.path:
        body: dict[str, Any] = {"model": PUBLIC, "prompt": "hello", "stream": True}
        return rig.ask(body | ({"stream_options": {"include_usage": True}} if asked else {}), path=told.path)
    return rig.ask(chat("hello", model=PUBLIC, stream=True, usage=asked, **({"tools": TOOLS} if told.tools else {})))


@pytest.mark.parametrize("asked", [False, True], ids=["usage not asked", "usage asked"])
@pytest.mark.parametrize("name", ALL)
def test_a_stream_may_be_cut_at_any_byte(name: str, asked: bool) -> None:
    """Two reads, the cut between them everywhere in head, framing and events: the client gets whole events only."""
    told = ALL[name]
    rig = Rig(told.kind)
    data = stream(told.events)
    for at in range(1 if not asked else len(data) % 7, len(data), 1 if not asked else 7):
        run = ask(rig, told, asked=asked)
        run.feed(data[:at], data[at:])
        judge.whole(run, told, asked=asked)
        assert not run.waits


@pytest.mark.parametrize("name", ALL)
def test_a_stream_may_come_byte_by_byte_or_all_at_once(name: str) -> None:
    """Also with the events in one chunk, in a body of known length, or up to the close of the connection."""
    told = ALL[name]
    rig = Rig(told.kind)
    body = b"".join(told.events)
    framings = {
        "chunks": stream(told.events),
        "one chunk": head() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        "length": head(length=len(body)) + body,
        "close": head(close=True) + body,
    }
    for framing, data in framings.items():
        ends = [0, *(found.end() for found in re.finditer(rb"\r?\n\r?\n(?:\r\n)?", data)), len(data)]
        events = [data[start:end] for start, end in pairwise(ends) if start < end]
        for pieces in ([data], events, [data[i : i + 1] for i in range(len(data))]):
            run = ask(rig, told, asked=False)
            run.feed(*pieces)
            if framing == "close":
                run.close()
            judge.whole(run, told, asked=False)


@pytest.mark.parametrize("name", ALL)
def test_line_ends_of_crlf_and_lines_of_other_fields_change_nothing(name: str) -> None:
    """CRLF, comments, `event:` and `id:` lines, in pieces of any size."""
    told = ALL[name]
    rig = Rig(told.kind)
    dice = random.Random(name)
    dressed = [e.replace(b"\n", b"\r\n") for e in told.events]
    noisy = [b": ping\n\n" + b"event: message\nid: 7\n" + e for e in told.events]
    for events in (dressed, noisy, [e.replace(b"\n", b"\r\n") for e in noisy]):
        data = stream(events)
        for _ in range(30):
            run = ask(rig, told, asked=False)
            rest = data
            while rest:
                size = dice.choice((1, 2, 3, 7, 50, 300))
                run.feed(rest[:size])
                rest = rest[size:]
            judge.whole(run, told, asked=False)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_pieces_give_the_same_bytes_as_the_whole(data: st.DataObject) -> None:
    """What the client gets depends on what the engine said, not on how it was cut."""
    told = ALL[data.draw(st.sampled_from(sorted(ALL)))]
    asked = data.draw(st.booleans())
    wire = stream(told.events)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    rig = Rig(told.kind)
    run = ask(rig, told, asked=asked)
    run.feed(*(wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)))
    judge.whole(run, told, asked=asked)


def test_the_fast_way_and_the_slow_way_say_the_same() -> None:
    """The same events, once recognised as regular, once forced to be decoded one by one."""
    told = vllm()
    fast = Rig("vllm").ask()
    fast.feed(*[head(), *(b"%x\r\n%b\r\n" % (len(e), e) for e in told.events), b"0\r\n\r\n"])
    slow = Rig("ollama").ask()
    slow.feed(*[head(), *(b"%x\r\n%b\r\n" % (len(e), e) for e in told.events), b"0\r\n\r\n"])

    def said(run: Run) -> list[Any]:
        return [{k: v for k, v in c.items() if k not in ("id", "backend", "created")} for c in judge.chunks(run)]

    assert said(fast) == said(slow)


def test_a_model_that_the_engine_knows_by_our_name_goes_the_same_way() -> None:
    """Nothing to rename: only the id changes."""
    rig = Rig("vllm")
    told = vllm(PUBLIC)
    data = stream(told.events)
    for at in range(1, len(data), 5):
        run = rig.ask()
        run.feed(data[:at], data[at:])
        judge.whole(run, told, asked=False)


def test_text_that_looks_like_the_wire_is_text() -> None:
    """Ids, model names, reasons and errors that a model writes are quoted in its JSON, and never touched."""
    rig = Rig("vllm")
    told = vllm()
    nasty = '"id":"chatcmpl-7f2a","model":"org/Upstream-7B","finish_reason":"stop","error":{} data: [DONE]\n\ndata: {}'
    spoken = told.events[1].replace(b'"Le"', json.dumps(nasty).encode())
    assert spoken != told.events[1]
    told.events[1] = spoken
    told.text = nasty + told.text[2:]
    data = stream(told.events)
    for at in range(1, len(data), 3):
        run = rig.ask()
        run.feed(data[:at], data[at:])
        judge.whole(run, told, asked=False)


def test_an_old_client_gets_the_same_events_up_to_the_close() -> None:
    """HTTP/1.0 knows no chunks."""
    rig = Rig("vllm")
    told = vllm()
    run = rig.ask(version="1.0")
    run.feed(stream(told.events))
    raw = run.sent.partition(b"\r\n\r\n")[2]
    assert b"transfer-encoding" not in run.sent.lower()
    assert raw.endswith(b"data: [DONE]\n\n") and raw.startswith(b"data: {")
    assert run.transport.closed
