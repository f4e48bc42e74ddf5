# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: the slow way of a stream, where each event is decoded, mended and encoded.

In: blocks of whole events of any dialect. Out: events as the OpenAI family has them: one id, one `created`, the public
model name, the role first and once, sound tool calls, a last chunk that carries nothing but the reason why it is the
last. That chunk is held back, so that usage and backend can ride on it.
"""

from typing import Any

import msgspec

from beffroi.core.errors import BeffroiError, EngineBroken, EngineError
from beffroi.core.exchange import Exchange
from beffroi.gateway.upstream.plain import answer_id, fault_error
from beffroi.wire.openai.answer import Usage, counted_usage, fault_of, mend_calls, read_usage

SAYS = frozenset(("content", "reasoning_content", "reasoning", "tool_calls", "refusal", "audio", "function_call"))

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


class MendedEvents:
    """The events of one stream.

    Attributes:
        out: encoded events that wait to be written.
        held: the chunk that ends the answer, until usage has come.
        seen: events with text so far; usage: what the engine counted; done: `[DONE]` has come.
        voiced: a bit for each choice whose role has been said; calls: tool calls begun.
        begun: bytes have gone to the client; thinking: thoughts were among them.
    """

    begun = done = thinking = False
    created = 0
    seen = 0
    voiced = 0
    calls = 0
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
            EngineRejected: the first event says that the request is at fault.
        """
        for event in data.split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:
                payload = event[6:]
            else:
                payload = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
            if not payload or self.done or payload == b"null":  # llama.cpp sends a null before several completions
                continue
            if payload == b"[DONE]":
                self.done = True
            else:
                self._one(self.decode_event(payload))

    def _one(self, chunk: dict[str, Any]) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._said_fault(chunk)
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
            if type(choice.get("index")) is not int:
                choice["index"] = number
            self._mend_choice(choice)
            finished = finished or choice["finish_reason"] is not None
        several = self.x.request.n > 1
        if several:
            self.release_held()  # it was the end of one choice only
        if finished and len(choices) == 1:
            self._split_finish(chunk, choices[0])
        elif finished:
            self.held = chunk
        elif self.held is None or self._says(choices[0]):  # what a broken engine adds after the reason stands before it
            self.emit(chunk)
        if finished:
            self.x.finish_reason = choices[0]["finish_reason"] or self.x.finish_reason

    def _said_fault(self, chunk: dict[str, Any]) -> BeffroiError:
        """What an error among the events means: at the start it may be the request's fault, as a status would say."""
        inner = chunk.get("error")
        code = inner.get("code") if isinstance(inner, dict) else chunk.get("code")
        body = _encode(chunk)
        if not self.begun and not self.out and type(code) is int and 400 <= code < 500:
            return fault_error(self.x, code, body)
        message, _ = fault_of(body)
        return EngineError(
            message if message.startswith("The engine") else f"The engine stopped: {message}", retry_after=1
        )

    def _says(self, choice: dict[str, Any]) -> bool:
        """Whether a choice carries anything of the answer."""
        if not self.chat:
            return bool(choice.get("text"))
        delta = choice["delta"]
        return bool(delta) and not SAYS.isdisjoint(name for name, said in delta.items() if said)

    def _mend_choice(self, choice: dict[str, Any]) -> None:
        choice["finish_reason"] = choice.get("finish_reason") or None  # an engine writes an empty one for none
        if self.chat:
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                delta = choice["delta"] = {}
            bit = 1 << (choice["index"] & 127)
            if not self.voiced & bit:
                self.voiced |= bit
                delta["role"] = delta.get("role") or "assistant"
            else:
                delta.pop("role", None)
            if delta.get("reasoning_content") or delta.get("reasoning"):
                self.thinking = True
            if delta.get("tool_calls"):
                self._number_calls(delta["tool_calls"])
                mend_calls(delta, self.x.id, streamed=True)
        elif not isinstance(choice.get("text"), str):
            choice["text"] = ""
        self.seen += self._says(choice)

    def _number_calls(self, calls: Any) -> None:
        """Tool calls without a number: one that names a function begins, any other goes on with the last."""
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, dict):
                continue
            function = call.get("function")
            begins = isinstance(function, dict) and bool(function.get("name"))
            if type(call.get("index")) is int:
                self.calls = max(self.calls, call["index"] + 1)
            else:
                self.calls += begins
                call["index"] = max(0, self.calls - 1)

    def _split_finish(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        """The chunk that says why the answer ends carries nothing else: clients drop what stands beside it."""
        if self._says(choice) or (self.chat and "role" in choice["delta"]):
            self.emit({**chunk, "choices": [{**choice, "finish_reason": None}]})
        choice = {**choice, "delta": {}} if self.chat else {**choice, "text": ""}
        if "logprobs" in choice:
            choice["logprobs"] = None
        self.held = {**chunk, "choices": [choice]}

    def hold_reason(self) -> None:
        """The engine said that the answer is whole, but not why it ends: clients cannot do without a reason."""
        choice: dict[str, Any] = {"index": 0, "delta": {}} if self.chat else {"index": 0, "text": ""}
        self.held = {**self.bare(), "choices": [{**choice, "logprobs": None, "finish_reason": "stop"}]}
        self.x.finish_reason = "stop"

    def bare(self) -> dict[str, Any]:
        """A chunk without choices."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": []}

    def _count_usage(self, usage: Usage) -> None:
        """Some engines send one usage per choice: the prompt once, as the first choice found it, the completions summed."""
        before = self.usage
        if before is not None and self.x.request.n > 1 and self.x.member.kind == "llamacpp":
            one, other = before.tokens, usage.tokens
            prompt = max(one.input + one.cached, other.input + other.cached)
            usage = counted_usage(prompt, one.completion + other.completion, min(one.cached, other.cached))
        self.usage = usage

    def emit(self, chunk: dict[str, Any]) -> None:
        """Encode an event into `out`."""
        self.out.append(b"data: " + _encode(chunk) + b"\n\n")

    def release_held(self) -> None:
        """The held chunk was not the last one after all, or goes as it is."""
        if self.held is not None:
            self.emit(self.held)
            self.held = None
