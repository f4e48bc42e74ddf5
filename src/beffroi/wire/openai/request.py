# SPDX-License-Identifier: Apache-2.0
"""Requests of the OpenAI family: which fields are policed, how a body is read, what a refusal says.

In: the bytes of a body, whose structure has been checked. Out: a `Request` with the fields that decisions need; all
other fields stay in the bytes and pass on untouched. A body is encoded again only when a field must change.
"""

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, NoReturn, cast

import msgspec
from msgspec import Meta, Raw

from beffroi.core.errors import BadRequest
from beffroi.core.kernel import KERNEL

Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
# What engines of the field take, and the short forms that real clients send.
PartType = Literal[
    "text", "refusal", "image_url", "image", "input_image", "input_audio", "audio_url", "audio", "video_url", "video", "file",
    "input_text", "output_text", "thinking", "reasoning",
]  # fmt: skip
MEDIA = frozenset(
    ("image_url", "image", "input_image", "input_audio", "audio_url", "audio", "video_url", "video", "file")
)


class Part(msgspec.Struct, gc=False):
    """One part of a content list."""

    type: PartType
    text: str | None = None


class Message(msgspec.Struct, gc=False):
    """One turn of a conversation."""

    role: Role
    content: str | list[Part] | None = None


class Function(msgspec.Struct, gc=False):
    """The part of a tool that is checked."""

    name: str


class Tool(msgspec.Struct, gc=False):
    """One tool; types other than `function` pass unchecked."""

    type: str
    function: Function | None = None


class Typed(msgspec.Struct, gc=False):
    """An object whose `type` is a word: response_format, a named tool_choice."""

    type: str


class StreamOptions(msgspec.Struct, gc=False):
    """`include_usage` is policed: usage is asked from the engine always."""

    include_usage: bool | None = None


class _Sampling(msgspec.Struct, gc=False, kw_only=True):
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: str | list[str] | None = None
    user: str | None = None


class Chat(_Sampling, kw_only=True):
    """`POST chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Typed | None = None
    response_format: Typed | None = None


class Completion(_Sampling, kw_only=True):
    """`POST completions` with a prompt."""

    prompt: Annotated[str, Meta(min_length=0)] | Annotated[list[Any], Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None


class Embedding(msgspec.Struct, gc=False, kw_only=True):
    """`POST embeddings`: text, texts, tokens, or lists of tokens."""

    model: str
    input: str | Annotated[list[Any], Meta(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    user: str | None = None


_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "chat": msgspec.json.Decoder(Chat),
    "completions": msgspec.json.Decoder(Completion),
    "embeddings": msgspec.json.Decoder(Embedding),
}
_top_level = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_WHERE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_FIELD = re.compile(r"`(\w+)`$")


class Request(msgspec.Struct, gc=False):
    """What the rooms need of a body.

    Attributes:
        endpoint: chat, completions or embeddings: what is asked of the engine.
        n: how many answers may be generated (best_of counted).
        max_tokens: the bound that the client set, per answer, under either name; None: none.
        media: number of parts that are not text.
        inputs: of embeddings, how many texts; 0 for the others.
        names: of the fields that stand in the body.
        bland: its bytes are such that the guard's structure layer has nothing to look at; False: not known.
    """

    endpoint: str
    model: str
    stream: bool
    asked_usage: bool
    n: int
    max_tokens: int | None
    media: int
    inputs: int
    has_tools: bool
    user: str | None
    names: Collection[str]
    body: bytes
    read: tuple[list[tuple[str, str]], dict[str, Raw]] | None  # texts and fields; None: not needed so far
    bland: bool = False

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(role, text) of everything the model will read; the role of a completion's text is `prompt`."""
        return self._whole()[0]

    @property
    def fields(self) -> dict[str, Raw]:
        """The top-level fields, as they stand there."""
        return self._whole()[1]

    def _whole(self) -> tuple[list[tuple[str, str]], dict[str, Raw]]:
        if self.read is None:  # the kernel has seen that it is sound
            self.read = _chat_texts(_decoders["chat"].decode(self.body))[0], _top_level(self.body)
        return self.read


def refuse(why: msgspec.MsgspecError) -> NoReturn:
    """Turn a decoder's complaint into our error: the field in `param`, the bound in the message."""
    text = str(why)
    if not isinstance(why, msgspec.ValidationError):
        raise BadRequest(f"The body is not valid JSON: {text[:200]}.") from None
    where = _WHERE.search(text)
    what, param = (text[: where.start()], where[1]) if where else (text, None)
    if missing := what.startswith("Object missing required field"):
        name = _FIELD.search(what)
        param = ".".join(x for x in (param, name[1] if name else "") if x)
    if param and param.startswith("key"):
        param = None
    shown = what.replace("`", "")
    if not param:
        raise BadRequest(f"The body must be a JSON object: {shown[0].lower()}{shown[1:]}.") from None
    if missing:
        raise BadRequest(f"The field '{param}' is missing.", param=param) from None
    raise BadRequest(f"Invalid value for '{param}': {shown[0].lower()}{shown[1:200]}.", param=param) from None


def glance(endpoint: str, body: bytes, max_depth: int, max_tokens: int) -> Request | None:
    """A plain chat request, read in one pass by the kernel; None: `parse` must read it, and may find it unsound.

    The bounds are those of depth and tokens. What passes here has the policed keys once each, in their exact spelling.
    """
    if KERNEL is None or endpoint != "chat" or len(body) > max_tokens:
        return None
    found = KERNEL.glance_chat(body, max_depth)
    if found is None:
        return None
    model, stream, asked_usage, n, bound, user, names, bland = found
    return Request("chat", model, stream, asked_usage, n, bound, 0, 0, False, user, names, body, None, bland)


def parse(endpoint: str, body: bytes, fields: dict[str, Raw]) -> Request:
    """Read the policed fields of a body.

    Raises:
        BadRequest: a field is missing, of the wrong type, or out of its range; `param` names it.
    """
    if endpoint == "completions" and "messages" in fields and "prompt" not in fields:
        endpoint = "chat"  # the reference service documents messages here, and answers like chat
    try:
        decoded = _decoders[endpoint].decode(body)
    except msgspec.MsgspecError as why:
        refuse(why)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    if not decoded.model:
        raise BadRequest("The field 'model' is empty; name a model that GET /v1/models lists.", param="model")
    if endpoint == "embeddings":
        return _embedding(cast("Embedding", decoded), body, fields)
    request = decoded if isinstance(decoded, Chat) else cast("Completion", decoded)
    options = request.stream_options
    texts, media = _chat_texts(request) if isinstance(request, Chat) else (_prompt_texts(request.prompt), 0)
    bound = request.max_tokens
    if isinstance(request, Chat):
        if request.max_completion_tokens is not None:  # which of the two an engine obeys is its own affair
            bound = max(request.max_completion_tokens, bound or 0)
        _check_tools(request)
    copies = request.n or 1
    if isinstance(request, Completion):
        copies = max(copies, request.best_of or 1) * (len(request.prompt) if _is_batch(request.prompt) else 1)
    return Request(
        endpoint, request.model, bool(request.stream), options is not None and bool(options.include_usage), copies, bound, media, 0,
        isinstance(request, Chat) and bool(request.tools), request.user, fields, body, (texts, fields),
    )  # fmt: skip


def _chat_texts(chat: Chat) -> tuple[list[tuple[str, str]], int]:
    texts: list[tuple[str, str]] = []
    media = 0
    for index, message in enumerate(chat.messages):
        content = message.content
        if content.__class__ is str:
            texts.append((message.role, content))
        elif content is None:
            if message.role != "assistant":
                where = f"messages[{index}].content"
                raise BadRequest(
                    f"The field '{where}' is missing: a {message.role} message needs content.", param=where
                )
        else:
            for number, part in enumerate(cast("list[Part]", content)):
                if part.text is not None:
                    texts.append((message.role, part.text))
                elif part.type == "text":
                    where = f"messages[{index}].content[{number}].text"
                    raise BadRequest(f"The field '{where}' is missing.", param=where)
                elif part.type in MEDIA:
                    media += 1
    return texts, media


def _check_tools(chat: Chat) -> None:
    for index, tool in enumerate(chat.tools or ()):
        if tool.type == "function" and tool.function is None:
            where = f"tools[{index}].function"
            raise BadRequest(f"The field '{where}' is missing: a function tool needs a name.", param=where)
    choice = chat.tool_choice
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise BadRequest(
            "Invalid value for 'tool_choice': write none, auto, required, or an object that names a tool.",
            param="tool_choice",
        )


def _is_batch(prompt: str | list[Any]) -> bool:
    return isinstance(prompt, list) and not isinstance(prompt[0], int)


def _is_tokens(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(type(x) is int and x >= 0 for x in items)


def _prompt_texts(prompt: str | list[Any]) -> list[tuple[str, str]]:
    if isinstance(prompt, str):
        return [("prompt", prompt)]
    if _is_tokens(prompt) or all(_is_tokens(x) for x in prompt):
        return []
    if all(isinstance(x, str) for x in prompt):
        return [("prompt", x) for x in prompt]
    raise BadRequest(
        "Invalid value for 'prompt': write a text, a list of texts, or lists of token numbers.", param="prompt"
    )


def _embedding(request: Embedding, body: bytes, fields: dict[str, Raw]) -> Request:
    given = request.input
    texts: list[tuple[str, str]] = []
    if isinstance(given, str):
        count, texts = 1, [("user", given)]
    elif _is_tokens(given):
        count = 1
    elif all(isinstance(x, str) for x in given):
        count, texts = len(given), [("user", x) for x in given]
    elif all(_is_tokens(x) for x in given):
        count = len(given)
    else:
        raise BadRequest(
            "Invalid value for 'input': write a text, a list of texts, or lists of token numbers, not a mixture.",
            param="input",
        )
    if count == 1 and texts and not texts[0][1]:
        raise BadRequest("Invalid value for 'input': the text is empty.", param="input")
    return Request(
        "embeddings", request.model, False, False, 1, None, 0, count, False, request.user, fields, body, (texts, fields)
    )


def edited(fields: dict[str, Raw], changes: dict[str, Any]) -> bytes:
    """The body again with some top-level fields set (or, where the change is None, left out); the others byte for byte."""
    merged: dict[str, Any] = {**fields, **changes}
    return _encode({name: value for name, value in merged.items() if value is not None})
