# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: the slow way of a stream, where each event is decoded, mended and encoded.

In: blocks of whole events of any dialect. Out: events as the OpenAI family has them: one id, one `created`, the public
model name, the role first and once, sound tool calls, a last chunk that carries nothing but the reason why it is the
last. That chunk is held back, so that usage and backend can ride on it.
"""

from typing import Any

import msgspec

from beffroi.core.errors import EngineBroken, EngineError
from beffroi.core.exchange import Exchange
from beffroi.gateway.upstream.plain import answer_id
from beffroi.wire.openai.answer import Usage, counted_usage, fault_of, mend_calls, read_usage

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


class MendedEvents:
    """The events of one stream.

    Attributes:
        out: encoded events that wait to be written.
        held: the chunk that ends the answer, until usage has come.
        seen: events with text so far; usage: what the engine counted; done: `[DONE]` has come.
        blocks: pieces that came from the engine; begun: bytes have gone to the client.
    """

    begun = done = False
    created = 0
    seen = 0
    blocks = 0
    held: dict[str, Any] | None = None
    usage: Usage | None = None

    def __init__(self, x: Exchange) -> None:
        self.x = x
        self.id = answer_id(x)
        self.model = x.model.spec.id
        self.chat = x.endpoint == "chat"
        self.out: list[bytes] = []

    def decode_event(self, payload: bytes) -> dict[str, Any]:
        """One event's JSON.

        Raises:
            EngineBroken: it is none, or no object.
        """
        try:
            chunk = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise EngineBroken("An engine sent an event that is not JSON.", retry_after=1) from None
        if not isinstance(chunk, dict):
            raise EngineBroken("An engine sent an event that is not an object.", retry_after=1)
        return chunk

    def mend(self, data: bytes) -> None:
        """Take a block of whole events.

        Raises:
            EngineError: an event says that the engine failed, or is unsound.
        """
        for event in data.split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:
                payload = event[6:]
            else:
                payload = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
            if not payload or self.done:
                continue
            if payload == b"[DONE]":
                self.done = True
            else:
                self._one(self.decode_event(payload))

    def _one(self, chunk: dict[str, Any]) -> None:
        if chunk.get("error"):
            message, _ = fault_of(_encode(chunk))
            raise EngineError(
                f"The engine stopped: {message}" if not message.startswith("The engine") else message, retry_after=1
            )
        raw = chunk.pop("usage", None)
        if raw is not None and (usage := read_usage(raw)) is not None:
            self._count_usage(usage)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            return
        if not self.created:
            given = chunk.get("created")
            self.created = given if type(given) is int else self.x.wall_ns // 1_000_000_000
        chunk["id"], chunk["model"], chunk["created"] = self.id, self.model, self.created
        chunk["object"] = "chat.completion.chunk" if self.chat else "text_completion"
        finished = False
        for number, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise EngineBroken("An engine sent an event that is not what was asked.", retry_after=1)
            choice.setdefault("index", number)
            self._mend_choice(choice)
            finished = finished or choice.get("finish_reason") is not None
        self.release_held()
        if finished and self.chat and self.x.request.n == 1:
            self._split_finish(chunk, choices[0])
        elif finished:
            self.held = chunk
        else:
            self.emit(chunk)
        if finished:
            self.x.finish_reason = choices[0].get("finish_reason") or self.x.finish_reason

    def _mend_choice(self, choice: dict[str, Any]) -> None:
        choice.setdefault("finish_reason", None)
        if not self.chat:
            self.seen += bool(choice.get("text"))
            return
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        if self.blocks == 1 and not self.out and not self.begun and self.held is None:
            delta.setdefault("role", "assistant")
        elif self.x.request.n == 1:
            delta.pop("role", None)
        if delta.get("tool_calls"):
            mend_calls(delta, self.x.id, streamed=True)
        self.seen += bool(delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"))

    def _split_finish(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        """The chunk that says why the answer ends carries nothing else: clients drop what stands beside it."""
        delta = choice["delta"]
        if any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls", "refusal")):
            self.emit({**chunk, "choices": [{**choice, "finish_reason": None}]})
            choice = {**choice, "delta": {}}
            choice.pop("logprobs", None)
        elif not ("role" in delta and not self.begun and not self.out):
            choice = {**choice, "delta": {}}
        self.held = {**chunk, "choices": [choice]}

    def _count_usage(self, usage: Usage) -> None:
        """Some engines send one usage per choice: the prompt once, the completions summed."""
        before = self.usage
        if before is not None and self.x.request.n > 1 and self.x.member.kind == "llamacpp":
            prompt = max(before.shown["prompt_tokens"], usage.shown["prompt_tokens"])
            usage = counted_usage(prompt, before.shown["completion_tokens"] + usage.shown["completion_tokens"])
        self.usage = usage

    def emit(self, chunk: dict[str, Any]) -> None:
        """Encode an event into `out`."""
        self.out.append(b"data: " + _encode(chunk) + b"\n\n")

    def release_held(self) -> None:
        """The held chunk was not the last one after all, or goes as it is."""
        if self.held is not None:
            self.emit(self.held)
            self.held = None
