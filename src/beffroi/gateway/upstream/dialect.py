# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: what has to change in a request for one engine's dialect; nothing, most of the time.

In: a request and the engine it goes to. Out: path and body. A body that needs no change leaves as it came.
"""

from typing import Any

import msgspec

from beffroi.core.exchange import Exchange
from beffroi.wire.openai.request import Request, edited

_choice = msgspec.json.Decoder(str | dict[str, Any]).decode
PATHS = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings"}
# Engines whose embedding of a text depends on the texts beside it (mean pooling over a shared batch).
ONE_TEXT_PER_CALL = frozenset(("llamacpp",))
# Engines that read the bound on an answer under its old name only.
OLD_NAME_ONLY = frozenset(("ollama",))
# Names that llama.cpp reads before `max_tokens` and `n`: where a bound of ours stands, they must not undo it.
UNDOING = ("n_predict", "n_cmpl")


def body_for(x: Exchange, upstream_model: str, kind: str) -> bytes:
    """The body for an engine that knows the model as `upstream_model` and speaks dialect `kind`."""
    request: Request = x.request
    changes: dict[str, Any] = {}
    if request.model != upstream_model:
        changes["model"] = upstream_model
    if request.stream and not request.asked_usage:
        changes["stream_options"] = {"include_usage": True}
    bound, names = x.max_tokens, request.names
    if bound != request.max_tokens:
        # `bound` None: the client asked for more than the model's context holds; the engine then uses what is left of it
        name = "max_completion_tokens" if "max_completion_tokens" in names else "max_tokens"
        changes[name] = bound
        if name == "max_completion_tokens" and "max_tokens" in names:
            changes["max_tokens"] = bound
    if kind in OLD_NAME_ONLY and "max_completion_tokens" in names:
        changes["max_tokens"] = bound
    if (UNDOING[0] in names or UNDOING[1] in names) and (bound is not None or x.key.limits.hard_budget is not None):  # type: ignore[union-attr]  # authenticate has set it
        changes.update(dict.fromkeys(UNDOING))
    if (
        kind == "llamacpp"
        and request.has_tools
        and "tool_choice" in names
        and _choice(request.fields["tool_choice"]) == "none"
    ):
        changes["tools"] = changes["tool_choice"] = None  # it shows the tools to the model all the same
    if counts_one(x, kind) and not wants_logprobs(request):
        changes["logprobs"] = True if x.endpoint == "chat" else 1
    return edited(request.fields, changes) if changes else x.body


def counts_one(x: Exchange, kind: str) -> bool:
    """Whether the engine's usage will be that of one choice of several: llama.cpp's, where the answer comes whole.

    The tokens of the others are those that their logprobs list, which are asked for and taken out again.
    """
    return kind == "llamacpp" and x.endpoint != "embeddings" and x.request.n > 1 and not x.request.stream


def wants_logprobs(request: Request) -> bool:
    """Whether the client asked for them: `true` in a chat, a count in a completion (0: those of the tokens chosen)."""
    return bytes(request.fields.get("logprobs", b"null")) not in (b"false", b"null")


def inputs_of(request: Request) -> list[Any]:
    """The single inputs of an embeddings call."""
    given = msgspec.json.decode(request.fields["input"])
    if isinstance(given, str) or not isinstance(given[0], str | list):
        return [given]
    return list(given)


def single_input(request: Request, upstream_model: str, one: Any) -> bytes:
    """The body of an embeddings call with one of its inputs."""
    return edited(request.fields, {"model": upstream_model, "input": one})
