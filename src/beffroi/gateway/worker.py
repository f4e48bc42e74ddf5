# SPDX-License-Identifier: Apache-2.0
"""One gateway worker: a process with one event loop on an inherited listening socket.

In: BEFFROI_CHILD (which slot, which data directory, which socket), the snapshot on disk, changes over the bus.
Out: answers. Whatever ends it, what it began is settled: SIGTERM drains first, SIGKILL leaves it to the journal.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import ssl
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from beffroi.core.clock import SystemClock
from beffroi.core.errors import AuthenticationError, Draining
from beffroi.core.snapshot import Config, KeyBase, KeyDelta
from beffroi.core.state import load_config, load_keys
from beffroi.gateway import deadlines
from beffroi.gateway.flow import handle
from beffroi.gateway.house import House, Keys
from beffroi.gateway.journal.spool import Journal
from beffroi.gateway.link import Link
from beffroi.gateway.quota.counters import MappedCounters
from beffroi.gateway.quota.port import Counters
from beffroi.gateway.server import ClientConnection
from beffroi.gateway.stopwatch import ONE_IN, Flow, timed_flow
from beffroi.gateway.sweep import sweep
from beffroi.telemetry import logs
from beffroi.telemetry.logs import configure
from beffroi.telemetry.metrics import FleetMetrics, WorkerMetrics

if TYPE_CHECKING:
    from beffroi.gateway.quota.fleet import FleetCounters

SWEEP_SECONDS = 1.0
CENTRE_SECONDS = 1.0  # that a start waits for the centre of the limits: without it, it goes by the failure matrix
BACKLOG = 4096
_log = logs.Logger("beffroi.gateway")


class Worker:
    """The worker's life. It is the `LinkHost` of its bus connection."""

    def __init__(self, child: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.child = child
        self.data = Path(child["data"])
        number, boot = int(child["worker"]), str(child["boot"])
        config = load_config(self.data)
        clock = SystemClock()
        metrics = WorkerMetrics(number, boot)
        counters = self._counters(metrics, clock, config.settings.time_zone)
        # A settlement's counters are written in the journal's turn: together, and before the last byte leaves.
        journal = Journal(self.data / "journal", worker=number, boot=boot, loop=loop, before_then=counters.gather())
        base = load_keys(self.data)
        counters.know(base.quotas)
        self.house = House(config, Keys(base), journal, counters, metrics, clock, loop)
        self._deadlines = deadlines.Watch(self.data, self.house)
        self._deadlines.look()
        self.connections: set[ClientConnection] = set()
        self.link = Link(self, path=self.data / "bus.sock", worker=number, boot=boot, loop=loop)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tls_stamp: tuple[float, ...] = ()
        self._tls: ssl.SSLContext | None = None
        self._proxies = self._networks(config)
        self._due = 0.0
        self._walks = 0
        self._timed = timed_flow(handle, self.house.metrics, clock)

    def _counters(self, metrics: WorkerMetrics, clock: SystemClock, zone: str) -> Counters:
        """Limits of this machine alone, or those that several share."""
        child, number = self.child, int(self.child["worker"])
        self._fleet: FleetCounters | None = None
        if valkey := child.get("valkey"):
            from beffroi.gateway.quota import fleet  # noqa: PLC0415 - its library is an extra

            metrics.fleet = FleetMetrics()
            self._fleet = fleet.FleetCounters(
                valkey["url"], prefix=valkey["prefix"], clock=clock, zone=zone, loop=self.loop, metrics=metrics.fleet
            )
            return self._fleet
        mapped = MappedCounters(
            self.data / "counters.bin", worker=number, workers=int(child["workers"]), clock=clock, zone=zone
        )
        mapped.reset_worker(number)
        return mapped

    # what control asks -------------------------------------------------------------------------------------------

    def revisions(self) -> tuple[int, int]:
        """See `link.LinkHost`."""
        return self.house.view.config.revision, self.house.keys.revision

    def apply_config(self, config: Config) -> None:
        """See `link.LinkHost`."""
        self.house.swap(config)
        self._proxies = self._networks(config)

    def apply_delta(self, delta: KeyDelta) -> bool:
        """See `link.LinkHost`."""
        known = self.house.keys.revision
        follows = self.house.keys.apply(delta)
        if self.house.keys.revision != known:
            self.house.counters.learn(delta)
        return follows

    def apply_keys(self, base: KeyBase) -> None:
        """See `link.LinkHost`."""
        self.house.keys = Keys(base)
        self.house.counters.know(base.quotas)

    def metrics(self) -> WorkerMetrics:
        """See `link.LinkHost`: gauges are read now."""
        house = self.house
        metrics = house.metrics
        metrics.in_flight = len(house.active)
        metrics.journal_healthy = house.journal.healthy
        metrics.journal_lag_bytes = house.journal.lag_bytes
        metrics.journal_records, metrics.journal_syncs = house.journal.records, house.journal.syncs
        for name, endpoint in house.endpoints.items():
            noted, member = metrics.engines[name], house.members[name]
            noted.in_flight, noted.idle_connections = member.in_flight, len(endpoint.idle)
            noted.ejected = member.ejected_until > house.tick
        return metrics

    def cut(self, key_id: str) -> int:
        """See `link.LinkHost`."""
        found = [
            c
            for c in self.connections
            if c.exchange is not None and c.exchange.key is not None and c.exchange.key.id == key_id
        ]
        for connection in found:
            connection.cut(AuthenticationError("This API key was revoked."))
        return len(found)

    # what connections ask ----------------------------------------------------------------------------------------

    def flow(self) -> Flow:
        """The walk of the next request: once in a while the one with a stopwatch."""
        self._walks += 1
        return handle if self._walks % ONE_IN else self._timed

    def is_proxy(self, address: str) -> bool:
        """Whether an address is that of a configured proxy."""
        if not self._proxies:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)

    @staticmethod
    def _networks(config: Config) -> list[Any]:
        return [ip_network(text, strict=False) for text in config.settings.trusted_proxies]

    # life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until told to stop; then drain, settle everything, and return."""
        sock = socket.socket(fileno=int(self.child["fd"]))
        sock.setblocking(False)
        self._tls = self._context()
        server = await self.loop.create_server(
            lambda: ClientConnection(self),
            sock=sock,
            ssl=self._tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=self.house.view.settings.head_timeout if self._tls else None,
        )
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        self.loop.add_signal_handler(signal.SIGINT, self.stop)
        self.link.start()
        if self._fleet is not None:
            self._fleet.start()
            await self._fleet.ready(CENTRE_SECONDS)
        self._due = self.loop.time() + SWEEP_SECONDS
        self._sweep()
        gc.collect()
        gc.freeze()  # what start-up made is never garbage: it is not walked again
        gc.set_threshold(100_000, 50, 100)
        await self._stopping.wait()
        house = self.house
        house.draining = True
        server.close()
        for connection in list(self.connections):
            connection.drain()
        await self._drained(house.view.settings.drain_timeout)
        for connection in list(self.connections):
            connection.cut(Draining("This process is stopping.", retry_after=1))
        await self._drained(1.0)
        self.link.close()
        house.journal.close()
        house.counters.close()
        if self._fleet is not None:
            await self._fleet.stop()

    def stop(self) -> None:
        """Begin to drain; a second call ends the wait."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _drained(self, seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while self.house.active and self.loop.time() < deadline and not self._hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), 0.02)

    def _sweep(self) -> None:
        late = self.loop.time() - self._due
        self.house.metrics.loop_lag_us = max(0, int(late * 1e6))
        sweep(self)
        self._deadlines.look()
        self.house.counters.pay()
        if self._tls is not None:
            self._renew()
        self._due = self.loop.time() + SWEEP_SECONDS
        self.loop.call_later(SWEEP_SECONDS, self._sweep)

    # certificates ------------------------------------------------------------------------------------------------

    def _context(self) -> ssl.SSLContext | None:
        tls = self.child.get("tls")
        if not tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls["cert"], tls["key"])
        if tls.get("client_ca"):
            context.load_verify_locations(tls["client_ca"])
            context.verify_mode = ssl.CERT_REQUIRED if tls.get("client_required", True) else ssl.CERT_OPTIONAL
        self._tls_stamp = self._stamp(tls)
        return context

    def _renew(self) -> None:
        """A certificate that was renewed on disk serves the next handshakes; one that cannot be read leaves the old."""
        tls = self.child["tls"]
        stamp = self._stamp(tls)
        if stamp == self._tls_stamp or self._tls is None:
            return
        self._tls_stamp = stamp
        try:
            # First elsewhere: a chain whose key is not there yet would leave this context without either.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls["cert"], tls["key"])
            self._tls.load_cert_chain(tls["cert"], tls["key"])
        except (OSError, ssl.SSLError) as why:
            _log.error("certificate_refused", why=str(why))
        else:
            _log.info("certificate_renewed")

    @staticmethod
    def _stamp(tls: dict[str, Any]) -> tuple[float, ...]:
        try:
            return Path(tls["cert"]).stat().st_mtime, Path(tls["key"]).stat().st_mtime
        except OSError:
            return ()


def main() -> None:
    """Run the worker that BEFFROI_CHILD describes."""
    child = json.loads(os.environ["BEFFROI_CHILD"])
    configure(f"w{int(child['worker']):02d}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Worker(child, asyncio.get_running_loop()).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
