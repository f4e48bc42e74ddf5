# SPDX-License-Identifier: Apache-2.0
"""The exchange: the one object that travels through the rooms; at its end it is the wide event that the journal keeps.

In: one request as its head arrived. Out: the slots that each room fills. It also steps the coroutine of `flow.py` by
hand (decision D6): a task and a future per request would cost more than all rooms together.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Protocol

import msgspec

from beffroi.core.errors import BeffroiError
from beffroi.core.price import FREE, NO_COST, Cost, Price, Tokens
from beffroi.core.snapshot import KeyRecord

NO_TOKENS = Tokens()


class ClientGone(Exception):
    """Thrown into the flow where it waits when the client has left."""


class _Pause:
    def __await__(self) -> Generator[None, Any, Any]:
        return (yield)


PAUSE = _Pause()
"""`await PAUSE` suspends the flow until `Exchange.resume`; say first, in `awaiting`, what is awaited."""

BODY, JOURNAL, TURN = "body", "journal", "turn"


class ClientSide(Protocol):
    """What the rooms ask of the connection that a client holds."""

    def write(self, data: bytes) -> None:
        """Send bytes; bounded by `pause_writing` on the other side."""
        ...

    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        ...

    def finish(self, exchange: "Exchange", error: BeffroiError | None) -> None:
        """The exchange is recorded (or `error` says that it could not be): let its last bytes go."""
        ...


class Exchange(msgspec.Struct, eq=False):
    """One request on its way; a slot for each thing that a room learns.

    Attributes:
        wall_ns, started: when the first byte of the request was read, Unix and monotonic nanoseconds.
        complete: the whole request has been read.
        attempt: number of intents written; each is an attempt on an engine.
        fallbacks: models that may still take it, in order; `spent`: attempts that models before the present one had.
        begun: a byte of the answer has reached the client: from here on there is no retry.
        last: the bytes that leave only once the settlement is in the journal.
        awaiting: what the suspended flow waits for; a resumption for anything else is stale and ignored.
    """

    client: ClientSide
    id: str
    wall_ns: int
    started: int
    # the request, as the wire side read it
    parts: list[bytes] = []
    method: str = ""
    path: str = ""
    http10: bool = False
    keep: bool = False
    expect: bool = False
    complete: bool = False
    head_only: bool = False
    authorization: bytes | None = None
    content_type: bytes = b""
    content_encoding: bytes = b""
    content_length: int | None = None
    size: int = 0
    address: str = ""
    body: bytes = b""
    endpoint: str = ""
    # the rooms
    key: KeyRecord | None = None
    view: Any = None
    request: Any = None
    model: Any = None
    ask: Any = None
    ticket: Any = None
    price: Price = FREE
    input_estimate: int = 0
    max_tokens: int | None = None
    verdict: str = "allow"
    findings: tuple[str, ...] = ()
    member: Any = None
    member_name: str = ""
    member_kind: str = ""
    tried: tuple[str, ...] = ()
    fallbacks: tuple[Any, ...] = ()
    spent: int = 0
    attempt: int = 0
    relay: Any = None
    # the answer
    status: int = 0
    code: str | None = None
    outcome: str = ""
    source: str = "none"
    tokens: Tokens = NO_TOKENS
    cost: Cost = NO_COST
    finish_reason: str | None = None
    refusal: BeffroiError | None = None
    bytes_out: int = 0
    first_ns: int = 0
    begun: bool = False
    ended: bool = False
    last: bytes = b""
    flow: Any = None
    awaiting: object = None

    def start(self, flow: Coroutine[Any, Any, None]) -> None:
        """Run the flow up to its first wait, or to its end."""
        self.flow = flow
        try:
            flow.send(None)
        except StopIteration:
            return

    def resume(self, what: object, error: BaseException | None = None) -> bool:
        """Go on with a flow that waits for `what`; False when it no longer does."""
        if self.awaiting is not what:
            return False
        self.awaiting = None
        try:
            if error is None:
                self.flow.send(None)
            else:
                self.flow.throw(error)
        except StopIteration:
            pass
        return True

    def journaled(self, error: BeffroiError | None) -> None:
        """The journal's word on the intent that the flow waits for."""
        self.resume(JOURNAL, error)

    def recorded(self, error: BeffroiError | None) -> None:
        """The journal's word on the settlement: the last bytes may go, or must not."""
        self.client.finish(self, error)

    def leave(self) -> None:
        """The client has left."""
        if not self.ended and self.awaiting is not None:
            self.resume(self.awaiting, ClientGone())


async def breathe(x: Exchange, loop: asyncio.AbstractEventLoop) -> None:
    """Let the event loop turn once: for work on large bodies that is done in slices."""
    loop.call_soon(x.resume, TURN)
    x.awaiting = TURN
    await PAUSE
