# SPDX-License-Identifier: Apache-2.0
"""All that must be there before control serves: the database at this release's schema, the snapshot, the key table, the vault.

In: what the supervisor says. Out: one object, or `StartRefused`, with words for the person who starts it. Blocking.
A fleet's database may be away: with a key table on disk control starts all the same, so that workers are looked after, and
opens the database when it is back; with none it waits for it, as there is nothing to serve from.
"""

import ipaddress
import os
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from beffroi.config.load import Invalid
from beffroi.control import keyring
from beffroi.control.bus import Bus
from beffroi.control.configuration import Configuration
from beffroi.control.fleet import replicas, sharing
from beffroi.control.fleet.follower import Follower
from beffroi.control.fleet.table import Known, everything
from beffroi.control.fleet.terms import Fleet, Member, NotOfThis, member, require_alone
from beffroi.control.keys import Keys
from beffroi.control.keyshapes import KeyAsk
from beffroi.control.quotas.shipped import ship
from beffroi.control.snapshots import KeyFiles, load_peppers
from beffroi.control.stage import LEDGER
from beffroi.control.tenancy.scope import CONTROL, Scope
from beffroi.control.upgrade import Refused, bring_up, bring_up_shared
from beffroi.core.snapshot import Config, Damaged
from beffroi.core.state import load_config, load_keys
from beffroi.store.copy import NotSound
from beffroi.store.engine import open_engine, reading, serialise
from beffroi.store.server import BadUrl, passes_walls
from beffroi.store.tables import DEFAULT, keys
from beffroi.store.vault import Vault, VaultError
from beffroi.telemetry import logs

log = logs.Logger("control")
FIRST = "first"  # name of the key made when there is none
_AGAIN = 1.0  # seconds between two tries to reach a database that is away
_TELL = 10.0  # seconds between two lines about it


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor says.

    Attributes:
        fd: the listening socket of the control port; host: the address it is bound to.
        ready_fd: one JSON line goes there, `{"ready": true, "first_key": "bf-…" or null, "port": …}`.
        config: path of the configuration file; resources: what was found at start, in its shape.
        valkey: `url` and `prefix` of the limits that several machines share; None: they are this machine's own.
        fleet: the database that several Beffroi share; None: SQLite in the data directory.
        fresh: the whole tree starts, so that every earlier worker is dead.
    """

    workers: int
    boot: str
    data: str
    host: str
    port: int
    fd: int
    ready_fd: int
    config: str | None = None
    resources: dict[str, Any] | None = None
    fleet: Fleet | None = None
    fresh: bool = False
    valkey: dict[str, str] | None = None


class StartRefused(Exception):
    """Control cannot start; the text is for the person who started it. `status` is the exit status."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def require_loopback(host: str) -> None:
    """Refuse to serve the control port to a network.

    Raises:
        StartRefused: `host` is not a loopback address.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise StartRefused(
            f"the control port cannot listen on {host}: there is no administrator yet who could prove who he is, "
            "so it is kept to this machine. Leave `server.control_host` at 127.0.0.1 and reach it through a tunnel",
            2,
        )


class Opening:
    """What is opened.

    Attributes:
        place: the newest change that `files` have; 0: the database was away, so that nobody knows.
        waiting: why the database is not open yet; empty: it is.
        member: of a fleet; None: the ledger is in the data directory.
    """

    def __init__(self, told: Arguments) -> None:
        self._told = told
        self._data = Path(told.data)
        self.member: Member | None = None
        self.waiting = ""
        self.refused = ""
        self.first_key: str | None = None
        self.place = 0
        try:
            if told.fleet is None:
                require_alone(self._data)
                self.engine: Engine = open_engine(self._data / LEDGER)
            else:
                self.member = member(self._data, told.fleet)
                self.engine = open_engine(self.member.url)
        except NotOfThis as error:
            raise StartRefused(str(error), 2) from None
        except BadUrl as error:
            raise StartRefused(f"`server.database`: {error}", 2) from None
        self._wait_if_there_is_nothing()
        path = None if told.config is None else Path(told.config)
        try:
            self.configuration = Configuration(self._data, self.engine, path, told.resources)
            self.config = self._publish()
            self.vault = Vault.open(self._data) if self.member is None else self.member.vault
            self.files = self._from_disk() if self.waiting else self._from_database()
        except (OSError, Damaged, VaultError) as error:
            raise StartRefused(f"the data directory {self._data} cannot be used: {error}", 1) from None

    @property
    def replica(self) -> str:
        """This machine's name in its fleet; empty without one."""
        return "" if self.member is None else self.member.replica

    @property
    def shown(self) -> str:
        """The database as people may see it."""
        return "the ledger" if self.member is None else self.member.shown

    def _wait_if_there_is_nothing(self) -> None:
        told_at = 0.0
        while True:
            try:
                self.open()
            except SQLAlchemyError as error:
                if self.member is None:
                    raise StartRefused(f"the ledger of {self._data} cannot be used: {error}", 1) from None
                self.waiting = sharing.why(error, self.member.shown)
                if _served_before(self._data):
                    log.error("the database is away; workers serve from what is on disk", reason=self.waiting)
                    return
                if sharing.is_wrong(error):
                    raise StartRefused(self.waiting, 2) from None
                if time.monotonic() - told_at > _TELL:
                    told_at = time.monotonic()
                    log.error("the database is away, and nothing is on disk to serve from", reason=self.waiting)
                time.sleep(_AGAIN)
            else:
                return

    def open(self) -> None:
        """Bring the database up, and be known there.

        Raises:
            SQLAlchemyError: it is away. StartRefused: it is there and this release cannot use it.
        """
        try:
            if self.member is None:
                bring_up(self._data, self.engine)
            else:
                bring_up_shared(self._data, self.engine)
                with self.engine.begin() as connection:
                    self.enter(connection)
                    if passes_walls(connection):
                        log.warning(
                            "the database user passes row-level security, so that the second wall between tenants is "
                            "not there; give Beffroi a user that is neither superuser nor BYPASSRLS"
                        )
        except Refused as error:
            raise StartRefused(str(error), 1) from None
        except (OSError, NotSound) as error:
            raise StartRefused(
                f"the data directory {self._data} cannot be backed up before it is migrated: {error}", 1
            ) from None
        self.waiting = ""

    def enter(self, connection: Connection) -> None:
        """Have this replica's row."""
        told = self._told
        replicas.enter(connection, self.replica, boot=told.boot, address=os.uname().nodename, workers=told.workers)

    def leave(self) -> None:
        """Be waited for no more: every worker has ended."""
        try:
            with self.engine.begin() as connection:
                replicas.leave(connection, self.replica)
        except SQLAlchemyError as error:
            log.error("the fleet could not be told that this replica ends", reason=sharing.why(error, self.shown))

    def _publish(self) -> Config:
        try:
            return self.configuration.publish()
        except Invalid as error:
            if self._told.fresh:
                raise StartRefused(f"the configuration is refused\n{error}", 2) from None
            self.refused = str(error)  # workers serve from the one before; so does the control that takes over
            self.configuration.refused(error)
            return load_config(self._data)

    def _from_disk(self) -> KeyFiles:
        base = load_keys(self._data)
        return KeyFiles(self._data, list(base.keys), base.peppers, list(base.quotas), base.closed)

    def _from_database(self) -> KeyFiles:
        ship(self.engine)
        known = self._known()
        if self.member is None:
            peppers = load_peppers(self._data, create=not known.keys)
        else:
            peppers = sharing.peppers(self.engine, self.member.vault)
        if not known.keys:
            self.first_key = self._first_key(peppers)
            known = self._known()
        self.place = known.number
        return KeyFiles(self._data, known.keys, peppers, known.quotas, known.closed or frozenset())

    def _known(self) -> Known:
        with reading(self.engine) as connection:
            return everything(connection, None)

    def _first_key(self, peppers: dict[int, bytes]) -> str | None:
        """The first key of all; None if another replica has just made it."""
        newest = max(peppers)
        with self.engine.begin() as connection:
            serialise(connection)
            if connection.scalar(select(func.count()).select_from(keys)):
                return None
            scope = Scope(connection, CONTROL, DEFAULT)
            _, text = keyring.make(scope, KeyAsk(name=FIRST), None, (newest, peppers[newest]))
            return text


def follower(opened: Opening, bus: Bus, keys: Keys, acts: Executor, reads: Executor) -> Follower:
    """What follows the changes of the database that was opened."""
    member = opened.member
    return Follower(
        opened.engine,
        opened.files,
        bus,
        acts=acts,
        reads=reads,
        turn=keys.turn,
        place=opened.place,
        vault=None if member is None else member.vault,
        replica=opened.replica,
        trusted=0.0 if member is None else member.fleet.trust_keys,
        enter=opened.enter,
    )


def _served_before(data: Path) -> bool:
    try:
        load_config(data)
        return bool(load_keys(data).keys)
    except (OSError, Damaged):
        return False
