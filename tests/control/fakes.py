# SPDX-License-Identifier: Apache-2.0
"""A worker as the bus sees it, and a control process started as the supervisor starts it.

The worker is the real link over a real socket, with the least behind it; the process is the real one.
"""

import asyncio
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from beffroi.core.snapshot import Config, KeyBase, KeyDelta
from beffroi.core.state import load_config, load_keys
from beffroi.gateway.link import Link
from beffroi.telemetry.metrics import EngineMetrics, ModelMetrics, WorkerMetrics

RESOURCES = {"engines": [{"name": "a", "url": "http://127.0.0.1:9"}], "models": [{"id": "m", "aliases": ["n"]}]}


class Worker:
    """Holds what the link gives it."""

    def __init__(self, data: Path, slot: int = 0) -> None:
        self.config = load_config(data)
        base = load_keys(data)
        self.keys = {record.id: record for record in base.keys}
        self.revision = base.revision
        self.loads = 0
        self.was_cut: list[str] = []
        self.counted = WorkerMetrics(worker=slot, boot="b", engines={"a": EngineMetrics()})
        self.link = Link(
            self, path=data / "bus.sock", worker=slot, boot=uuid.uuid4().hex, loop=asyncio.get_running_loop()
        )
        self.link.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def revisions(self) -> tuple[int, int]:
        return self.config.revision, self.revision

    def apply_config(self, config: Config) -> None:
        self.config = config

    def apply_delta(self, delta: KeyDelta) -> bool:
        if delta.revision > self.revision + 1:
            return False
        self.keys |= {record.id: record for record in delta.upsert}
        self.revision = max(self.revision, delta.revision)
        return True

    def apply_keys(self, base: KeyBase) -> None:
        self.loads += 1
        self.keys = {record.id: record for record in base.keys}
        self.revision = base.revision

    def metrics(self) -> WorkerMetrics:
        return self.counted

    def cut(self, key_id: str) -> int:
        self.was_cut.append(key_id)
        return 2

    def count(self) -> ModelMetrics:
        """Counts of the model `m`."""
        return self.counted.models.setdefault("m", ModelMetrics())


class WorkerThread:
    """A worker with a loop in a thread of its own, for tests that block."""

    def __init__(self, data: Path, slot: int = 0) -> None:
        self._done = threading.Event()
        self._joined = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(data, slot)))

    async def _live(self, data: Path, slot: int) -> None:
        with Worker(data, slot) as worker:
            await until(lambda: worker.link.connected)
            self._joined.set()
            while not self._done.is_set():
                await asyncio.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._joined.wait(10), "it never reached control"
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


class Answer:
    """A status, headers, and JSON if it is some."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Control:
    """A running control process."""

    def __init__(
        self, data: Path, *, workers: int = 1, config: Path | None = None, fresh: bool = True, **more: Any
    ) -> None:
        self.data = data
        self.asked = 0
        self.door = socket.socket()
        self.door.bind(("127.0.0.1", 0))
        self.door.listen(16)
        self.port: int = self.door.getsockname()[1]
        self.arguments: dict[str, Any] = {
            "role": "control",
            "workers": workers,
            "data": str(data),
            "host": "127.0.0.1",
            "port": self.port,
            "fd": self.door.fileno(),
            "config": None if config is None else str(config),
            "resources": None if config else RESOURCES,
            "parent": os.getpid(),
            "fresh": fresh,
            **more,
        }
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process: subprocess.Popen[bytes]
        self.ready = self.start()

    def start(self) -> dict[str, Any] | None:
        """Start it, again after an end; what it says when ready, None if it ends before."""
        ours, theirs = os.pipe()
        try:
            arguments = {**self.arguments, "boot": uuid.uuid4().hex, "ready_fd": theirs}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "beffroi.control.process"],
                env={**os.environ, "BEFFROI_CHILD": json.dumps(arguments)},
                pass_fds=(self.door.fileno(), theirs),
                stdin=subprocess.DEVNULL,
                stderr=self.errors,
            )
            os.close(theirs)
            assert select.select([ours], [], [], 20)[0], "it neither gets ready nor ends"
            line = os.read(ours, 65536)
        finally:
            os.close(ours)
        self.arguments["fresh"] = False
        return json.loads(line) if line else None

    def log(self) -> str:
        """All that it wrote to standard error, from every start."""
        self.errors.seek(0)
        return self.errors.read().decode()

    def get(self, path: str, *, port: bool = False) -> Answer:
        """GET over the socket, or over the port."""
        return self.ask("GET", path, port=port)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        port: bool = False,
        key: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request over the socket, or over the port; with an admin key over the port, from an address of its own.

        A fresh loopback address each time, so that the bounds on requests of one address are not in the way.
        """
        source = None
        if key:
            self.asked += 1
            source = (f"127.{1 + self.asked // 64_000 % 250}.{self.asked // 250 % 250}.{1 + self.asked % 250}", 0)
            headers = {"authorization": f"Bearer {key}", **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=source)
        if not port and not key:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.data / "control.sock"))
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def close(self) -> int:
        """Stop it; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()
            self.door.close()
            self.errors.close()


@contextmanager
def control(data: Path, **how: Any) -> Iterator[Control]:
    """A control process for as long as the block lasts."""
    running = Control(data, **how)
    try:
        yield running
    finally:
        running.close()


async def until(true: Any, seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)
