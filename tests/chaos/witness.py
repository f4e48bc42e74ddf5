# SPDX-License-Identifier: Apache-2.0
"""A witness outside the tree: a client that puts on disk, synced, each answer whose last byte it has received.

In: an address and a key. Out: a file with one line per answer: request id and the four token counts that it saw. The
gateway may be killed at any time; the witness goes on as soon as it is back.

    python -m tests.chaos.witness --port 8400 --key bf-… --out FILE --clients 32
"""

import argparse
import asyncio
import json
import os
import random
import signal
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tests.client import Answer, Broken, chat, exchange, request


@dataclass(frozen=True)
class Seen:
    """What a client was told: the classes do not overlap (input without cached, output without reasoning)."""

    request_id: str
    input: int
    cached: int
    output: int
    reasoning: int


def seen(answer: Answer) -> Seen:
    """The id and the usage of a whole answer.

    Raises:
        ValueError: it carries none, or a stream ended without [DONE].
    """
    request_id = answer.get("x-request-id")
    if answer.body.startswith((b"data:", b":")):
        if answer.events[-1] != b"[DONE]":
            raise ValueError("a stream without [DONE]")
        usage = next((c["usage"] for c in reversed(answer.chunks) if c.get("usage")), None)
    else:
        usage = answer.json.get("usage")
    if not request_id or not usage:
        raise ValueError("an answer without request id or usage")
    return Seen(request_id, *classes(usage))


def classes(usage: dict[str, Any]) -> tuple[int, int, int, int]:
    """OpenAI's usage as the four classes that are billed."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return usage["prompt_tokens"] - cached, cached, usage["completion_tokens"] - reasoning, reasoning


def read(path: Path) -> list[Seen]:
    """The lines of a witness."""
    rows = (line.split() for line in path.read_text().splitlines())
    return [Seen(row[0], *map(int, row[1:])) for row in rows]


class Witness:
    """Clients that ask without end, half of them for streams.

    Attributes:
        refused: answers other than 200. broken: exchanges that ended before their last byte.
    """

    def __init__(self, address: tuple[str, int], key: str, out: Path, *, model: str = "words") -> None:
        self._address, self._key, self._model = address, key, model
        self._fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines: list[bytes] = []
        self.stopping = False
        self.count = self.refused = self.broken = 0

    async def run(self, clients: int) -> None:
        """Ask until `stopping`."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._client(random.Random(place))) for place in range(clients)]
        while not self.stopping:
            await asyncio.sleep(0.005)
            self._sync()
        await asyncio.gather(*tasks)
        self._sync()

    def _sync(self) -> None:
        if self._lines:
            os.write(self._fd, b"".join(self._lines))
            os.fdatasync(self._fd)
            self._lines.clear()

    async def _client(self, dice: random.Random) -> None:
        while not self.stopping:
            stream = dice.random() < 0.5
            body = chat(
                f"tell me {dice.random()}",
                model=self._model,
                stream=stream,
                reasoning_effort="low" if dice.random() < 0.2 else None,
            )
            try:
                answer = await exchange(self._address, request(self._key, body), timeout=15)
            except (Broken, OSError, TimeoutError):
                self.broken += 1
                await asyncio.sleep(0.02 + dice.random() * 0.05)
                continue
            if answer.status != 200:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            try:
                told = seen(answer)
            except ValueError:
                self.broken += 1
                continue
            self.count += 1
            self._lines.append((" ".join(map(str, astuple(told))) + "\n").encode())


def main() -> None:
    """Run until SIGTERM; then print what was counted, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", default="words")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    async def run() -> Witness:
        witness = Witness((options.host, options.port), options.key, options.out, model=options.model)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: setattr(witness, "stopping", True))
        await witness.run(options.clients)
        return witness

    witness = asyncio.run(run())
    print(json.dumps({"count": witness.count, "refused": witness.refused, "broken": witness.broken}))


if __name__ == "__main__":
    main()
