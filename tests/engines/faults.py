# SPDX-License-Identifier: Apache-2.0
"""The ways in which the scripted engine misbehaves, and how they are asked for.

In: text such as `cut_after=3;rst` or `status=429;message=slow down`. Out: a `Fault`. It reaches the engine in a model's
name after `!` (`words!cut_after=3`), or from a queue that a test fills (each request takes one), or as the standing
fault of the whole engine.
"""

from dataclasses import dataclass, fields

GARBAGE = (
    "half_utf8",  # a character cut in the middle by the end of an event, its second half never sent
    "long_line",  # one data: line of 10 MB
    "crlf",  # CRLF line ends
    "no_done",  # the stream ends well framed, without [DONE]
    "usage_missing",
    "usage_zero",
    "usage_twice",  # two usage chunks, the second one right
    "usage_in_last",  # usage rides on the last chunk that has choices
    "after_finish",  # a chunk with text after the finish reason
    "no_space",  # data:{...} without the space
    "byte_by_byte",  # each event arrives in single bytes
    "two_writes",  # each event is cut over two writes
    "many_in_one",  # the whole stream in one write
    "comments",  # comment lines and event: fields between the events
    "not_json",  # an event that is no JSON
    "not_sse",  # lines that are no SSE field
    "null_usage",  # "usage": null on each chunk, as some engines do
    "running_usage",  # the running usage on each chunk, as vLLM's continuous_usage_stats
)


@dataclass(frozen=True)
class Fault:
    """One request's misbehaviour; everything off by default. Times are seconds, counts are tokens.

    Attributes:
        close: the connection closes before a byte is answered. head_only: after the head.
        hang: nothing is ever answered. status: an error answer instead, with `message`; code_number makes its `code` an
            integer, bare_error leaves a body that is no JSON.
        cut_after: closes after that many tokens were sent (0: after the head; a plain answer: in the middle of its body).
        rst: every close of this request is a reset.
        stall_after: after that many tokens nothing more comes, the connection stays open.
        first: pause before the first byte of the answer. gap: between tokens.
        garbage: one or more of GARBAGE joined by `+`.
        framing: chunked, length (the whole stream with content-length) or close (delimited by the end of the connection).
        head_bytes: the head is padded with a header of that size; head_count: with that many headers.
        content_type: of a stream or an answer, instead of the right one.
        tool_object: tool arguments are an object. tool_bare: tool calls have no id, index and type.
        body_bytes: a plain answer is padded to that size. tokens: completion tokens to make, instead of the usual.
        keep_alive: false closes the connection after a good answer. bad_length: content-length is larger than the body.
    """

    close: bool = False
    head_only: bool = False
    hang: bool = False
    status: int = 0
    message: str = "the engine was told to fail"
    code_number: bool = False
    bare_error: bool = False
    cut_after: int = -1
    rst: bool = False
    stall_after: int = -1
    first: float = 0.0
    gap: float = 0.0
    garbage: str = ""
    framing: str = "chunked"
    head_bytes: int = 0
    head_count: int = 0
    content_type: str = ""
    tool_object: bool = False
    tool_bare: bool = False
    body_bytes: int = 0
    tokens: int = -1
    keep_alive: bool = True
    bad_length: bool = False

    def __post_init__(self) -> None:
        unknown = set(filter(None, self.garbage.split("+"))) - set(GARBAGE)
        if unknown or self.framing not in ("chunked", "length", "close"):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown)) or self.framing}")

    def has(self, garbage: str) -> bool:
        return garbage in self.garbage.split("+")


SOUND = Fault()


def parse(text: str) -> Fault:
    """The fault that `name=value;name` describes; a bare name is true, or a garbage if it is one.

    Raises:
        ValueError: a name or a value that no fault has.
    """
    kinds = {f.name: type(getattr(SOUND, f.name)) for f in fields(Fault)}
    values: dict[str, str | int | float | bool] = {}
    for part in filter(None, text.replace(",", ";").split(";")):
        name, equals, value = part.partition("=")
        if name in GARBAGE and not equals:
            values["garbage"] = "+".join(filter(None, (str(values.get("garbage", "")), name)))
        elif name not in kinds:
            raise ValueError(f"no such fault: {name}")
        elif kinds[name] is bool:
            values[name] = value in ("", "1", "true", "yes")
        else:
            values[name] = kinds[name](value)
    return Fault(**values)  # type: ignore[arg-type]


def parse_queue(text: str) -> list[Fault]:
    """Faults in order, separated by `|`; `fault*3` stands for three of them and an empty one for a sound answer."""
    out: list[Fault] = []
    for part in text.split("|"):
        fault, _, times = part.partition("*")
        out += [parse(fault)] * (int(times) if times else 1)
    return out
