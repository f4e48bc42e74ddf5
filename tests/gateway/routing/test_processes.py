# SPDX-License-Identifier: Apache-2.0
"""Engines as processes that are killed, stopped and drowned: what clients of a whole running Beffroi see of it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.client import Answer, chat, exchange, request
from tests.engines.scripted import ScriptedEngine
from tests.harness import ROOT, Served, alive, free_port, wait_for


@dataclass
class Somewhere:
    """An address where no engine is."""

    url: str


class EngineProcess:
    """A scripted engine as a child process on a port of its own, which survives its deaths."""

    def __init__(self, standing: str = "") -> None:
        self.port, self.standing = free_port(), standing
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.engines.scripted",
            "--port",
            str(self.port),
            "--standing",
            self.standing,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert b"listening" in self.process.stdout.readline()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """And reap."""
        if alive(self.process.pid):
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def three() -> Iterator[list[EngineProcess]]:
    """Three engines that take 50 ms for an answer."""
    engines = [EngineProcess("gap=0.005;first=0.02") for _ in range(3)]
    yield engines
    for engine in engines:
        engine.kill()


async def ask(served: Served, seconds: float, clients: int = 8) -> list[tuple[float, Answer | Exception]]:
    """Clients that ask for so long, streams and whole answers in turn; → how long each took, and its answer."""
    out: list[tuple[float, Answer | Exception]] = []
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        while time.monotonic() < end:
            begin = time.monotonic()
            data = request(served.key, chat("count to 5", stream=bool(number % 2)))
            try:
                answer: Answer | Exception = await exchange(served.address, data, timeout=20)
            except (OSError, TimeoutError) as error:
                answer = error
            out.append((time.monotonic() - begin, answer))
            await asyncio.sleep(0.02)

    await asyncio.gather(*map(client, range(clients)))
    return out


def judged(results: list[tuple[float, Answer | Exception]]) -> Counter[str]:
    """Complete, told (a stream that had begun and ended with the error event), or what went wrong."""
    count: Counter[str] = Counter()
    for _, answer in results:
        if isinstance(answer, Exception):
            count[repr(answer)] += 1
        elif answer.status != 200:
            count[f"{answer.status} {answer.body[:100]!r}"] += 1
        elif answer.body.startswith(b"data:") and b'"finish_reason":"error"' in answer.events[-1]:
            count["told"] += 1
        else:
            count["complete" if answer.text == "1 2 3 4 5" else f"wrong: {answer.text}"] += 1
    return count


@pytest.mark.timeout(60)
def test_killed_engines_are_not_seen_by_requests_that_had_not_begun(
    serve: Callable[..., Served], three: list[EngineProcess]
) -> None:
    """kill -9 of one of three, again and again, each back after a moment (U1)."""
    served = serve(*three)

    async def killing() -> None:
        await asyncio.sleep(0.5)
        for turn in range(4):
            await asyncio.to_thread(three[turn % 3].kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(three[turn % 3].start)
            await asyncio.sleep(0.7)

    async def both() -> list[tuple[float, Answer | Exception]]:
        results, _ = await asyncio.gather(ask(served, 7), killing())
        return results

    count = judged(asyncio.run(both()))
    assert set(count) <= {"complete", "told"}, count
    assert count["complete"] > 200, count


@pytest.mark.timeout(60)
def test_a_stopped_engine_costs_one_time_out_and_is_then_left_aside(
    serve: Callable[..., Served], three: list[EngineProcess]
) -> None:
    """SIGSTOP: it accepts, for the kernel does, and never answers. No client sees an error (U2)."""
    served = serve(*three, settings={"first_token_timeout": 1.0, "answer_timeout": 1.0})
    asyncio.run(ask(served, 1))
    three[0].signal(signal.SIGSTOP)
    try:
        data = request(served.key, chat("count to 5", stream=True))

        async def streams() -> list[tuple[float, Answer | Exception]]:
            async def client() -> list[tuple[float, Answer | Exception]]:
                out: list[tuple[float, Answer | Exception]] = []
                for _ in range(40):
                    begin = time.monotonic()
                    answer = await exchange(served.address, data, timeout=20)
                    out.append((time.monotonic() - begin, answer))
                return out

            return [one for each in await asyncio.gather(*(client() for _ in range(6))) for one in each]

        results = asyncio.run(streams())
        assert set(judged(results)) == {"complete"}, judged(results)
        slow = sorted(seconds for seconds, _ in results if seconds > 0.9)
        assert len(slow) <= 12, "left aside after three"
        assert not slow or slow[-1] <= 4.5, "one time-out (and two turns of the sweep), not two"
    finally:
        three[0].signal(signal.SIGCONT)


@pytest.mark.timeout(60)
def test_an_engine_that_does_not_accept_connections_costs_its_connect_time_only(
    serve: Callable[..., Served], engine: ScriptedEngine
) -> None:
    """A full backlog swallows the handshake: after `connect_timeout` another engine is asked, for whole answers too."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        stuffing = [socket.socket() for _ in range(4)]
        try:
            for each in stuffing:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            time.sleep(0.1)
            served = serve(Somewhere(f"http://127.0.0.1:{port}"), engine, settings={"connect_timeout": 0.3})
            seconds = []
            for number in range(12):
                begin = time.monotonic()
                answer = served.chat("count to 3", stream=bool(number % 2))
                seconds.append(time.monotonic() - begin)
                assert (answer.status, answer.text) == (200, "1 2 3")
            slow = [each for each in seconds if each > 0.25]
            assert 1 <= len(slow) <= 3, "left aside after three"
            assert max(slow) < 0.3 + 1.0
        finally:
            for each in stuffing:
                each.close()


@pytest.mark.timeout(60)
def test_engines_that_all_fail_are_told_soon_and_not_flooded(serve: Callable[..., Served]) -> None:
    """100 % of 500s: attempts stay within a fifth of the requests, and each client hears it at once, with Retry-After (U4)."""
    with ScriptedEngine() as one, ScriptedEngine() as other:
        for engine in (one, other):
            engine.always("status=500")
        served = serve(one, other)
        results = asyncio.run(ask(served, 3))
        assert len(results) > 200
        for _, answer in results:
            assert isinstance(answer, Answer) and answer.status in (502, 503), answer
            assert int(answer.get("retry-after") or 0) >= 1
        seconds = sorted(seconds for seconds, _ in results)
        assert seconds[len(seconds) // 4] <= 0.05, "a busy machine may hold up some"
        attempts = one.stats["requests"] + other.stats["requests"]
        assert attempts <= 1.2 * len(results)


@pytest.mark.timeout(60)
def test_service_returns_with_the_first_engine_that_does(
    serve: Callable[..., Served], three: list[EngineProcess]
) -> None:
    """All three killed, one comes back: served within five seconds, and from then on every request (U5)."""
    served = serve(*three)
    assert served.chat().status == 200
    for each in three:
        each.kill()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        answer = served.chat("count to 5")
        assert answer.status in (502, 503) and answer.get("retry-after")
        time.sleep(0.02)
    three[1].start()
    waited = wait_for(lambda: served.chat("count to 5").status == 200, 10, "service")
    assert waited <= 5
    assert set(judged(asyncio.run(ask(served, 1)))) == {"complete"}
    three[0].start()
    three[2].start()
    asyncio.run(ask(served, 6))
    busy = [served.metric("beffroi_engine_ejected")]
    assert busy == [0.0], "all three are back at work"
