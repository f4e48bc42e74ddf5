# SPDX-License-Identifier: Apache-2.0
"""Starts real servers that a fleet stands on: PostgreSQL, and Valkey or the Redis 7 that a distribution has instead.

In: the programs of the distribution; a test whose program is missing is skipped by its name (decision D24). Out: servers on
free ports and sockets below a folder of their own, with fresh databases by the dozen; stopped, frozen, killed by process id.
"""

import contextlib
import gc
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pg8000.native  # type: ignore[import-untyped]
import pytest
from pg8000.exceptions import DatabaseError, InterfaceError  # type: ignore[import-untyped]

from beffroi.store.engine import open_engine, upgrade
from tests.harness import free_port, skip, wait_for

OWNER, PASSWORD = "beffroi", "of-the-tests"
_LIBRARIES = Path("/usr/lib/postgresql")
_START_S = 30.0


def _drop_root() -> tuple[list[str], int, int]:
    """How to start what refuses to run as root: a prefix of its command, and who its files must belong to."""
    if os.geteuid() != 0:
        return [], os.geteuid(), os.getegid()
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        skip("a user `postgres`, whom initdb needs in place of root,")
    setpriv = shutil.which("setpriv") or skip("setpriv")
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [setpriv, *ids, "--"], user.pw_uid, user.pw_gid


class _Server:
    """One server process in a folder of its own; what it says is in `log`."""

    def __init__(self, prefix: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        self.log = self.folder / "log"
        self.port = free_port()
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it, again too; returns when it answers."""
        assert self._popen is None, "it runs"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self.folder)
        wait_for(self._up, _START_S, f"{self._command()[-1]} answers; {self.log}")
        return self

    def _up(self) -> bool:
        assert self._popen is not None
        assert self._popen.poll() is None, f"it ended: {self.log.read_text(errors='replace')[-2000:]}"
        return self._answers()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._popen is not None, "it does not run"
        return self._popen.pid

    def _end(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(signal.SIGCONT)
            self._popen.send_signal(number)
            self._popen.wait(30)
            self._popen = None

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly end that waits for nobody."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        """End it at once and remove its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(_Server):
    """A PostgreSQL cluster with `fsync` on, on 127.0.0.1 (with a password) and on a socket in its folder.

    Databases belong to the role `beffroi`, which is no superuser, so that row-level security holds for it.
    """

    def __init__(self) -> None:
        found = sorted(_LIBRARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        initdb = str(found[-1]) if found else shutil.which("initdb") or skip("PostgreSQL (initdb)")
        self._bin = Path(initdb).parent
        self._prefix, uid, gid = _drop_root()
        super().__init__("pg-")
        self._made = 0
        self._template = ""
        os.chown(self.folder, uid, gid)
        words = self.folder / "words"
        words.write_text(PASSWORD)
        os.chown(words, uid, gid)
        subprocess.run(
            [
                *(*self._prefix, initdb, "-D", str(self.folder / "data"), "-U", "postgres", f"--pwfile={words}", "-N"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "port": str(self.port),
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "64MB",
            "max_connections": "200",
            "logging_collector": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._prefix, str(self._bin / "postgres"), "-D", str(self.folder / "data"), *words]

    def _answers(self) -> bool:
        try:
            self.ask("SELECT 1")
        except (InterfaceError, DatabaseError, OSError):
            return False
        return True

    def start(self) -> Self:
        """Start it, again too; returns when it answers and has the role."""
        super().start()
        if not self.ask("SELECT 1 FROM pg_roles WHERE rolname = :name", name=OWNER):
            self.ask(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
        return self

    def ask(self, sql: str, database: str = "postgres", **values: Any) -> list[list[Any]]:
        """One statement as the superuser, over the socket."""
        path = str(self.folder / f".s.PGSQL.{self.port}")
        connection = pg8000.native.Connection("postgres", unix_sock=path, database=database, timeout=30)
        try:
            return list(connection.run(sql, **values) or ())
        finally:
            with contextlib.suppress(InterfaceError, OSError):
                connection.close()

    def url(self, database: str) -> str:
        """How Beffroi is told of it."""
        return f"postgresql://{OWNER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def empty(self) -> str:
        """The URL of a new database without tables."""
        return self._create("")

    def database(self) -> str:
        """The URL of a new database that is brought up to date, copied from one made once."""
        if not self._template:
            url = self.empty()
            engine = open_engine(url)
            upgrade(engine)
            engine.dispose()
            self._template = url.rpartition("/")[2]
        return self._create(f" TEMPLATE {self._template}")

    def _create(self, template: str) -> str:
        self._made += 1
        name = f"b{self._made}"
        self.ask(f"CREATE DATABASE {name} OWNER {OWNER}{template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.ask(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def cut(self, url: str) -> int:
        """Terminate all connections to a database; how many there were."""
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        return len(self.ask(sql, name=url.rpartition("/")[2]))


class Valkey(_Server):
    """A Valkey, or a Redis 7, on 127.0.0.1 and on a socket in its folder; keeps nothing on the disk."""

    def __init__(self) -> None:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        self._program = found or skip("valkey-server or redis-server")
        super().__init__("vk-")
        self.socket = self.folder / "socket"

    def _command(self) -> list[str]:
        words = {"port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.socket), "save": ""}
        words |= {"appendonly": "no", "dir": str(self.folder), "daemonize": "no"}
        return [self._program, *(word for name, value in words.items() for word in (f"--{name}", value))]

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False

    def ask(self, *words: str) -> bytes:
        """One command; its answer as it is on the wire, the first 64 KiB of it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            sock.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return sock.recv(1 << 16)

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def url(self) -> str:
        """How Beffroi is told of it."""
        return f"redis://127.0.0.1:{self.port}/0"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the whole session: take a `database()`; who stops or kills one starts his own with `Postgres()`."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Valkey for the whole session: use names of your own; who stops, freezes or flushes one starts his own."""
    with Valkey() as server:
        yield server


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Around a test whose connection attempts are cut by their time-out: their sockets are left to the collector, here."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
