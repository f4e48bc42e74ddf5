# SPDX-License-Identifier: Apache-2.0
"""What to start: every choice made, nothing looked up any more.

In: the command line, the configuration file, what discovery found. Out: the `Plan` that the supervisor carries out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = "beffroi.gateway.worker"
CONTROL = "beffroi.control.process"
ENGINE = "beffroi.embedded.process"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One tree of processes.

    Attributes:
        host: address of the API; `port` 0 takes a free one, for `control_port` too.
        tls: paths of `cert`, `key` and `client_ca`, as workers read them; None: plain.
        config: the configuration file that control reads; None: none.
        resources: engines and models beside those of the file, in its shape; None: none.
        warm: the data directory holds this very configuration, from an earlier start: workers begin without waiting for
            control to write it (D13).
        fleet: what control is told of the database that several Beffroi share (control.fleet.terms); None: SQLite.
        valkey: `url` and `prefix` of the limits that several machines share; None: limits are this machine's own.
        engine: what the embedded engine is told (see `beffroi.embedded.process`); None: it is not started.
        worker_module, control_module, engine_module: what the children run: modules with a `main`.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8400
    control_host: str = "127.0.0.1"
    control_port: int = 8401
    workers: int = 1
    tls: dict[str, Any] | None = None
    config: Path | None = None
    resources: dict[str, Any] | None = None
    warm: bool = False
    fleet: dict[str, Any] | None = None
    valkey: dict[str, str] | None = None
    engine: dict[str, Any] | None = None
    worker_module: str = WORKER
    control_module: str = CONTROL
    engine_module: str = ENGINE


@dataclass(frozen=True)
class Ready:
    """What a start came to: the ports that were taken, the first key if it was made now, what is not ready and why."""

    port: int
    control_port: int
    first_key: str | None
    missing: dict[str, str]
