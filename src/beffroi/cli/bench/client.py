# SPDX-License-Identifier: Apache-2.0
"""One client of a load: a connection of its own, one request at a time, every moment taken down.

In: requests as bytes, and the answers' bytes. Out: a `Sample` each.
"""

import asyncio
import ssl
import time
from typing import Any, NamedTuple

import httptools
import msgspec

CONNECT = 5.0  # seconds
_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Place(NamedTuple):
    """Where a load goes."""

    host: str
    port: int
    context: ssl.SSLContext | None
    name: str  # of the host, for its certificate


class Sample(msgspec.Struct):
    """One request.

    Attributes:
        fault: why it failed; empty: it was answered whole.
        first: seconds to the first piece of a stream; None: a plain answer, or none came.
        gaps: seconds between pieces of a stream.
        total: seconds to the end.
        counted: whether the answer told its tokens.
    """

    fault: str = ""
    first: float | None = None
    gaps: list[float] = []
    total: float = 0.0
    counted: bool = False
    input: int = 0
    output: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Said(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Said | None = None


class _Answer(msgspec.Struct):
    """What is read of an event or of a plain answer."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Client(asyncio.Protocol):
    """A connection that is opened when it is needed and kept."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._body = bytearray()
        self._begun = self._last = 0.0
        self._done = False
        self._streams = False
        self._sample = Sample()

    async def ask(self, request: bytes, limit: float) -> Sample:
        """One request and its answer, whole, within `limit` seconds."""
        self._sample = Sample(gaps=[])
        self._body.clear()
        self._done = self._streams = False
        self._begun = time.perf_counter()
        try:
            async with asyncio.timeout(limit):
                if self._transport is None:
                    await self._connect()
                    self._begun = time.perf_counter()
                self._parser = httptools.HttpResponseParser(self)
                self._waiter = asyncio.get_running_loop().create_future()
                if self._transport is not None:
                    self._transport.write(request)
                await self._waiter
        except TimeoutError:
            self._fail(f"no answer in {limit:g} s")
        except OSError as error:
            self._fail(f"connection: {error.strerror or error}")
        if not self._sample.total:
            self._sample.total = time.perf_counter() - self._begun
        if self._sample.fault:
            self.close()
        return self._sample

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _connect(self) -> None:
        host, port, context, name = self._place
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT):
            self._transport, _ = await loop.create_connection(
                lambda: self, host, port, ssl=context, server_hostname=name if context else None
            )

    def _fail(self, fault: str) -> None:
        self._sample.fault = self._sample.fault or fault

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What asyncio calls.

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP: {error}")
            self._release()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The end of the connection: a fault in the middle of an answer."""
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._fail("connection lost")
            self._release()

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Whether it is a stream."""
        if name.lower() == b"content-type":
            self._streams = value.startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        """A part of the body; events of a stream are taken down as they come."""
        self._body += body
        if not self._streams:
            return
        *events, rest = bytes(self._body).split(b"\n\n")
        self._body = bytearray(rest)
        now = time.perf_counter()
        for event in events:
            self._event(event, now)

    def on_message_complete(self) -> None:
        """The whole answer is there."""
        sample, status = self._sample, self._parser.get_status_code()
        if status < 200:
            return
        sample.total = time.perf_counter() - self._begun
        if status >= 400 or not self._streams:
            self._read(bytes(self._body))
        if status >= 400:
            sample.fault = f"{status} {sample.fault}".rstrip()
        elif self._streams and not self._done:
            self._fail("stream without [DONE]")
        if not self._parser.should_keep_alive():
            self.close()
        self._release()

    def _event(self, event: bytes, now: float) -> None:
        if not event.startswith(b"data:"):
            return
        content = event[5:].strip()
        if content == b"[DONE]":
            self._done = True
            return
        answer = self._read(content)
        says = (choice.delta for choice in answer.choices)
        if not any(said is not None and (said.content or said.reasoning_content) for said in says):
            return
        if self._sample.first is None:
            self._sample.first = now - self._begun
        else:
            self._sample.gaps.append(now - self._last)
        self._last = now

    def _read(self, content: bytes) -> _Answer:
        try:
            answer = _decode(content)
        except _FAULTS:
            self._fail("an answer that is no JSON of the API")
            return _Answer()
        if answer.usage is not None:
            self._sample.counted = True
            self._sample.input, self._sample.output = answer.usage.prompt_tokens, answer.usage.completion_tokens
        if answer.error is not None:
            self._fail(str(answer.error.get("code") or answer.error.get("type") or "error"))
        return answer
