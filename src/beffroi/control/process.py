# SPDX-License-Identifier: Apache-2.0
"""The control process: opens the database, writes the snapshot, says that it is ready, serves until told to stop.

In: one JSON object in BEFFROI_CHILD (see `Arguments`), the listening socket of the control port. Out: the snapshot on
disk, `bus.sock`, `control.sock`, the operations of `api`, the ledger. It may be killed at any time: workers serve on, and
the next one takes up from the files and the database.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from beffroi.control.api.app import port_app, socket_app
from beffroi.control.api.protocol import settings
from beffroi.control.backups import Backups
from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus
from beffroi.control.configuration import TAKEN, Watch
from beffroi.control.fleet import sharing
from beffroi.control.fleet.outage import Outage
from beffroi.control.house import House
from beffroi.control.keys import Keys
from beffroi.control.opening import Arguments, Opening, StartRefused, follower, require_loopback
from beffroi.control.quotas.keeping import alert, fill, keep
from beffroi.control.requests import Recent
from beffroi.control.rotation.runner import Runner
from beffroi.control.rotation.settings import mail_of, stores_of
from beffroi.control.rotation.stores.choose import Stores
from beffroi.control.shipping import Shipper
from beffroi.control.webhooks.addresses import networks
from beffroi.control.webhooks.courier import Courier
from beffroi.core.snapshot import Config
from beffroi.store.notices import Notices
from beffroi.telemetry import logs

log = logs.Logger("control")
READERS = 4  # threads that wait for the database on behalf of pages
WRITERS = {
    "sqlite": 1,
    "postgresql": 4,
}  # as many that wait to change it; where it takes one at a time, two would only poll
SERVING = 1.0  # seconds that the workers of a start get to be there before shipping begins without them
AGAIN = 1.0  # seconds between two tries to open a database that was away at the start
CHANNELS = ("beffroi", "beffroi_held")  # what PostgreSQL announces: a change; that a replica holds one


class _Server(uvicorn.Server):
    """One of two servers in one process: signals are the process's affair."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    """Run the process; its exit status: 0 told to stop, 2 the configuration is refused, 1 anything else."""
    arguments = msgspec.json.decode(os.environ["BEFFROI_CHILD"], type=Arguments)
    logs.configure("control")
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until somebody listens: the file is about to be read anyway
    try:
        require_loopback(arguments.host)
        prepared = Opening(arguments)
    except StartRefused as error:
        print(f"beffroi: {error}", file=sys.stderr)
        return error.status
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Control(arguments, prepared).run())
    return 0


class _Control:
    """The running process."""

    def __init__(self, arguments: Arguments, prepared: Opening) -> None:
        data = Path(arguments.data)
        self._arguments = arguments
        self._prepared = prepared
        self._data = data
        self._acts = ThreadPoolExecutor(1, "acts")
        self._reads = ThreadPoolExecutor(READERS, "reads")
        self._writes = ThreadPoolExecutor(WRITERS[prepared.engine.dialect.name], "writes")
        zone = prepared.config.settings.time_zone
        self._budgets = Budgets(data, zone=zone, quotas=prepared.files.quotas.values(), valkey=arguments.valkey)
        recent = Recent()
        self._shipper = Shipper(
            prepared.engine,
            data / "journal",
            replica=prepared.replica,
            charge=self._budgets.charge,
            settled=recent.add,
        )
        self._bus = Bus(arguments.workers, prepared.config.revision, prepared.files.revision, self._shipper.living)
        configuration = prepared.configuration
        stores = Stores(lambda: stores_of(configuration.source), lambda: configuration.source.base)
        keys = Keys(
            prepared.engine, self._acts, prepared.files, self._bus, data, lambda: self._house.config, self._budgets,
            stores,
        )  # fmt: skip
        self._house = House(
            data=data,
            engine=prepared.engine,
            vault=prepared.vault,
            thread=self._reads,
            writer=self._writes,
            bus=self._bus,
            keys=keys,
            shipper=self._shipper,
            backups=Backups(data, prepared.engine, self._acts, self._shipper, self._budgets),
            recent=recent,
            budgets=self._budgets,
            config=prepared.config,
        )
        self._house.refused = prepared.refused
        keys.current_ledger = self._house.current_ledger
        self._house.waiting = prepared.waiting
        self._follower = keys.follower = follower(prepared, self._bus, keys, self._acts, self._reads)
        self._house.follower = self._follower
        self._house.replica = prepared.replica
        keys.shared = None if prepared.member is None else prepared.vault
        self._open = asyncio.Event()
        self._house.address = self._address
        self._rotations = Runner(
            keys, stores, lambda: mail_of(configuration.source), complete=self._complete, address=self._address
        )
        allowed = networks(configuration.server.webhook_networks)
        self._house.courier = self._courier = Courier(
            prepared.engine, prepared.vault, allowed, self._house.writing, self._house.blocking
        )

    def _address(self) -> str:
        """Where people reach the control port."""
        host = self._arguments.host
        own = f"http://{f'[{host}]' if ':' in host else host}:{self._arguments.port}"
        return (self._prepared.configuration.source.document.server.control_url or own).rstrip("/")

    def _complete(self) -> int:
        """Unix second up to which the ledger has what was served here; 0 while shipping does not get on."""
        progress = self._shipper.progress()
        return 0 if progress.fault else int(time.time() - progress.lag_seconds)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        watch = Watch(self._prepared.configuration, self._blocking, self._take, self._refuse)
        loop.add_signal_handler(signal.SIGHUP, watch.tell)

        await self._bus.start(self._data / "bus.sock")
        servers = self._servers()
        tasks = [asyncio.create_task(server.serve([sock]), name=sock.family.name) for server, sock in servers]
        tasks.append(asyncio.create_task(watch.run(self._prepared.config.revision), name="watch"))
        tasks.append(asyncio.create_task(self._come_to_open(), name="database"))
        for name, work in (
            ("shipping", self._ship),
            ("housekeeping", partial(keep, self._house, self._prepared, fresh=self._arguments.fresh)),
            ("webhooks", self._courier.run),
            ("following", self._follow),
            ("alerts", partial(alert, self._house, self._prepared)),
            ("keys", self._house.keys.keep_up),
            ("rotations", self._rotations.run),
        ):
            tasks.append(asyncio.create_task(self._once_open(work), name=name))
        if self._budgets.shared:
            work = partial(fill, self._house, self._prepared)
            tasks.append(asyncio.create_task(self._once_open(work), name="shared limits"))
        self._say_ready()
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them ends by itself but by a fault, which is then the fault of the process
        finally:
            stopped.cancel()
            await self._end(servers, tasks)

    def _servers(self) -> list[tuple[_Server, socket.socket]]:
        port = socket.socket(fileno=self._arguments.fd)
        path = self._data / "control.sock"
        path.unlink(missing_ok=True)
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            local.bind(str(path))
        finally:
            os.umask(mask)
        local.listen(64)
        return [
            (_Server(settings(port_app(self._house))), port),
            (_Server(settings(socket_app(self._house))), local),
        ]

    async def _come_to_open(self) -> None:
        """Open a database that was away at the start; all that needs it waits for this."""
        while self._prepared.waiting:
            await asyncio.sleep(AGAIN)
            try:
                await self._blocking(self._prepared.open)
            except SQLAlchemyError as error:
                self._house.waiting = self._prepared.waiting = sharing.why(error, self._prepared.shown)
        self._house.waiting = ""
        self._open.set()
        await asyncio.get_running_loop().create_future()

    async def _once_open(self, work: Callable[[], Awaitable[None]]) -> None:
        await self._open.wait()
        await work()

    async def _follow(self) -> None:
        """Follow changes; in a fleet also hear of them, and move on how long this machine may go on alone."""
        member = self._prepared.member
        if member is None:
            await self._follower.run()
            return
        loop = asyncio.get_running_loop()

        def heard(channel: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._follower.hear, channel)

        notices = Notices(member.url, CHANNELS, heard)
        notices.start()
        outage = Outage(self._data, member.fleet, self._follower, self._shipper)
        try:
            await asyncio.gather(self._follower.run(), outage.run())
        finally:
            await asyncio.to_thread(notices.stop)

    async def _ship(self) -> None:
        """Ship as soon as all workers serve, which comes first: what a killed tree left can keep a core busy for a while."""
        await self._bus.hold_config(0, SERVING)
        self._shipper.start()
        await asyncio.get_running_loop().create_future()

    async def _blocking(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._acts, call)

    async def _take(self, config: Config) -> None:
        self._house.config = config
        self._bus.send_config(config.revision)
        if missing := await self._bus.hold_config(config.revision, TAKEN):
            log.warning("workers have not confirmed the new configuration", workers=missing)

    def _refuse(self, reason: str) -> None:
        self._house.refused = reason

    def _say_ready(self) -> None:
        line = {"ready": True, "first_key": self._prepared.first_key, "port": self._arguments.port}
        self._prepared.first_key = None
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._arguments.ready_fd, "wb") as pipe:
            pipe.write(msgspec.json.encode(line) + b"\n")

    async def _end(self, servers: list[tuple[_Server, socket.socket]], tasks: list[asyncio.Task[None]]) -> None:
        for server, _ in servers:
            server.should_exit = True
        for task in tasks[len(servers) :]:
            task.cancel()
        await asyncio.wait(tasks, timeout=6)
        await self._house.operations.close()
        await self._house.backups.close()
        await self._bus.close()
        await asyncio.get_running_loop().run_in_executor(None, self._shipper.stop)
        if self._prepared.member is not None and not self._prepared.waiting:
            await self._house.blocking(self._prepared.leave)
        self._acts.shutdown()
        self._writes.shutdown()
        self._reads.shutdown(cancel_futures=True)
        self._budgets.close()
        self._prepared.files.close()
        self._prepared.engine.dispose()
        for name in ("control.sock", "bus.sock"):
            (self._data / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
