# SPDX-License-Identifier: Apache-2.0
"""Starts the real `beffroi serve` as a child of the test, and looks at it from outside.

In: engines, workers, settings. Out: a `Served`: addresses, a key, the CLI, the ledger, the process tree; stopped, or
killed with all its tree, by process id.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest

from tests.client import Answer, Conn, call, chat, request

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
KEY = re.compile(r"bf-[0-9A-Za-z]{12}-[0-9A-Za-z]{38}")
Json = dict[str, Any]


def scaled(name: str, default: int) -> int:
    """A count that a long run raises: `BEFFROI_<NAME>` in the environment."""
    return int(os.environ.get(f"BEFFROI_{name.upper()}", default))


def skip(what: str) -> NoReturn:
    """Skip for want of an external program; under BEFFROI_REQUIRE=all that is a failure (decision D24)."""
    if os.environ.get("BEFFROI_REQUIRE") == "all":
        pytest.fail(f"{what} is required here (BEFFROI_REQUIRE=all) and was not found")
    pytest.skip(f"{what} was not found")


def program(name: str) -> str:
    """The path of an external program, or a skip that names it."""
    return shutil.which(name) or skip(name)


def compiler() -> tuple[str, str]:
    """A C compiler and the folder of Python.h, or a skip that names what is not there."""
    found, include = program("cc"), sysconfig.get_path("include")
    return (found, include) if Path(include, "Python.h").exists() else skip("Python.h")


def shared(*parts: str) -> Path:
    """Material beside the repository; a want of it is always a skip, never a failure."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"../shared/{'/'.join(parts)} is not here")
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until `true()`; → how many seconds that took.

    Raises:
        AssertionError: it did not come true in time.
    """
    begin = time.monotonic()
    while not true():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - begin


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def descriptors(pids: Iterable[int]) -> int:
    """How many descriptors those processes hold."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += len(os.listdir(f"/proc/{pid}/fd"))
    return total


def rss_kib(pid: int) -> int:
    """Resident memory of one process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


class Served:
    """One `beffroi serve`, with a data directory that outlives its restarts.

    Args:
        data: the data directory.
        engines: name → URL of the engines; all models are served by all of them unless `models` says otherwise.
        models: the `resources.models` of the configuration file; by default the model `words` on every engine.
        settings: the `gateway` part of the configuration file.
        arguments: further arguments of `serve`; with `bare` there is no configuration file and only these.
    """

    def __init__(
        self,
        data: Path,
        engines: dict[str, str] | None = None,
        *,
        models: list[Json] | None = None,
        settings: Json | None = None,
        server: Json | None = None,
        workers: int = 1,
        arguments: tuple[str, ...] = (),
        bare: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        self.data, self.workers, self.arguments, self.bare = data, workers, arguments, bare
        self.env = os.environ | {"PYTHONPATH": str(ROOT / "src")} | (env or {})
        self.port, self.control_port = free_port(), free_port()
        self.address = ("127.0.0.1", self.port)
        self.control = ("127.0.0.1", self.control_port)
        self.popen: subprocess.Popen[bytes] | None = None
        self.key = ""
        self.log = data.parent / f"{data.name}.log"
        self.config = data.parent / f"{data.name}.yaml"
        named = engines or {}
        targets = [{"engine": name} for name in named]
        self.document: Json = {
            "server": server or {},
            "gateway": settings or {},
            "resources": {
                "engines": [{"name": name, "url": url} for name, url in named.items()],
                "models": models if models is not None else [{"id": "words", "targets": targets}] if targets else [],
            },
        }

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.popen, "not started"
        return self.popen.pid

    @property
    def output(self) -> str:
        """All that it has printed, over every start."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def command(self) -> list[str]:
        """What starts it."""
        ports = ["--port", str(self.port), "--control-port", str(self.control_port)]
        config = [] if self.bare else ["--config", str(self.config)]
        where = ["--data", str(self.data), "--workers", str(self.workers)]
        return [sys.executable, "-m", "beffroi", "serve", *ports, *where, *config, *self.arguments]

    def write_config(self) -> None:
        """Put `document` where `serve` reads it, in one rename (JSON is YAML)."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(json.dumps(self.document, indent=1))
        fresh.rename(self.config)

    def start(self, *, ready: bool = True, within: float = 20) -> Self:
        """Start it, and wait until it serves."""
        if not self.bare:
            self.write_config()
        fresh = not (self.data / "keys.bin").exists()
        with self.log.open("ab") as out:
            self.popen = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.env,
                cwd=self.data.parent,
                process_group=0,
            )
        if ready:
            self.wait_ready(within)
            if not self.key:
                self.key = self.printed_key() if fresh else self.new_key()
        return self

    def wait_ready(self, within: float = 20) -> float:
        """Wait until both ports say that they are ready; → seconds."""
        try:
            return wait_for(self.is_ready, within, "ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output[-3000:]}") from None

    def is_ready(self) -> bool:
        """Whether both ports answer /readyz with 200."""
        if self.popen is not None and self.popen.poll() is not None:
            raise AssertionError(f"serve ended with {self.popen.returncode}")
        return all(get(port, "/readyz")[0] == 200 for port in (self.control_port, self.port))

    def printed_key(self) -> str:
        """The key that the first start prints, once it has."""
        wait_for(lambda: KEY.search(self.output) is not None, 5, "the first key is printed")
        found = KEY.search(self.output)
        assert found
        return found[0]

    def stop(self, within: float = 20) -> int:
        """SIGTERM, and the exit status; whatever outlives it is killed and reported."""
        if self.popen is None:
            return 0
        pids = tree(self.pid)
        self.popen.send_signal(signal.SIGTERM)
        try:
            status = self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"serve did not stop within {within} s:\n{self.output[-3000:]}") from None
        left = [pid for pid in pids if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"processes {left} outlived serve"
        self.popen = None
        return status

    def kill(self) -> None:
        """SIGKILL to the whole tree, the supervisor first so that it replaces nobody."""
        if self.popen is None:
            return
        pids = tree(self.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait(10)
        wait_for(lambda: not any(alive(pid) for pid in pids), 10, "the killed tree is gone")
        self.popen = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    # --- what it can be asked ---------------------------------------------------------------------------------------

    def children(self, mark: str) -> list[int]:
        """Process ids of the tree whose command line or child description holds `mark` (worker, control, embedded)."""
        found = []
        for pid in tree(self.pid)[1:]:
            with contextlib.suppress(OSError):
                if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return sorted(found)

    @property
    def worker_pids(self) -> list[int]:
        return self.children("beffroi.gateway.worker")

    def cli(self, *arguments: str, within: float = 20) -> Any:
        """A command of the CLI with --json; → what it printed, parsed.

        Raises:
            AssertionError: it failed.
        """
        done = self.run_cli(*arguments, "--json", within=within)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def run_cli(self, *arguments: str, within: float = 20) -> subprocess.CompletedProcess[str]:
        """A command of the CLI on this data directory."""
        return self.cli_bare(*arguments, "--data", str(self.data), within=within)

    def cli_bare(self, *arguments: str, within: float = 20) -> subprocess.CompletedProcess[str]:
        """A command of the CLI on whatever its arguments name."""
        return subprocess.run(
            [sys.executable, "-m", "beffroi", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=within,
            env=self.env,
            cwd=self.data.parent,
        )

    def new_key(self, **limits: Any) -> str:
        """A new key; `requests_per_minute=3` becomes `--requests-per-minute 3`."""
        options = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        return str(self.cli("keys", "create", f"test {time.monotonic_ns()}", *options)["key"])

    def chat(self, content: str = "hello there", *, key: str | None = None, timeout: float = 15, **more: Any) -> Answer:
        """One chat request on a connection of its own."""
        return call(self.address, request(key or self.key, chat(content, **more)), timeout=timeout)

    def connect(self, timeout: float = 15) -> Conn:
        """A raw connection to the API port."""
        return Conn(self.address, timeout=timeout)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over all labels on the control port; 0 where there is none."""
        status, body = get(self.control_port, "/metrics")
        assert status == 200, f"/metrics: {status}"
        samples = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.eE+-]+)$", body.decode(), re.MULTILINE)
        return sum(map(float, samples))

    def ledger(self, query: str = "SELECT * FROM exchanges") -> list[Json]:
        """Rows of the ledger's database, read beside the control process."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.data / 'beffroi.db'}?mode=ro", uri=True, timeout=10)
        ) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query)]

    def settled(self, ids: Iterable[str], within: float = 10) -> dict[str, list[Json]]:
        """Ledger rows by request id, once each of `ids` has one; rows of refused attempts come before the last."""
        wanted = set(ids)
        found: dict[str, list[Json]] = {}

        def complete() -> bool:
            found.clear()
            for row in self.ledger("SELECT * FROM exchanges ORDER BY request_id, attempt"):
                found.setdefault(row["request_id"], []).append(row)
            return wanted <= found.keys()

        wait_for(complete, within, f"{len(wanted)} request ids in the ledger")
        return found


def get(port: int, path: str, timeout: float = 2) -> tuple[int, bytes]:
    """A GET on loopback; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
