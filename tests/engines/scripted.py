# SPDX-License-Identifier: Apache-2.0
"""A scripted OpenAI-compatible engine: deterministic answers, faults on command, its own count of tokens.

In: requests on a TCP or Unix socket, faults from a test or from `GET /control?faults=close|cut_after=3;rst&standing=gap=0.01`.
Out: answers; `GET /stats`, `GET /requests`, the log (`ledger`). In a test: `with ScriptedEngine() as engine:` runs it on a
thread and an event loop of its own; as a child: `python -m tests.engines.scripted --port 0`.
"""

import argparse
import asyncio
import base64
import json
import random
import ssl
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.engines import answers, faults, play
from tests.engines.faults import SOUND, Fault
from tests.engines.ledger import Entry, Log
from tests.engines.wire import Connection, Received

GENERATIONS = {"/v1/chat/completions": False, "/v1/completions": True}
KEPT = 20_000


class ScriptedEngine:
    """The engine. What a test may read at any time: `requests`, `entries`, `stats`, `connections`.

    Args:
        port: 0 chooses a free one; ignored with `uds`.
        models: what /v1/models lists; `name!fault` is a model that always has that fault. Any model name is served.
        seed: draws token counts at random instead of counting: prompt, completion (within `tokens`) and cached.
        log: file of the engine's own record.
        api_key: required as a bearer token when set.
        tls: serve TLS with this context.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        uds: Path | None = None,
        models: tuple[str, ...] = ("words",),
        seed: int | None = None,
        tokens: tuple[int, int] = (1, 40),
        log: Path | None = None,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        owned_by: str = "scripted",
    ) -> None:
        self.host, self.port, self.uds, self.models, self.tls, self.owned_by = host, port, uds, models, tls, owned_by
        self.api_key = api_key
        self.requests: deque[Received] = deque(maxlen=KEPT)
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.standing = SOUND
        self.connections = 0
        self.accepted = 0
        self.stats = {"requests": 0, "completed": 0, "aborted": 0, "open": 0}
        self._queue: deque[Fault] = deque()
        self._tokens = tokens
        self._random = random.Random(seed) if seed is not None else None
        self._log = Log(log)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._alive: set[Connection] = set()

    # --- what a test does with it ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where a gateway finds it."""
        return f"unix:{self.uds}" if self.uds else f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def script(self, *queue: Fault | str) -> None:
        """Append faults to the queue: each following generation or embeddings request takes one."""
        for fault in queue:
            self._queue.extend([fault] if isinstance(fault, Fault) else faults.parse_queue(fault))

    def always(self, fault: Fault | str = SOUND) -> None:
        """The fault of every request that finds the queue empty; nothing makes the engine sound again."""
        self.standing = faults.parse(fault) if isinstance(fault, str) else fault

    def reset_script(self) -> None:
        """Forget the faults that no request has taken."""
        self._queue.clear()

    def generations(self) -> list[Received]:
        """The requests for an answer, in the order in which they came."""
        return [r for r in self.requests if r.path in GENERATIONS or r.path == "/v1/embeddings"]

    def start(self) -> Self:
        """Serve on a thread of its own; returns once the socket listens."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="scripted-engine", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the scripted engine did not start")
        return self

    def stop(self) -> None:
        """Close the socket and every connection."""
        if self._loop and self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._log.close()

    def drop(self) -> None:
        """Reset every open connection, as a machine that dies does."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._abort_all)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- serving --------------------------------------------------------------------------------------------------

    def _serve(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self.listen())
            ready.set()
            loop.run_forever()
        finally:
            if self._server:
                self._server.close()
            self._abort_all()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.close()

    async def listen(self) -> None:
        """Open the socket on the running loop."""
        loop = asyncio.get_running_loop()
        if self.uds:
            self._server = await loop.create_unix_server(self._connect, str(self.uds), ssl=self.tls, backlog=4096)
        else:
            self._server = await loop.create_server(self._connect, self.host, self.port, ssl=self.tls, backlog=4096)
            self.port = self._server.sockets[0].getsockname()[1]

    def _abort_all(self) -> None:
        for connection in list(self._alive):
            if hasattr(connection, "transport"):  # it has none before its TLS handshake is done
                connection.transport.abort()

    def _connect(self) -> Connection:
        self.accepted += 1
        self.connections += 1
        connection = Connection(self.accepted, self._handle, self._closed)
        self._alive.add(connection)
        return connection

    def _closed(self, connection: Connection) -> None:
        self.connections -= 1
        self._alive.discard(connection)

    async def _handle(self, connection: Connection, request: Received) -> None:
        if request.path not in ("/stats", "/control", "/requests"):
            self.requests.append(request)
        if (
            self.api_key
            and request.path.startswith("/v1/")
            and request.get("authorization") != f"Bearer {self.api_key}"
        ):
            await play.refuse(connection, Fault(status=401, message="wrong engine key"))
        elif request.method == "POST" and request.path in GENERATIONS:
            await self._generate(connection, request, legacy=GENERATIONS[request.path])
        elif request.method == "POST" and request.path == "/v1/embeddings":
            await self._embed(connection, request)
        elif (body := self._page(request)) is not None:
            await play.plain(connection, 200, json.dumps(body).encode(), SOUND)
        else:
            await play.refuse(connection, Fault(status=404, message="no such path", code_number=True))

    def _page(self, request: Received) -> Any:
        """What the engine says of itself; None: no such path."""
        match request.path:
            case "/health" | "/v1/health":
                return {"status": "ok"}
            case "/v1/models":
                return {"object": "list", "data": [self._model(name) for name in self.models]}
            case "/stats":
                return self.stats | {"connections": self.connections}
            case "/requests":
                return [
                    {
                        "method": r.method,
                        "target": r.target,
                        "headers": r.headers,
                        "body": base64.b64encode(r.body).decode(),
                    }
                    for r in self.requests
                ]
            case "/control":
                query = parse_qs(urlsplit(request.target).query, keep_blank_values=True, separator="&")
                self.script(*query.get("faults", []))
                for text in query.get("standing", []):
                    self.always(text)
                return {"queued": len(self._queue)}
        return None

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": answers.CREATED,
            "owned_by": self.owned_by,
            "max_model_len": 32768,
        }

    def _fault(self, model: str) -> Fault:
        if self._queue:
            return self._queue.popleft()
        _, bang, text = model.partition("!")
        return faults.parse(text) if bang else self.standing

    def _drawn(self, request: dict[str, Any], fault: Fault) -> tuple[int, int, int] | None:
        if fault.tokens >= 0:
            return answers.prompt_tokens(request), fault.tokens, 0
        if self._random is None:
            return None
        prompt = self._random.randint(1, 4000)
        return prompt, self._random.randint(*self._tokens), self._random.randint(0, prompt)

    async def _generate(self, connection: Connection, request: Received, *, legacy: bool) -> None:
        try:
            asked = request.json
            fault = self._fault(str(asked.get("model", "")))
        except (ValueError, AttributeError) as why:
            await play.refuse(connection, Fault(status=400, message=f"not a request: {why}", code_number=True))
            return
        self.stats["requests"] += 1
        number = self.stats["requests"]
        plan = answers.plan(asked, number, legacy=legacy, drawn=self._drawn(asked, fault))
        usage = plan.usage
        entry = Entry(
            number,
            request.get("x-request-id") or "",
            plan.model,
            usage.prompt,
            usage.completion,
            usage.cached,
            usage.reasoning,
        )
        self.entries.append(entry)
        self._log.write(entry)
        self.stats["open"] += 1
        try:
            await self._play(connection, asked, plan, fault, entry)
        finally:
            if entry.state == "open":
                entry.state = "aborted"
            self.stats["open"] -= 1
            self.stats["completed"] += entry.state == "completed"
            self.stats["aborted"] += entry.state == "aborted"
            self._log.write(entry)

    async def _play(
        self, connection: Connection, asked: dict[str, Any], plan: answers.Plan, fault: Fault, entry: Entry
    ) -> None:
        if fault.close or fault.head_only or (fault.cut_after == 0 and asked.get("stream")):
            entry.state = "failed"
            if not fault.close:
                await connection.send(play.head(200, "text/event-stream", fault, chunked=True))
            await connection.close(reset=fault.rst)
        elif fault.hang:
            await connection.gone.wait()
        elif not await connection.pause(fault.first):
            entry.state = "aborted"
        elif fault.status:
            entry.state = "failed"
            await play.refuse(connection, fault)
        elif asked.get("stream"):
            include = bool((asked.get("stream_options") or {}).get("include_usage"))
            await play.stream(connection, plan, fault, entry, include_usage=include)
        else:
            while fault.gap and entry.made < plan.usage.completion:
                if not await connection.pause(fault.gap):
                    return
                entry.made += 1
            await play.answer(connection, plan, fault, entry)

    async def _embed(self, connection: Connection, request: Received) -> None:
        fault = self._fault(str(request.json.get("model", "")))
        if fault.close:
            await connection.close(reset=fault.rst)
        elif fault.hang:
            await connection.gone.wait()
        elif fault.status:
            await play.refuse(connection, fault)
        else:
            await connection.pause(fault.first)
            await play.plain(connection, 200, json.dumps(answers.embeddings(request.json)).encode(), fault)


def main() -> None:
    """Run as a process; prints `listening on URL` once it does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--uds", type=Path)
    parser.add_argument("--models", default="words", help="comma separated")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--tokens", default="1-40", help="completion tokens to draw from")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--standing", default="", help="the fault of every request, see faults.py")
    options = parser.parse_args()
    low, _, high = options.tokens.partition("-")
    engine = ScriptedEngine(
        port=options.port,
        uds=options.uds,
        models=tuple(options.models.split(",")),
        seed=options.seed,
        tokens=(int(low), int(high or low)),
        log=options.log,
    )
    engine.always(options.standing)

    async def run() -> None:
        await engine.listen()
        print(f"listening on {engine.url}", flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
