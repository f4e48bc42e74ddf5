# SPDX-License-Identifier: Apache-2.0
"""What a well-behaved engine says, as pure functions: the same request always gets the same answer.

In: a request body that has been parsed, and the drawn token counts if the engine draws them. Out: a `Plan`: the pieces
of text in order, the usage, and the bodies and stream chunks that carry them.
"""

import base64
import hashlib
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any

CREATED = 1_795_219_200
WORDS = ("Le", "beffroi", "d'une", "ville", "libre", "sonne", "l'alarme", "et", "garde", "les", "chartes", "café",
         "Its", "bell", "keeps", "the", "watch", "over", "every", "market", "square", "🔔")  # fmt: skip
DEFAULT_TOKENS = 12
Json = dict[str, Any]


@dataclass
class Usage:
    """Token counts of one answer; `completion` includes `reasoning`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0

    def body(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


@dataclass
class Piece:
    """One stream chunk's worth of one choice: a delta, its finish reason if it is the last, and the tokens it took."""

    index: int
    delta: Json
    tokens: int = 0
    finish: str | None = None
    logprobs: Json | None = None


@dataclass
class Plan:
    """A whole answer before it is framed."""

    id: str
    model: str
    legacy: bool
    usage: Usage
    pieces: list[Piece]
    messages: list[Json]
    finishes: list[str]
    logprobs: list[Json | None] = field(default_factory=list)


def prompt_tokens(request: Json) -> int:
    """The engine's count of the input: words and parts, three for each message's frame."""
    total = 0
    for message in request.get("messages") or []:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        total += 3 + sum(len(str(p["text"]).split()) if "text" in p else 85 for p in parts)
    prompt = request.get("prompt")
    if isinstance(prompt, list):
        total += len(prompt) if prompt and isinstance(prompt[0], int) else sum(len(str(p).split()) for p in prompt)
    elif prompt:
        total += len(str(prompt).split())
    return max(1, total)


def asked(request: Json) -> str:
    """The text that the answer depends on: the last user message, or the prompt."""
    for message in reversed(request.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return " ".join(str(p.get("text", "")) for p in content)
            return str(content or "")
    prompt = request.get("prompt")
    return " ".join(map(str, prompt)) if isinstance(prompt, list) else str(prompt or "")


def words(text: str, count: int, turn: int = 0) -> list[str]:
    """`count` pieces of text that depend on `text` and on the choice alone."""
    at = int.from_bytes(hashlib.sha256(f"{turn}{text}".encode()).digest()[:4], "big")
    return [("" if i == 0 else " ") + WORDS[(at + i) % len(WORDS)] for i in range(count)]


def smallest(schema: Any, root: Any = None) -> Any:
    """The smallest instance of a JSON schema that this reader understands ($ref, anyOf, enum, bounds)."""
    root = root if root is not None else schema
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return smallest(target, root)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return smallest(schema[several][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        wanted = schema.get("required", list(schema.get("properties", {})))
        return {name: smallest(schema.get("properties", {}).get(name, {}), root) for name in wanted}
    if kind == "array":
        return [smallest(schema.get("items", {}), root)] * int(schema.get("minItems", 0))
    if kind == "string":
        return "x" * max(1, int(schema.get("minLength", 1)))
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return {"boolean": False, "null": None}.get(kind or "", "x")


def chosen_tool(request: Json) -> Json | None:
    """The function that must be called: the named one, or the first when one is required."""
    choice, tools = request.get("tool_choice"), request.get("tools") or []
    if isinstance(choice, dict):
        name = (choice.get("function") or choice).get("name")
        tools = [t for t in tools if t.get("function", {}).get("name") == name]
    elif choice != "required":
        return None
    return tools[0]["function"] if tools else None


def _split(text: str, size: int = 6) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def _texts(request: Json, turn: int, count: int | None) -> list[str]:
    """Pieces of one choice before its bounds: a counting, an instance of the schema, or words."""
    text = asked(request)
    shape = request.get("response_format") or {}
    if shape.get("type") == "json_schema":
        return _split(json.dumps(smallest(shape["json_schema"]["schema"])))
    if shape.get("type") == "json_object":
        return _split('{"answer": "beffroi"}')
    if found := re.search(r"count (?:up )?to (\d+)", text, re.IGNORECASE):
        return [("" if i == 1 else " ") + str(i) for i in range(1, int(found[1]) + 1)]
    return words(text, count if count is not None else DEFAULT_TOKENS, turn)


def _bounded(pieces: list[str], request: Json, count: int | None) -> tuple[list[str], str]:
    """Stop sequences and the token bound, with the finish reason that follows."""
    bound = request.get("max_completion_tokens") or request.get("max_tokens")
    if count is not None:
        bound = min(bound, count) if bound else count
    finish = "stop"
    if isinstance(bound, int) and len(pieces) > bound:
        pieces, finish = pieces[:bound], "length"
    stops = request.get("stop") or []
    whole = "".join(pieces)
    cuts = [at for s in ([stops] if isinstance(stops, str) else stops) if (at := whole.find(s)) >= 0]
    if not cuts:
        return pieces, finish
    left, kept = min(cuts), []
    for piece in pieces:
        kept.append(piece[:left])
        left -= len(kept[-1])
        if left <= 0:
            break
    return kept, "stop"


def _logprob(piece: str, top: int) -> Json:
    own = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
    return own | {"top_logprobs": [own] * top}


def plan(request: Json, number: int, *, legacy: bool, drawn: tuple[int, int, int] | None = None) -> Plan:
    """The answer to one generation request.

    Args:
        number: the engine's count of requests, which makes the answer's id.
        drawn: prompt, completion and cached tokens, when the engine draws them; completion bounds the pieces.
    """
    reasoning = 4 if request.get("reasoning_effort") or "think" in str(request.get("model", "")) else 0
    made, pieces, messages, finishes, logs = 0, [], [], [], []
    wants_logs = bool(request.get("logprobs")) or (request.get("logprobs") == 0 and legacy)
    tool = chosen_tool(request)
    count = drawn[1] if drawn else None
    for index in range(int(request.get("n") or 1)):
        thoughts = [f"thought{i} " for i in range(reasoning)]
        pieces += [Piece(index, {"reasoning_content": thought}, 1) for thought in thoughts]
        if tool and not legacy:
            arguments = json.dumps(smallest(tool.get("parameters") or {"type": "object"}))
            call = {
                "id": f"call_{number}_{index}",
                "type": "function",
                "function": {"name": tool["name"], "arguments": arguments},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            begin = {"index": 0, **call, "function": {"name": tool["name"], "arguments": ""}}
            pieces.append(Piece(index, {"tool_calls": [begin]}, 1))
            parts = _split(arguments)
            pieces += [Piece(index, {"tool_calls": [{"index": 0, "function": {"arguments": p}}]}, 1) for p in parts]
            made += 1 + len(parts) + reasoning
            finish, log = "tool_calls", None
        else:
            texts, finish = _bounded(_texts(request, index, count), request, count)
            log = (
                {"content": [_logprob(t, int(request.get("top_logprobs") or 0)) for t in texts]} if wants_logs else None
            )
            for text in texts:
                lone = {"content": [_logprob(text, int(request.get("top_logprobs") or 0))]} if wants_logs else None
                pieces.append(Piece(index, {"content": text}, 1, None, lone))
            messages.append({"role": "assistant", "content": "".join(texts)})
            made += len(texts) + reasoning
        if thoughts:
            messages[-1]["reasoning_content"] = "".join(thoughts)
        pieces.append(Piece(index, {}, 0, finish))
        finishes.append(finish)
        logs.append(log)
    usage = Usage(
        drawn[0] if drawn else prompt_tokens(request), made, drawn[2] if drawn else 0, reasoning * len(finishes)
    )
    kind = "cmpl" if legacy else "chatcmpl"
    return Plan(f"{kind}-{number:024x}", str(request.get("model", "")), legacy, usage, pieces, messages, finishes, logs)


def whole(made: Plan) -> Json:
    """The body of a plain answer."""
    choices: list[Json] = []
    for index, (message, finish) in enumerate(zip(made.messages, made.finishes, strict=True)):
        if made.legacy:
            choices.append(
                {"index": index, "text": message["content"], "logprobs": made.logprobs[index], "finish_reason": finish}
            )
        else:
            choices.append(
                {"index": index, "message": message, "logprobs": made.logprobs[index], "finish_reason": finish}
            )
    return _envelope(made, "text_completion" if made.legacy else "chat.completion") | {
        "choices": choices,
        "usage": made.usage.body(),
    }


def _envelope(made: Plan, kind: str) -> Json:
    return {"id": made.id, "object": kind, "created": CREATED, "model": made.model, "system_fingerprint": "fp_scripted"}


def chunks(made: Plan) -> list[tuple[Json, int]]:
    """Stream chunks in order with the tokens each carries; usage is not among them."""
    base = _envelope(made, "text_completion" if made.legacy else "chat.completion.chunk")
    out, begun = [], set()
    for piece in made.pieces:
        choice: Json = {"index": piece.index, "finish_reason": piece.finish, "logprobs": piece.logprobs}
        if made.legacy:
            choice["text"] = piece.delta.get("content", "")
        else:
            if piece.index not in begun:
                begun.add(piece.index)
                first = choice | {"delta": {"role": "assistant", "content": ""}}
                out.append((base | {"choices": [first | {"finish_reason": None, "logprobs": None}]}, 0))
            choice["delta"] = piece.delta
        out.append((base | {"choices": [choice]}, piece.tokens))
    return out


def usage_chunk(made: Plan) -> Json:
    """The chunk with no choices that carries the usage."""
    base = _envelope(made, "text_completion" if made.legacy else "chat.completion.chunk")
    return base | {"choices": [], "usage": made.usage.body()}


def embeddings(request: Json) -> Json:
    """Vectors that depend on each text alone, of `dimensions` numbers (default 8), as lists or base64."""
    given, size = request.get("input"), int(request.get("dimensions") or 8)
    items = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    data, tokens = [], 0
    for index, item in enumerate(items):
        tokens += len(item) if isinstance(item, list) else max(1, len(str(item).split()))
        seed = hashlib.sha256(json.dumps(item).encode()).digest()
        numbers = [(seed[i % 32] - 127.5) / 128 for i in range(size)]
        vector: Any = numbers
        if request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.get("model"), "usage": usage}
