# SPDX-License-Identifier: Apache-2.0
"""The service of keys and the runner of rotations over a real database and real files, with a clock that a test moves.

A rig may be killed wherever it touches the world, and another begun over what it left.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import Engine, event, insert, update

from beffroi.control.budgets import Budgets
from beffroi.control.bus import Bus
from beffroi.control.fleet.table import everything
from beffroi.control.keys import By, Keys
from beffroi.control.keyshapes import KeyAsk
from beffroi.control.rotation.mail import MailSettings
from beffroi.control.rotation.runner import Runner
from beffroi.control.rotation.shapes import Schedule
from beffroi.control.rotation.stores.choose import Stores
from beffroi.control.rotation.stores.port import StoreSettings
from beffroi.control.snapshots import KeyFiles, load_peppers
from beffroi.control.tenancy.scope import SOCKET
from beffroi.core.key import key_hash, public_id
from beffroi.core.snapshot import Config, KeyDelta, KeyRecord, ModelSpec, Settings
from beffroi.core.state import load_keys
from beffroi.store.administration import key_uses, rotations
from beffroi.store.engine import open_engine, reading, upgrade
from beffroi.store.tables import events, keys

DAY = 86_400
BY = By(SOCKET, "default")


class Killed(BaseException):
    """The process is gone."""


class Workers:
    """A bus without workers: what they would be sent."""

    workers = 1

    def __init__(self) -> None:
        self.sent: list[KeyDelta] = []
        self.missing: list[int] = []

    def send_delta(self, delta: KeyDelta) -> None:
        self.sent.append(delta)

    async def hold_keys(self, revision: int, within: float) -> list[int]:
        return self.missing


class Rig:
    """Everything that a control process has for rotations.

    Args:
        place: of a database that is there and up to date; SQLite in `data` when left out.
        touch: called wherever the world is touched: before and after each commit, and each write of the key table.
    """

    def __init__(
        self,
        data: Path,
        *,
        stores: tuple[StoreSettings, ...] = (),
        mail: MailSettings | None = None,
        touch: Callable[[str], None] = lambda _: None,
        environ: dict[str, str] | None = None,
        place: Path | str | None = None,
    ) -> None:
        self.data = data
        self.engine: Engine = open_engine(place or data / "beffroi.db")
        if place is None:
            upgrade(self.engine)
        event.listen(self.engine, "commit", lambda _: touch("before a commit"))
        with reading(self.engine) as connection:
            known = everything(connection, None).keys
        self.files = _Touched(data, known, load_peppers(data, create=True))
        self.files.touch = touch
        self.budgets = Budgets(data, zone="Europe/Paris")
        self.workers = Workers()
        self._thread = ThreadPoolExecutor(1)
        self.stores = Stores(lambda: stores, lambda: data, environ or {})
        model = ModelSpec("m", (), aliases=("n",))
        config = Config(1, Settings(), (), (model,))
        self.service = Keys(
            self.engine, self._thread, self.files, cast("Bus", self.workers), data, lambda: config, self.budgets,
            self.stores,
        )  # fmt: skip
        self.now = time.time()
        self.complete = 0.0  # how far the ledger is behind
        self.runner = Runner(
            self.service,
            self.stores,
            lambda: mail,
            complete=lambda: int(self.now - self.complete),
            address=lambda: "http://control",
            clock=lambda: self.now,
        )

    def close(self) -> None:
        self._thread.shutdown()
        self.budgets.close()
        self.files.close()
        self.engine.dispose()

    # what a test does

    async def key(self, schedule: Schedule | None = None, **ask: Any) -> tuple[str, str]:
        """A key: id and text."""
        made = await self.service.create(KeyAsk(**({"name": "app"} | ask), rotation=schedule), BY)
        return made.id, made.key

    def age(self, key: str, days: float) -> None:
        """A key was made longer ago, and ends as much earlier."""
        with self.engine.begin() as connection:
            earlier = int(days * DAY)
            connection.execute(
                update(keys)
                .where(keys.c.id == key)
                .values(created_at=keys.c.created_at - earlier, expires_at=keys.c.expires_at - earlier)
            )

    def use(self, key: str, at: float) -> None:
        """A key was used."""
        with self.engine.begin() as connection:
            connection.execute(key_uses.delete().where(key_uses.c.key_id == key))
            connection.execute(insert(key_uses).values(key_id=key, organisation="default", used_at=int(at)))

    async def go(self, seconds: float = 0.0) -> None:
        """Time passes; what is due is done."""
        self.now += seconds
        await self.runner.plan()
        while await self.runner.look():
            pass

    def rotation(self) -> Any:
        """The only rotation."""
        with reading(self.engine) as connection:
            return connection.execute(rotations.select()).one()

    def row(self, key: str) -> Any:
        """A key as the database has it."""
        with reading(self.engine) as connection:
            return connection.execute(keys.select().where(keys.c.id == key)).one()

    def acts(self) -> list[str]:
        """What was recorded, in order."""
        with reading(self.engine) as connection:
            return list(connection.execute(events.select().order_by(events.c.at_ns)).scalars(1)) and [
                row.action for row in connection.execute(events.select().order_by(events.c.at_ns, events.c.id))
            ]

    def opens(self, text: str | None) -> KeyRecord | None:
        """The key that a worker which read the files now would know a text as; None: none that it accepts now."""
        base = load_keys(self.data)
        for record in base.keys:
            if (
                text
                and record.public == public_id(text)
                and record.hash == key_hash(text, base.peppers[record.pepper_id])
            ):
                ended = record.expires_at is not None and record.expires_at <= self.now
                return None if record.revoked or ended else record
        return None


class _Touched(KeyFiles):
    touch: Callable[[str], None] = staticmethod(lambda _: None)

    def append(self, **what: Any) -> KeyDelta:
        self.touch("before the key table")
        delta = super().append(**what)
        self.touch("after the key table")
        return delta


def plan(**what: Any) -> Schedule:
    """A schedule of 90 days, without notice."""
    return msgspec.convert({"every_days": 90, "notice_seconds": 0, **what}, Schedule)


def run(coroutine: Any) -> Any:
    """Run to its end."""
    return asyncio.run(coroutine)
