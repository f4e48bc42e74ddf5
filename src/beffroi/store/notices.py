# SPDX-License-Identifier: Apache-2.0
"""Hears what PostgreSQL announces (LISTEN/NOTIFY), so that nobody need ask it all the time.

In: a URL and names of channels. Out: a call for each channel on which something was said, from a thread of its own.
Announcements may be missed, while a connection is made anew and always behind a pooler that gives it to others between two
transactions: whoever listens asks now and then all the same.
"""

import select
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from beffroi.store.server import open_server

_LOOK = 0.5  # seconds after which it looks whether it is to end
_AGAIN = 1.0  # seconds between two attempts to connect


class Notices:
    """One connection and one thread.

    Args:
        heard: called in that thread with the name of a channel.
    """

    def __init__(self, url: str, channels: tuple[str, ...], heard: Callable[[str], None]) -> None:
        self._url = url
        self._channels = channels
        self._heard = heard
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End within a second."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        engine = open_server(self._url)
        while not self._end.is_set():
            try:
                with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    self._listen(connection)
            except (SQLAlchemyError, OSError, ValueError):
                self._end.wait(_AGAIN)
        engine.dispose()

    def _listen(self, connection: Connection) -> None:
        run = connection.exec_driver_sql
        for channel in self._channels:
            run(f"LISTEN {channel}")
        driver: Any = connection.connection.driver_connection
        for channel in self._channels:  # something may have been said before this
            self._heard(channel)
        while not self._end.is_set():
            ready, _, _ = select.select([driver._usock], [], [], _LOOK)  # noqa: SLF001 - the driver has no wait of its own
            if ready:
                run("SELECT 1")  # reads what has come
                said = {channel for _, channel, _ in driver.notifications}
                driver.notifications.clear()
                for channel in said:
                    self._heard(channel)
