# SPDX-License-Identifier: Apache-2.0
"""Streams as engines of the field put them on the wire: their key order, spacing, nulls, role and usage chunks.

In: nothing. Out: for each dialect the SSE events of one short answer, as bytes, with what a client must make of them.
The llama.cpp ones were taken from the engine that we embed; the others follow what each engine's users have published.
"""

import json
from typing import Any

from tests.gateway.rig import UPSTREAM
from tests.gateway.upstream.events import CREATED, DONE, PIECES, USAGE, Dialect, event


def vllm(model: str = UPSTREAM, *, delta_extra: dict[str, Any] | None = None) -> Dialect:
    """The id first, `stop_reason` on the last, usage in a chunk without choices."""

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
        base = {"id": "chatcmpl-7f2a", "object": "chat.completion.chunk", "created": CREATED, "model": model}
        return event({**base, "choices": [choice]})

    usage = {
        "id": "chatcmpl-7f2a",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": [],
    }
    counted = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    return Dialect(
        "vllm",
        [
            chunk({"role": "assistant", "content": "", **(delta_extra or {})}),
            *(chunk({"content": piece}) for piece in PIECES),
            chunk({"content": ""}, "stop", stop_reason=None),
            event({**usage, "usage": counted}),
            DONE,
        ],
        tokens=(7, 4, 6, 0),
    )


def vllm_running() -> Dialect:
    """With `continuous_usage_stats` each chunk carries the usage so far; and logprobs were asked for."""
    events = []
    base = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}
    for number, piece in enumerate(("", *PIECES)):
        delta = {"content": piece} if number else {"role": "assistant", "content": ""}
        logs = {"content": [{"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}]}
        choice = {"index": 0, "delta": delta, "logprobs": logs if number else None, "finish_reason": None}
        running = {"prompt_tokens": 11, "total_tokens": 11 + number, "completion_tokens": number}
        events.append(event({**base, "choices": [choice], "usage": running}))
    last = {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    events.append(event({**base, "choices": [last], "usage": USAGE}))
    return Dialect("vllm", [*events, event({**base, "choices": [], "usage": USAGE}), DONE])


def vllm_reasoning() -> Dialect:
    """A reasoning parser: thoughts in `reasoning_content`, counted apart."""
    base = {"id": "chatcmpl-8", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return event({**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    counted = {
        **USAGE,
        "completion_tokens": 9,
        "total_tokens": 20,
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    return Dialect(
        "vllm",
        [
            chunk({"role": "assistant", "content": "", "reasoning_content": None}),
            *(chunk({"reasoning_content": thought}) for thought in ("So", " a", " bell")),
            *(chunk({"content": piece}) for piece in PIECES),
            chunk({"content": ""}, "stop"),
            event({**base, "choices": [], "usage": counted}),
            DONE,
        ],
        tokens=(11, 0, 6, 3),
        reasoning="So a bell",
    )


def sglang() -> Dialect:
    """Every key on every chunk, null where empty; `matched_stop`; the role is null after the first."""
    base = {"id": "65e3f1b0c8c14e5c", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}

    def chunk(role: str | None, content: str | None, finish: str | None = None) -> bytes:
        delta = {"role": role, "content": content, "reasoning_content": None, "tool_calls": None}
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish,
            "matched_stop": 2 if finish else None,
        }
        return event({**base, "choices": [choice], "usage": None})

    counted = {**USAGE, "prompt_tokens_details": None, "reasoning_tokens": 0}
    return Dialect(
        "sglang",
        [
            chunk("assistant", ""),
            *(chunk(None, piece) for piece in PIECES),
            chunk(None, None, "stop"),
            event({**base, "choices": [], "usage": counted}),
            DONE,
        ],
    )


def sglang_old() -> Dialect:
    """Releases of 2025 wrote an empty finish_reason where there is none yet."""
    new = sglang()
    new.events = [e.replace(b'"finish_reason":null', b'"finish_reason":""') for e in new.events]
    return new


def ollama() -> Dialect:
    """The role on every chunk, `created` of each chunk's own second, the last with empty content."""

    def chunk(number: int, content: str, finish: str | None = None) -> bytes:
        base = {
            "id": "chatcmpl-388",
            "object": "chat.completion.chunk",
            "created": CREATED + number // 3,
            "model": UPSTREAM,
        }
        choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish}
        return event({**base, "system_fingerprint": "fp_ollama", "choices": [choice]})

    base = {"id": "chatcmpl-388", "object": "chat.completion.chunk", "created": CREATED + 5, "model": UPSTREAM}
    return Dialect(
        "ollama",
        [
            *(chunk(number, piece) for number, piece in enumerate(PIECES)),
            chunk(6, "", "stop"),
            event({**base, "system_fingerprint": "fp_ollama", "choices": [], "usage": USAGE}),
            DONE,
        ],
    )


def ollama_reasoning() -> Dialect:
    """Thoughts in `reasoning`, with an empty content beside each."""
    plain = ollama()
    base = {"id": "chatcmpl-388", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}
    thoughts = [
        event(
            {
                **base,
                "choices": [
                    {"index": 0, "delta": {"role": "assistant", "content": "", "reasoning": t}, "finish_reason": None}
                ],
            }
        )
        for t in ("Need", " a", " bell")
    ]
    return Dialect("ollama", [*thoughts, *plain.events], reasoning="Need a bell")


def llamacpp() -> Dialect:
    """`choices` first, id late, `created` anew in each chunk, content null beside the role, timings beside the usage."""
    tail = {
        "id": "chatcmpl-dXBvPj79",
        "model": UPSTREAM,
        "system_fingerprint": "b0-unknown",
        "object": "chat.completion.chunk",
    }

    def chunk(number: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"finish_reason": finish, "index": 0, "delta": delta}
        return event({"choices": [choice], "created": CREATED + number // 3, **tail})

    counted = {
        "completion_tokens": 6,
        "prompt_tokens": 11,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    return Dialect(
        "llamacpp",
        [
            chunk(0, {"role": "assistant", "content": None}),
            *(chunk(number, {"content": piece}) for number, piece in enumerate(PIECES)),
            chunk(6, {}, "stop"),
            event(
                {
                    "choices": [],
                    "created": CREATED + 2,
                    **tail,
                    "usage": counted,
                    "timings": {"cache_n": 8, "prompt_ms": 2.789},
                }
            ),
            DONE,
        ],
        tokens=(3, 8, 6, 0),
    )


def tgi() -> Dialect:
    """`data:` without the space, an empty id, the wrong object, the role on every chunk."""
    base = {
        "id": "",
        "object": "text_completion",
        "created": CREATED,
        "model": UPSTREAM,
        "system_fingerprint": "2.0.1-native",
    }

    def chunk(content: str, finish: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": content},
            "logprobs": None,
            "finish_reason": finish,
        }
        return event({**base, "choices": [choice], "usage": None}, b"data:")

    return Dialect(
        "openai",
        [
            *(chunk(piece) for piece in PIECES[:-1]),
            chunk(PIECES[-1], "stop"),  # the last token and the reason together
            event({**base, "choices": [], "usage": USAGE}, b"data:"),
            b"data:[DONE]\n\n",
        ],
    )


def spaced() -> Dialect:
    """As Python's `json.dumps` writes it: a blank after each separator, everything beyond ASCII escaped."""
    out = [b"data: " + json.dumps(json.loads(e[6:])).encode() + b"\n\n" for e in vllm().events[:-1]]
    return Dialect("openai", [*out, DONE], tokens=(7, 4, 6, 0))


def tool_calls() -> Dialect:
    """As parsed by vLLM: two calls, their arguments in pieces."""
    base = {"id": "chatcmpl-t", "object": "chat.completion.chunk", "created": CREATED, "model": UPSTREAM}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return event({**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    def call(index: int, **more: Any) -> bytes:
        return chunk({"tool_calls": [{"index": index, **more}]})

    return Dialect(
        "vllm",
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Let me see."}),
            call(0, id="call_a", type="function", function={"name": "bell", "arguments": ""}),
            call(0, function={"arguments": '{"toll'}),
            call(0, function={"arguments": 's": 3}'}),
            call(1, id="call_b", type="function", function={"name": "hour", "arguments": ""}),
            call(1, function={"arguments": "{}"}),
            chunk({"content": ""}, "tool_calls"),
            event({**base, "choices": [], "usage": USAGE}),
            DONE,
        ],
        text="Let me see.",
        finish="tool_calls",
        calls=[("call_a", "bell", '{"tolls": 3}'), ("call_b", "hour", "{}")],
        tools=True,
    )


def legacy() -> Dialect:
    """llama.cpp's completions: usage rides on the last chunk, which has choices."""
    tail = {"model": UPSTREAM, "system_fingerprint": "b0-unknown", "object": "text_completion", "id": "chatcmpl-jj3"}

    def chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return event({"choices": [choice], "created": CREATED, **more, **tail})

    return Dialect(
        "llamacpp",
        [*map(chunk, PIECES), chunk("", "length", usage=USAGE), DONE],
        finish="length",
        path="/v1/completions",
    )


ALL = {
    made.__name__: made()
    for made in (
        vllm, vllm_running, vllm_reasoning, sglang, sglang_old, ollama, ollama_reasoning, llamacpp, tgi, spaced, tool_calls, legacy,
    )
}  # fmt: skip
