# SPDX-License-Identifier: Apache-2.0
"""The connection to Valkey or Redis: scripts in one pipeline, 20 ms for an answer, a breaker, and calls for what is lent.

In: the address, batches of script calls. Out: answers, or `Away`; `came` and `recalled` are called when it is back and when
another worker looks for room. Nothing here retries on its own: what is sent may be sent again by whoever asked.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis import exceptions
from redis.asyncio import Redis

from beffroi.gateway.quota.fleet.wire import Names, script
from beffroi.telemetry import logs
from beffroi.telemetry.metrics import FleetMetrics, observe

PATIENCE_S = 0.020
TURNS = 4
CONNECT_S = 1.0
ENOUGH = 3  # answers missed in a row, or two lost connections, open the breaker
PROBE_S, PROBE_MOST_S = 0.1, 1.0
LISTEN_AGAIN_S = 0.5
_log = logs.Logger("beffroi.fleet")
_FAULTS = (TimeoutError, exceptions.RedisError, OSError)


class Away(Exception):
    """No answer within 20 ms, or none that helps."""


def open_client(url: str) -> Redis:
    """A client that tries once and says what happened.

    Raises:
        ValueError: no such address.
    """
    client: Redis = Redis.from_url(
        url, socket_connect_timeout=CONNECT_S, retry=None, retry_on_error=[], health_check_interval=0, client_name="beffroi",
        protocol=2,
    )  # fmt: skip
    return client


class Centre:
    """One worker's way to the centre.

    Attributes:
        up: it answers; `heard_ns`: when it last did (monotonic).
    """

    def __init__(
        self, url: str, names: Names, came: Callable[[], Any], recalled: Callable[[str], None], metrics: FleetMetrics
    ) -> None:
        self._url = url
        self._redis = open_client(url)
        self._names = names
        self._came = came
        self._recalled = recalled
        self._metrics = metrics
        self._missed = 0
        self._why = ""
        self._down, self._answers = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.up = False
        self.heard_ns = 0

    def start(self) -> None:
        """Connect and stay connected; needs a running loop."""
        self._down.set()
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._listen())]

    async def heard(self, seconds: float) -> bool:
        """Wait until it answers, so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answers.wait(), seconds)
        return self.up

    def silence(self) -> None:
        """Say nothing any more, as a process that was killed."""
        self.up = False
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Let go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.connection_pool.disconnect(inuse_connections=True)
        await self._redis.aclose()
        await asyncio.sleep(0)  # transports close in the next turn

    def blocking(self) -> redis.Redis:
        """A client for the last word of a process that ends."""
        return redis.Redis.from_url(self._url, socket_connect_timeout=CONNECT_S, socket_timeout=CONNECT_S, protocol=2)

    async def run(self, batch: list[tuple[list[str], bytes]]) -> list[bytes]:
        """Run the lease script for each of a batch: keys, argument.

        Raises:
            Away: there is no answer; whether anything was done nobody knows.
        """
        begin = time.perf_counter_ns()
        sent = asyncio.create_task(self._send(batch))
        try:
            await asyncio.wait((sent,), timeout=PATIENCE_S)
            for _ in range(TURNS):  # a loop that was held up itself has the answer and has not read it yet
                if not sent.done():
                    await asyncio.sleep(0)
            if not sent.done():
                raise TimeoutError
            answers = sent.result()
        except _FAULTS as error:
            self._miss(error)
            raise Away from None
        finally:
            if not sent.done():
                sent.cancel()
                with suppress(asyncio.CancelledError, *_FAULTS):
                    await sent
        self._missed, self.heard_ns = 0, time.monotonic_ns()
        metrics = self._metrics
        metrics.calls += len(batch)
        observe(metrics.answer_us, (time.perf_counter_ns() - begin) // 1000)
        return answers

    async def _send(self, batch: list[tuple[list[str], bytes]]) -> list[bytes]:
        text, sha = script("lease")
        async with self._redis.pipeline(transaction=False) as pipe:
            for keys, argument in batch:
                pipe.execute_command("EVALSHA", sha, len(keys), *keys, argument)
            answers = await pipe.execute(raise_on_error=False)
            fault = next((each for each in answers if isinstance(each, Exception)), None)
            if isinstance(fault, exceptions.NoScriptError):
                await self._redis.script_load(text)
                for keys, argument in batch:
                    pipe.execute_command("EVALSHA", sha, len(keys), *keys, argument)
                answers = await pipe.execute(raise_on_error=True)
            elif fault is not None:
                raise fault
        return list(answers)

    def _miss(self, error: BaseException) -> None:
        self._metrics.missed += 1
        self._missed += 1 if isinstance(error, TimeoutError) else 2
        self._why = said(error)
        if self.up and self._missed >= ENOUGH:
            self.up = False
            self._metrics.opened += 1
            self._metrics.up = False
            _log.error("limits_centre_away", why=self._why)
            self._down.set()

    async def _keep(self) -> None:
        """While it is away, try it; who tries waits, requests do not."""
        told = ""
        while True:
            await self._down.wait()
            pause = PROBE_S
            while not await self._probe():
                if not self.heard_ns and self._why != told:
                    told = self._why
                    _log.error("limits_centre_away", why=told)
                await asyncio.sleep(pause)
                pause = min(PROBE_MOST_S, pause * 1.5)
            self._missed = 0
            self._down.clear()
            self.up = self._metrics.up = True
            self._answers.set()
            self.heard_ns = time.monotonic_ns()
            _log.info("limits_centre_answers")
            self._came()

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await self._redis.ping()  # may have to connect first
            async with asyncio.timeout(PATIENCE_S):
                await self._redis.script_load(script("lease")[0])
        except _FAULTS as error:
            self._why = said(error)
            return False
        return True

    async def _listen(self) -> None:
        """Hear that another worker looks for room in a scope."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(self._names.recall)
                    async for message in heard.listen():
                        self._recalled(message["data"].decode("utf-8", "replace"))
            except _FAULTS:
                await asyncio.sleep(LISTEN_AGAIN_S)


def said(error: BaseException) -> str:
    """What happened, in words that hold no address and no password."""
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, exceptions.AuthenticationError):
        return "the name or the password is refused"
    if isinstance(error, exceptions.ConnectionError):
        return "no connection"
    if isinstance(error, exceptions.ResponseError):
        return str(error)[:200]
    return type(error).__name__
