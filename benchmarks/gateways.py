# SPDX-License-Identifier: Apache-2.0
"""A gateway under measurement: a row of gateways.toml, started afresh with its configuration, keys and engines.

In: the row and what varies of it (keys, engines, TLS). Out: a running process, the headers its requests need, and its CPU
time split into workers and the rest.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.processes import CACHE, HERE, Process, cpu_of, free_port, get, marked, rss_kib, tail, tree

KEY_HEADER = "Authorization: Bearer sk-bench"
WORKLOADS = ("plain", "burst", "paced", "half", "idle")
Row = dict[str, Any]


def table() -> list[Row]:
    """The rows of gateways.toml."""
    return list(tomllib.loads((HERE / "gateways.toml").read_text())["gateway"])


class NotMeasured(RuntimeError):
    """Why a gateway is skipped."""


class Gateway:
    """One gateway. `keys`, `tenants` and `engines` say how many of each it knows; `tls` asks for a TLS listener."""

    def __init__(
        self,
        row: Row,
        scratch: Path,
        mock_port: int,
        cores: str,
        *,
        variant: str = "",
        keys: int = 10_000,
        tenants: int = 0,
        engines: int = 1,
        tls: bool = False,
    ) -> None:
        self.row, self.scratch, self.mock_port, self.cores = row, scratch, mock_port, cores
        self.name = str(row["name"]) + (f" {variant}" if variant else "")
        self.keys, self.tenants, self.engines, self.tls = keys, tenants, engines, tls
        self.headers: list[str] = []
        self.port = self.control = 0
        self.process: Process | None = None
        self.folder = scratch
        self.log = scratch / "unstarted"
        self._command: list[str] = []

    def missing(self) -> str | None:
        """What is not installed, if anything."""
        for need in self.row.get("needs", []):
            path = need.replace("{cache}", str(CACHE)).replace("{here}", str(HERE))
            if not (Path(path).exists() if "/" in path else shutil.which(path)):
                return f"not installed ({need})"
        return None

    def does(self, workload: str) -> bool:
        """Whether the row takes part in that workload."""
        return workload in self.row.get("workloads", WORKLOADS)

    def start(self) -> None:
        """Start it afresh and wait until it serves.

        Raises:
            NotMeasured: it does not.
        """
        self.folder = folder = Path(tempfile.mkdtemp(prefix=f"{self.row['name']}-", dir=self.scratch))
        self.port, self.control, self.log = free_port(), free_port(), folder / "log"
        names = [f"e{n}" for n in range(self.engines)]
        values = {
            "port": self.port,
            "port2": self.control,
            "upstream": f"http://127.0.0.1:{self.mock_port}",
            "upstream_host": "127.0.0.1",
            "upstream_port": self.mock_port,
            "dir": folder,
            "cache": CACHE,
            "here": HERE,
            "python": sys.executable,
            "keys": self.keys,
            "tenants": self.tenants,
            "engines": json.dumps(
                [{"name": n, "url": f"http://127.0.0.{i + 1}:{self.mock_port}"} for i, n in enumerate(names)]
            ),
            "targets": json.dumps([{"engine": n} for n in names]),
            "server": json.dumps({"tls": certificate(folder)} if self.tls else {}),
        }

        def fill(text: str) -> str:  # not str.format: configuration files are full of braces
            for key, value in values.items():
                text = text.replace("{" + key + "}", str(value))
            return text

        for name, text in self.row.get("files", {}).items():
            (folder / name).write_text(fill(text))
        if "prepare" in self.row:
            values["key"] = prepare(shlex.split(fill(self.row["prepare"])))
        self.headers = [fill(h) for h in self.row.get("headers", [])]
        if not any(h.lower().startswith("authorization:") for h in self.headers):
            self.headers.append(KEY_HEADER)
        self._command = shlex.split(fill(self.row["command"]))
        self.again()

    def again(self) -> None:
        """Start it once more on what it left, after a `stop`. Raises as `start`."""
        self.process = Process(self._command, self.cores, self.log)
        limit = self.row.get("start_timeout", 30)
        deadline = time.monotonic() + limit
        # A TLS listener is asked over its control port: this reader speaks plain HTTP.
        port = self.control if self.tls else self.port
        while get(port, self.row.get("ready", "/health"))[0] != 200:
            if self.process.popen.poll() is not None:
                raise NotMeasured(f"exited at start with {self.process.popen.returncode}: {tail(self.log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise NotMeasured(f"not ready after {limit} s: {tail(self.log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process:
            self.process.stop()
            self.process = None

    # --- what it has cost -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.process, "not started"
        return self.process.pid

    def workers(self) -> list[int]:
        """Process ids of its workers; the whole tree where the row does not tell them apart."""
        mark = self.row.get("worker")
        return marked(self.pid, mark) if mark else tree(self.pid)

    def settle(self, seconds: float = 30.0) -> float:
        """Wait until what it has put off is done (its journal is shipped); → how long that took, in seconds.

        Raises:
            NotMeasured: it is not done in time.
        """
        begin = time.monotonic()
        while "shipped" in self.row:
            shipped, written = map(self.metric, self.row["shipped"])
            if shipped is not None and written is not None and shipped >= written:
                break
            if time.monotonic() - begin > seconds:
                raise NotMeasured(f"{shipped} of {written} journal records are shipped after {seconds} s")
            time.sleep(0.05)
        return time.monotonic() - begin

    def metric(self, name: str) -> float | None:
        """The sum of a metric over its labels, from the control port; None while it is not there."""
        page = get(self.control, "/metrics", timeout=10)[1]
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.eE+-]+)$", page.decode(), re.MULTILINE)
        return sum(map(float, found)) if found else None

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of the workers, of the whole tree."""
        return sum(map(cpu_of, self.workers())), sum(map(cpu_of, tree(self.pid)))

    def rss_mib(self) -> tuple[float, float]:
        """Resident memory: of the workers, of the whole tree."""
        return rss_kib(self.workers()) / 1024, rss_kib(tree(self.pid)) / 1024


def prepare(command: list[str]) -> str:
    """Run a row's preparation; → the last line it printed, which is the key to use.

    Raises:
        NotMeasured: it failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise NotMeasured(f"preparation failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return lines[-1]


def certificate(folder: Path) -> dict[str, str]:
    """A self-signed certificate for 127.0.0.1, by the openssl program; → paths.

    Raises:
        NotMeasured: there is no such program.
    """
    if not shutil.which("openssl"):
        raise NotMeasured("the openssl program is not installed")
    paths = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", paths["key"], "-out", paths["certificate"]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths
