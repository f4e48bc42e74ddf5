# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: an answer that comes whole, and the embeddings call that some engines need text by text.

In: an engine's answer. Out: the answer to the client in `x.last`, the usage in `x`; or an error of the tree.
"""

import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from beffroi.core.clock import Clock
from beffroi.core.errors import BeffroiError, EngineBroken, EngineError, EngineRejected
from beffroi.core.exchange import Exchange
from beffroi.core.kernel import KERNEL
from beffroi.core.price import Tokens
from beffroi.gateway.upstream.dialect import counts_one, wants_logprobs
from beffroi.wire.openai.answer import (
    Usage,
    count_by_logprobs,
    counted_usage,
    fault_of,
    finish_of,
    mend_choices,
    read_answer,
    read_raw_usage,
    write_answer,
)

if TYPE_CHECKING:
    from beffroi.gateway.upstream.connection import EngineConnection

MAX_FAULT = 64 << 10
edit_answer = KERNEL.edit_answer if KERNEL else None
CHAT_OBJECT, TEXT_OBJECT = b'"chat.completion"', b'"text_completion"'
UNSPLIT = "reasoning_unsplit"  # billed as output, for the engine did not count it apart (decision D22)
_THOUGHT = re.compile(rb'"reasoning(?:_content)?": ?"[^"]')
_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


class Ratios(Protocol):
    """What a relay asks of the learned ratios, where an engine sends no usage."""

    def lowest_input(self, model: str, body_bytes: int) -> int:
        """A low estimate of a body's input tokens."""
        ...


def fault_error(x: Exchange, status: int, body: bytes) -> BeffroiError:
    """What an engine's error answer means for the exchange: its fault (another engine may do better) or the request's."""
    if status in (401, 403):
        return EngineBroken("An engine refused the gateway's own credentials.", retry_after=5)
    if status == 429 or status >= 500:
        if status in (429, 503):
            return EngineError("The engines of this model are overloaded; try again shortly.", retry_after=2)
        return EngineBroken("An engine failed while answering.", retry_after=1)
    if 400 <= status < 500:
        message, param = fault_of(body)
        theirs, ours = x.model.upstream[x.member.name], x.model.spec.id
        for mark in "\"'`":
            message = message.replace(f"{mark}{theirs}{mark}", f"{mark}{ours}{mark}")
        return EngineRejected(message, status=status if status in (400, 404, 413, 422) else 400, param=param)
    return EngineBroken(f"An engine answered with status {status}.", retry_after=1)


class Collected:
    """Base of answers that are read whole before a byte goes out."""

    connection: "EngineConnection | None" = None
    status = 0

    def __init__(self, x: Exchange, clock: Clock, deadline: float, ratios: Ratios) -> None:
        self.x = x
        self.clock = clock
        self.ratios = ratios
        self.parts: list[bytes] = []
        self.size = 0
        self.deadline = deadline

    def head(self, status: int, _kind: bytes) -> None:
        """See `connection.Answer`."""
        self.status = status
        self.x.first_ns = self.clock.mono_ns()

    def data(self, data: bytes, *, complete: bool) -> None:
        """See `connection.Answer`."""
        if not complete:
            self.parts.append(data)
            self.size += len(data)
            connection = self.connection
            if connection is not None and self.size > (
                connection.endpoint.max_answer if self.status == 200 else MAX_FAULT
            ):
                connection.abandon()
                self.x.resume(self, EngineBroken("An engine's answer is larger than the limit.", retry_after=1))
            return
        self.connection = None
        body = b"".join((*self.parts, data)) if self.parts else data
        error = fault_error(self.x, self.status, body) if self.status != 200 else self.whole(body)
        self.x.resume(self, error)

    def whole(self, body: bytes) -> BeffroiError | None:
        """The answer has come; None when it is sound."""
        raise NotImplementedError

    def lost(self, error: EngineError) -> None:
        """See `connection.Answer`."""
        self.connection = None
        self.x.resume(self, error)

    def stop(self) -> None:
        """Nobody waits any more."""
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None

    def pause(self) -> None:
        """A whole answer is not paused."""

    def unpause(self) -> None:
        """A whole answer is not paused."""

    def moved(self, _now: float) -> bool:
        """A whole answer has one deadline, which nothing moves."""
        return False

    def late(self, now: float) -> bool:
        """True once the answer is overdue at `now`, coarse monotonic seconds."""
        return now > self.deadline


def _needs_mending(body: bytes) -> bool:
    """Whether an answer may lack what clients cannot do without; tool calls are looked at whenever there are any."""
    at = body.find(b'"tool_calls":')
    return (
        at >= 0 and body[at + 13 : at + 16].strip()[:2] != b"[]" and body[at + 13 : at + 18].strip()[:4] != b"null"
    ) or not (b'"index":' in body and b'"finish_reason":' in body)


def _of_all(x: Exchange, choices: list[Any], usage: Usage | None) -> Usage | None:
    """Usage of all choices, where the engine counted one; the client sees logprobs only if it asked for them."""
    made = count_by_logprobs(choices, keep=wants_logprobs(x.request))
    if usage is None or made is None:
        return usage
    one = usage.tokens
    return counted_usage(one.input + one.cached, max(made, one.completion), one.cached)


def _finish(body: bytes, x: Exchange) -> str | None:
    """Why an answer ends. The field is at the end of what most engines send: a glance there saves reading all again."""
    if b'"finish_reason":"stop"' in body and x.request.n == 1:
        return "stop"
    return finish_of((read_answer(body) or {}).get("choices"))


class PlainAnswer(Collected):
    """One JSON answer: our id, the public model name, usage and backend are set; all else passes as it came."""

    def whole(self, body: bytes) -> BeffroiError | None:
        """See `Collected`."""
        x = self.x
        if edit_answer is not None and x.endpoint != "embeddings" and self._edited_at_once(body):
            return None
        fields = read_answer(body)
        if fields is None or ("data" if x.endpoint == "embeddings" else "choices") not in fields:
            return EngineBroken("An engine's answer is not what was asked.", retry_after=1)
        raw_usage = fields.get("usage")
        usage = read_raw_usage(raw_usage) if raw_usage is not None else None
        changes: dict[str, Any] = {"model": x.model.spec.id}
        if x.endpoint == "embeddings":
            changes["object"] = "list"
        else:
            changes["id"] = answer_id(x)
            if "created" not in fields:
                changes["created"] = x.wall_ns // 1_000_000_000
            changes["object"] = "text_completion" if x.endpoint == "completions" else "chat.completion"
            raw = fields["choices"]
            try:
                several = counts_one(x, x.member.kind)
                if several or _needs_mending(body):
                    changes["choices"] = choices = mend_choices(raw, x.id)
                    if not choices:
                        return EngineBroken("An engine answered with nothing.", retry_after=1)
                    if several:
                        usage = _of_all(x, choices, usage)
            except msgspec.MsgspecError:
                return EngineBroken("An engine's answer is not what was asked.", retry_after=1)
            x.finish_reason = _finish(body, x)
        if usage is not None:
            note_usage(x, usage)
        else:  # what is shown is what is billed: at most what was used
            usage = counted_usage(self.ratios.lowest_input(x.model.spec.id, len(x.body)), 0)
            x.tokens, x.source = usage.tokens, "relayed"
        changes["usage"] = usage.shown
        changes["backend"] = {"engine_type": x.member.kind, "machine_name": x.member.machine}
        if not usage.tokens.reasoning and thinks(body):
            x.findings = (*x.findings, UNSPLIT)
        x.last = write_answer(fields, changes)
        return None

    def _edited_at_once(self, body: bytes) -> bool:
        """The common case, by the kernel: a sound answer with plain usage. False: nothing was done."""
        x = self.x
        if counts_one(x, x.member.kind):
            return False
        prefix, kind = (b"chatcmpl-", CHAT_OBJECT) if x.endpoint == "chat" else (b"cmpl-", TEXT_OBJECT)
        done = edit_answer(body, prefix, x.id, x.model.quoted, kind, x.member.backend)  # type: ignore[misc]
        if done is None:
            return False
        x.last, prompt, cached, completion, reasoning, stops, may_think = done
        x.tokens, x.source = Tokens(prompt - cached, cached, completion - reasoning, reasoning), "engine"
        x.finish_reason = "stop" if stops and x.request.n == 1 else _finish(body, x)
        if may_think and not reasoning and thinks(body):
            x.findings = (*x.findings, UNSPLIT)
        return True


class OneEmbedding(Collected):
    """One text of an embeddings call; `rows` and `counted` are what it brought."""

    def __init__(self, x: Exchange, clock: Clock, deadline: float, ratios: Ratios) -> None:
        super().__init__(x, clock, deadline, ratios)
        self.rows: list[dict[str, msgspec.Raw]] = []
        self.counted = 0

    def whole(self, body: bytes) -> BeffroiError | None:
        """See `Collected`."""
        fields = read_answer(body)
        try:
            self.rows = _decode_rows(fields["data"]) if fields and "data" in fields else []
        except msgspec.MsgspecError:
            self.rows = []
        if fields is None or len(self.rows) != 1:
            return EngineBroken("An engine's answer is not what was asked.", retry_after=1)
        usage = read_raw_usage(fields["usage"]) if "usage" in fields else None
        self.counted = usage.shown["prompt_tokens"] if usage else 0
        return None


def joined_embeddings(x: Exchange, answers: list[OneEmbedding]) -> bytes:
    """One embeddings answer out of single ones."""
    prompt = sum(answer.counted for answer in answers)
    usage = counted_usage(prompt, 0)
    note_usage(x, usage)
    rows = [{**answer.rows[0], "index": index} for index, answer in enumerate(answers)]
    backend = {"engine_type": x.member.kind, "machine_name": x.member.machine}
    return msgspec.json.encode(
        {"object": "list", "data": rows, "model": x.model.spec.id, "usage": usage.shown, "backend": backend}
    )


def answer_id(x: Exchange) -> str:
    """The id in an answer's body: the request id in the family's dress, so that one leads to the other."""
    return ("cmpl-" if x.endpoint == "completions" else "chatcmpl-") + x.id[4:]


def thinks(data: bytes) -> bool:
    """Whether thoughts stand in an answer, under either of the names that engines give them."""
    return b'"reasoning' in data and _THOUGHT.search(data) is not None


def note_usage(x: Exchange, usage: Usage) -> None:
    """Keep what the engine counted."""
    x.tokens, x.source = usage.tokens, "engine"
