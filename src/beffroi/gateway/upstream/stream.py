# SPDX-License-Identifier: Apache-2.0
"""Room 5, relay: an event stream, whole events at a time.

In: an engine's events as they come. Out: the same events in framing of our own, with our id and the public model name.

Two ways through. *Fast*: how the engine spells id, time and model is learned from the first event, so a `replace` on the
bytes rewrites a block, however many events it holds. *Slow*: each event is decoded, mended and encoded; taken from the
first event that says something special (finish_reason, tool calls, the end), for blocks whose events do not all look
like the first, and for engines whose events are irregular. The last chunk that has choices waits for usage, so that
both can ride on it.
"""

from typing import TYPE_CHECKING

from beffroi.core.clock import Clock
from beffroi.core.errors import BadRequest, BeffroiError, Draining, EngineBroken, EngineError, EngineTimeout
from beffroi.core.exchange import Exchange
from beffroi.core.kernel import KERNEL
from beffroi.gateway.upstream.events import MendedEvents
from beffroi.gateway.upstream.plain import MAX_FAULT, UNSPLIT, Ratios, fault_error, note_usage, thinks
from beffroi.gateway.upstream.spelling import Spelling, learn
from beffroi.wire import http
from beffroi.wire.envelope import openai_event
from beffroi.wire.openai.answer import counted_usage

if TYPE_CHECKING:
    from beffroi.gateway.upstream.connection import EngineConnection

regular_events = KERNEL.regular_events if KERNEL else None
MAX_EVENT = 1 << 20
LAST_CHUNK = b"0\r\n\r\n"
TOOL_CALLS = b'"tool_calls":'
NO_CHOICES = b'"choices":[]'
END_SECONDS = 1.0  # after `[DONE]` only the end of the framing is to come
DONE = b"data: [DONE]\n\n"


class StreamAnswer(MendedEvents):
    """One stream on its way from an engine to a client.

    Attributes:
        spelling: what was learned from the first event; opening, ours: the bytes up to the choices that all regular
            events share, and what stands there for the client.
        blocks: pieces that came from the engine; seen_blocks: those that the sweep has seen.
        deadline, quiet_since: coarse monotonic seconds; moved by the sweep while events come.
    """

    connection: "EngineConnection | None" = None
    status = 0
    paused = slow = crlf = False
    rest = b""
    spelling: Spelling | None = None
    finish = opening = ours = b""
    blocks = seen_blocks = 0
    sent = 0

    def __init__(
        self,
        x: Exchange,
        clock: Clock,
        now: float,
        ratios: Ratios,
        *,
        first: float,
        between: float,
        head_lines: bytes,
    ) -> None:
        super().__init__(x)
        self.write = x.client.write
        self.raw = x.http10
        self.clock = clock
        self.quiet_since = now
        self.deadline = now + first
        self.between = between
        self.head_lines = head_lines
        self.ratios = ratios
        self.watch_tools = x.request.has_tools
        self.faults: list[bytes] = []

    # what the engine's connection tells --------------------------------------------------------------------------

    def head(self, status: int, kind: bytes) -> None:
        """See `connection.Answer`."""
        self.status = status
        member = self.x.member
        if status == 200 and not kind.lower().startswith(b"text/event-stream"):
            self.status = 502
        elif status == 200 and member.probing:
            member.left()  # an engine on trial that answers may be tried by others too: a stream can be long
        # n > 1: the end of one choice is not the end; ollama: role and `created` anew in each event
        self.slow = self.x.request.n > 1 or member.kind == "ollama"

    def data(self, data: bytes, *, complete: bool) -> None:
        """See `connection.Answer`."""
        self.blocks += 1
        # The common case of a stream: one regular event. Nothing is decoded, and there is one write.
        if (
            self.opening
            and data.startswith(self.opening)
            and data.find(b"\n\n") == len(data) - 2
            and data.rfind(self.finish) < 0  # from the end: several times faster where it is not there
            and not (complete or self.slow or self.rest or self.watch_tools)
            and (data.isascii() or _is_utf8(data))
        ):
            self.seen += 1
            data = self.ours + data[len(self.opening) :]
            self.sent += len(data)
            self.write(data if self.raw else b"%x\r\n%b\r\n" % (len(data), data))
            return
        if self.status != 200:
            self._fault(data, complete=complete)
            return
        if self.rest:
            data, self.rest = self.rest + data, b""
        if self.crlf:
            data = data.replace(b"\r\n", b"\n")
        if not data.endswith(b"\n\n"):
            data = self._whole_events(data, complete=complete)
        error: BeffroiError | None = None
        if data:
            try:
                if self.slow:
                    self.mend(data)
                elif self.spelling is not None:
                    self._fast(data)
                else:
                    self._first(data)
            except BeffroiError as why:
                error = why
        if error is not None:
            self._stop_engine()
            self.fail(error)
        elif complete:
            self.connection = None
            self._end()
        elif self.out:
            self._flush()
        elif self.rest and len(self.rest) > MAX_EVENT:
            self._stop_engine()
            self.fail(EngineBroken("An engine sent an endless event."))

    def lost(self, error: EngineError) -> None:
        """See `connection.Answer`. What said `[DONE]` is whole, however its framing ends."""
        self.connection = None
        if self.done:
            self._end()
        else:
            self.fail(error)

    def _fault(self, data: bytes, *, complete: bool) -> None:
        self.faults.append(data)
        if complete:
            self.connection = None
            self.x.resume(self, fault_error(self.x, self.status, b"".join(self.faults)))
        elif sum(map(len, self.faults)) > MAX_FAULT:
            self._stop_engine()
            self.x.resume(self, fault_error(self.x, self.status, b""))

    # events ------------------------------------------------------------------------------------------------------

    def _whole_events(self, data: bytes, *, complete: bool) -> bytes:
        """Keep what is not yet a whole event for later; learn CRLF line ends."""
        if not self.crlf and (b"\r\n\r\n" in data or b"\r\n" in data[:8192]):
            self.crlf = True
            data = data.replace(b"\r\n", b"\n")
        if complete:
            return data if not data or data.endswith(b"\n\n") else data + b"\n\n"
        cut = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        self.rest = data[cut:]
        return data[:cut]

    def _first(self, data: bytes) -> None:
        """The first events: learn what all events share, or see that this engine needs the slow way."""
        start, end = 0, data.index(b"\n\n") + 2
        while data.startswith(b":", start):  # a comment is not yet an answer
            if end == len(data):
                return
            start, end = end, data.index(b"\n\n", end) + 2
        data = data[start:]
        event = data[: end - start]
        if not event.startswith(b"data: {") or not self.chat:
            self.slow = True
            self.mend(data)
            return
        chunk = self.decode_event(event[6:-2])
        choices = chunk.get("choices")
        regular = (
            isinstance(choices, list)
            and len(choices) == 1
            and isinstance(choices[0], dict)
            and choices[0].get("index") == 0
            and isinstance(choices[0].get("delta"), dict)
            and choices[0]["delta"].get("role") == "assistant"
            and not any(said for name, said in choices[0]["delta"].items() if name != "role")
            and choices[0].get("finish_reason", 0) is None
            and not chunk.get("usage")
            and not chunk.get("error")
            and chunk.get("object") == "chat.completion.chunk"
            and type(chunk.get("created")) is int
        )
        spelling = learn(event, chunk, self.id, self.model) if regular else None
        if spelling is None:
            self.slow = True
            self.mend(data)
            return
        self.spelling, self.finish, self.created, self.ours = spelling, spelling.finish, spelling.created, spelling.ours
        self._fast(data)

    def _fast(self, data: bytes) -> None:
        """A block of regular events. The first special one, and all that follow, take the slow way."""
        if regular_events is not None and (spelling := self.spelling) is not None and spelling.common:
            tools = TOOL_CALLS if self.watch_tools else b""
            renamed, count, taken = regular_events(data, spelling.common, spelling.ours, self.finish, tools)
            if count:
                self._passed(data, taken, count, renamed)
                if taken == len(data):
                    return
                data = data[taken:]
        at = found = data.rfind(self.finish)
        while found >= 0:  # rarely more than once, but the first one counts
            at, found = found, data.rfind(self.finish, 0, found)
        if at < 0 and data.endswith(DONE):
            at = len(data) - len(DONE)
        if self.watch_tools and (found := data.find(TOOL_CALLS)) >= 0 and (at < 0 or found < at):
            at = found
        if at >= 0:
            start = data.rfind(b"\n\n", 0, at) + 2 if b"\n\n" in data[:at] else 0
            data, special = data[:start], data[start:]
            self.slow = True
            if data:
                self._regular(data)
            self.mend(special)
        else:
            self._regular(data)

    def _regular(self, data: bytes) -> None:
        spelling = self.spelling
        assert spelling is not None  # noqa: S101 - the first event was learned
        count = data.count(spelling.stamp)
        alike = data.count(b"\n\n") == count and data.rfind(NO_CHOICES) < 0
        if alike and (data.isascii() or _is_utf8(data)):
            self._passed(data, len(data), count, spelling.renamed(data))
        else:  # a comment, an error, another second: not all of them look like the first
            self.mend(data)

    def _passed(self, data: bytes, size: int, count: int, renamed: bytes) -> None:
        """So many regular events go to the client: those in the first `size` bytes of a block."""
        if self.seen <= 0:
            self.thinking = thinks(data[: min(size, 2048)])  # thoughts come first, so it is enough to look here
        self.seen += count - (not self.voiced)  # the first only names the role
        self.voiced = 1
        if self.seen > 0 and self.spelling is not None:
            self.opening = self.spelling.common
        self.out.append(renamed)

    # what the client gets ----------------------------------------------------------------------------------------

    def _opening(self) -> bytes:
        """The head, before the first bytes of the body; from here on there is no other engine to try."""
        if self.begun:
            return b""
        self.begun = self.x.begun = True
        self.x.status = 200
        self.x.first_ns = self.clock.mono_ns()
        if self.x.http10:
            return http.stream_head(self.x.id, b"connection: close\r\n", self.head_lines)
        framing = (
            b"transfer-encoding: chunked\r\n" if self.x.keep else b"transfer-encoding: chunked\r\nconnection: close\r\n"
        )
        return http.stream_head(self.x.id, framing, self.head_lines)

    def _framed(self, data: bytes) -> bytes:
        self.sent += len(data)
        return data if self.raw else b"%x\r\n%b\r\n" % (len(data), data)

    def _flush(self) -> None:
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        self.out = []
        if self.begun:
            self.write(self._framed(data))
        else:
            self.write(self._opening() + self._framed(data))

    def comment(self, now: float) -> None:
        """Keep proxies from giving up in a long silence: an SSE comment (and the head, if it has not gone yet)."""
        self.quiet_since = now
        self.write(self._opening() + self._framed(b": keep-alive\n\n"))

    def _end(self) -> None:
        """The engine has said all: usage and backend go into the last chunk, then `[DONE]`; all of it waits in `x.last`."""
        x = self.x
        if self.held is None and x.finish_reason is None:
            if not self.done or not (self.begun or self.out):
                self.fail(EngineBroken("An engine ended its stream before the answer was finished.", retry_after=1))
                return
            self.hold_reason()
        usage = self.usage
        if usage is not None:
            note_usage(x, usage)
        else:
            usage = counted_usage(self.ratios.lowest_input(self.model, len(x.body)), self.counted)
            x.tokens, x.source = usage.tokens, "relayed"
        if self.thinking and not usage.tokens.reasoning:
            x.findings = (*x.findings, UNSPLIT)
        backend = {"engine_type": x.member.kind, "machine_name": x.member.machine}
        if x.request.asked_usage:
            self.release_held()
            self.emit({**self.bare(), "usage": usage.shown, "backend": backend})
        elif self.held is not None:
            self.emit({**self.held, "usage": usage.shown, "backend": backend})
        self.held = None
        self.out.append(DONE)
        self._close()
        x.resume(self)

    def _close(self) -> None:
        opening = self._opening()
        ending = b"" if self.x.http10 else LAST_CHUNK
        self.x.last = opening + self._framed(b"".join(self.out)) + ending
        self.x.bytes_out = self.sent
        self.out = []

    def fail(self, error: BeffroiError) -> None:
        """The engine failed, or the answer must not go on.

        Before the first byte: an error that the flow may answer with another engine. After it: one event says so, and
        no `[DONE]` follows.
        """
        x = self.x
        if not self.begun:
            x.resume(self, error)
            return
        if isinstance(error, EngineTimeout):
            x.outcome = "engine_timeout"
        elif isinstance(error, EngineError | BadRequest):
            x.outcome = "engine_gone"
        else:
            x.outcome = "drained" if isinstance(error, Draining) else "refused"
        x.code = error.code
        if self.usage is not None and self.usage.tokens.completion >= self.counted:
            note_usage(x, self.usage)  # it counted as it went, or all but the end had come
        created = self.created or x.wall_ns // 1_000_000_000
        self.out.append(openai_event(error, x.id, self.id, created, self.model, chat=self.chat))
        self._close()
        x.resume(self)

    def _stop_engine(self) -> None:
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None

    @property
    def counted(self) -> int:
        """Tokens relayed so far, one per event that carries text: what a cut stream is billed on."""
        return max(0, self.seen)

    # back-pressure and time --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Nobody reads any more: close towards the engine at once."""
        self._stop_engine()

    def pause(self) -> None:
        """The client reads slowly: stop reading its engine, TCP does the rest."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause_reading()

    def unpause(self) -> None:
        """The client has caught up."""
        self.paused = False
        if self.connection is not None:
            self.connection.resume_reading()

    def moved(self, now: float) -> bool:
        """Whether events came since the last call, which puts the deadline off; the sweep asks, at `now`.

        A stream paused for its client is not late either.
        """
        moved = self.blocks != self.seen_blocks
        if moved or self.paused:
            self.seen_blocks = self.blocks
            self.deadline = now + (END_SECONDS if self.done else self.between)
        if moved:
            self.quiet_since = now
        return moved

    def late(self, now: float) -> bool:
        """True once the next event is overdue."""
        return now > self.deadline


def _is_utf8(data: bytes) -> bool:
    """Half a character at the end of an event would break the client's reader."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
