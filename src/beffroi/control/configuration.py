# SPDX-License-Identifier: Apache-2.0
"""The configuration in force: compiled at start, and again when its file changes or a SIGHUP asks.

In: the path of the file, and what start-up found beside it. Out: a published config and its event, or a refusal that
changes nothing.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from beffroi.config.compile import compile_config
from beffroi.config.examine import examine
from beffroi.config.load import EMPTY, Invalid, Source, resources
from beffroi.config.schema import Server
from beffroi.control import events
from beffroi.control.snapshots import publish_config
from beffroi.core.snapshot import Config
from beffroi.telemetry import logs

EVERY = 1.0  # seconds between two looks at the file
SETTLED = 0.2  # seconds a changed file must stay as it is: whoever writes it may not be done
TAKEN = 5.0  # seconds the workers get to take a new config over, before the log says which did not
log = logs.Logger("control.configuration")
Mark = tuple[int, int, int] | None


class Configuration:
    """Reads, compiles and publishes. Blocking; the loop calls it through a thread.

    Args:
        path: the file, or None: there are only `found` resources.
        found: resources beside those of the file, in its shape.
    """

    def __init__(self, data: Path, engine: Engine, path: Path | None, found: dict[str, Any] | None) -> None:
        self._data = data
        self._engine = engine
        self.path = path
        self._found = [] if found is None else [resources(found, "(found at start)")]
        self._fixed: object = None
        self.source = EMPTY  # as it was last taken
        self.server = (
            Server()
        )  # as the file had it at the start; where it is refused then, nothing is allowed beyond the usual
        self.read: Mark = None  # the file as it was when it was last read

    def publish(self) -> Config:
        """Compile and write the snapshot; unchanged content keeps its revision.

        Raises:
            Invalid: nothing was changed.
            OSError: it could not be written.
        """
        self.read = self.mark()  # before reading: a change while it is read is then seen as one
        # Where to listen was decided at the start, by options too: what the file says of it now is for the next one.
        source = examine(self.path, more=bool(self._found), listening=False).sound()
        config, changed = publish_config(self._data, compile_config([source, *self._found], 0))
        first = self._fixed is None
        self.source = source
        self._note_fixed(source)
        if changed:
            self._applied(config, log.debug if first else log.info)  # a start has its own way of telling
        return config

    def _note_fixed(self, source: Source) -> None:
        fixed = source.document.server, source.document.gateway.time_zone
        if self._fixed not in (None, fixed):
            log.warning("`server` or `gateway.time_zone` has changed; processes and budgets follow at the next start")
        elif self._fixed is None:
            self.server = source.document.server
        self._fixed = fixed

    def mark(self) -> Mark:
        """What changes when the file does; None while there is none."""
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _applied(self, config: Config, tell: Callable[..., None]) -> None:
        after = {"revision": config.revision, "models": len(config.models), "engines": len(config.engines)}
        self._event("control:config:apply", str(config.revision), after)
        tell("configuration applied", **after)

    def refused(self, error: Invalid | OSError) -> None:
        """Note that one was not."""
        self._event("control:config:refuse", str(self.path), {"reason": str(error)})
        log.error("configuration refused, the one before stays", reason=str(error))

    def _event(self, action: str, subject: str, after: dict[str, Any]) -> None:
        try:
            with self._engine.begin() as connection:
                events.record(connection, actor="control", action=action, subject=subject, after=after)
        except SQLAlchemyError as error:
            log.error("an event could not be recorded", action=action, reason=str(error))


class Watch:
    """Reloads when the file changes, and when told.

    Args:
        blocking: runs a call in the thread for acts.
        take: is given each new config, on the loop, to push it to the workers.
        refuse: is given the reason when a file is not taken, and an empty text once one is.
    """

    def __init__(
        self,
        configuration: Configuration,
        blocking: Callable[[Callable[[], Any]], Any],
        take: Callable[[Config], Any],
        refuse: Callable[[str], None],
    ) -> None:
        self._configuration = configuration
        self._blocking = blocking
        self._take = take
        self._refuse = refuse
        self._told = asyncio.Event()
        self._revision = 0

    def tell(self) -> None:
        """Reload now, changed or not."""
        self._told.set()

    async def run(self, revision: int) -> None:
        """Watch until cancelled; `revision` is the one in force."""
        self._revision = revision
        configuration = self._configuration
        while True:
            try:
                await asyncio.wait_for(self._told.wait(), EVERY)
            except TimeoutError:
                mark = configuration.mark()
                if mark is None or mark == configuration.read:  # a file that is gone changes nothing
                    continue
                await asyncio.sleep(SETTLED)
                if mark != configuration.mark():
                    continue
            self._told.clear()
            await self._reload()

    async def _reload(self) -> None:
        configuration = self._configuration
        try:
            config: Config = await self._blocking(configuration.publish)
        except (Invalid, OSError) as error:
            self._refuse(str(error))
            await self._blocking(partial(configuration.refused, error))
            return
        self._refuse("")
        if config.revision != self._revision:
            self._revision = config.revision
            await self._take(config)
