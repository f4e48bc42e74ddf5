# SPDX-License-Identifier: Apache-2.0
"""One client connection between transports that a test holds, whose exchanges end when the test says so.

In: pieces of bytes. Out: what was read of them, in order, and what was answered.
"""

from typing import Any

from beffroi.core.exchange import Exchange
from beffroi.gateway.server import ClientConnection
from tests.client import Answer, Framing
from tests.fuzz.readers import Watched, Wire
from tests.fuzz.requests import post, sized


class Line:
    """A connection whose exchanges wait until the test lets them end."""

    def __init__(self, rig: "Slow") -> None:
        self.rig = rig
        self.wire: Any = Wire()
        worker: Any = rig
        self.client = ClientConnection(worker)
        self.client.connection_made(self.wire)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.client.data_received(piece)
            self.rig.loop.turn()

    def end(self) -> None:
        """The exchange under way ends; what follows from that happens in the next turn."""
        self.rig.release()

    @property
    def answers(self) -> list[Answer]:
        written, found = b"".join(self.wire.writes), []
        while written:
            framing = Framing()
            assert framing.feed(written) and framing.answer, written
            found.append(framing.answer)
            written = bytes(framing.buffer)
        return found

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


class Slow(Watched):
    """Complete requests wait for `release`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.waiting: list[Exchange] = []
        self.held = False

    def later(self, x: Exchange) -> None:
        if self.held:
            self.waiting.append(x)
        else:
            super().later(x)

    def release(self) -> None:
        """As when the journal has written the record of the exchange that is answered."""
        self.waiting.pop(0).recorded(None)


def numbered(number: int, *, size: int = 0) -> bytes:
    """A request that can be told from others."""
    body = b"%d" % number + b"x" * size
    return post(sized(body), body=body)


def bodies(rig: Watched) -> list[int]:
    return [int(seen.body.rstrip(b"x")) for seen in rig.seen]
