# SPDX-License-Identifier: Apache-2.0
"""Several real `beffroi serve` over one real PostgreSQL, and what their common ledger says.

In: a cluster, a database, a scripted engine. Out: replicas, started one by one, which all verify the same keys.
"""

from pathlib import Path
from typing import Any

from tests.engines.scripted import ScriptedEngine
from tests.harness import Json, Served
from tests.servers import Postgres

SECRET = "a-secret-that-all-machines-of-this-fleet-know"


class Fleet:
    """Machines are called `one`, `two`, …: the names of their data directories."""

    def __init__(self, cluster: Postgres, url: str, engine: ScriptedEngine, folder: Path) -> None:
        self.cluster = cluster
        self.url = url
        self.name = url.rpartition("/")[2]
        self.engine = engine
        self.folder = folder
        self.machines: dict[str, Served] = {}
        for name, content in (("database", url), ("secret", SECRET)):
            (folder / name).write_text(content)

    def start(
        self, name: str, *, workers: int = 1, ready: bool = True, models: list[Json] | None = None, **server: Any
    ) -> Served:
        """A machine more."""
        settings = {"database": "file:database", "fleet_secret": "file:secret", **server}
        served = Served(self.folder / name, {"e0": self.engine.url}, server=settings, workers=workers, models=models)
        self.machines[name] = served
        served.start(ready=False)
        if ready:
            served.wait_ready()
            first = next(iter(self.machines.values()))
            served.key = first.key or served.printed_key()
        return served

    def close(self) -> None:
        """End all of them."""
        for served in self.machines.values():
            served.kill()

    def rows(self, sql: str) -> list[list[Any]]:
        """What the ledger says, asked beside all of them."""
        return self.cluster.ask(sql, self.name)
