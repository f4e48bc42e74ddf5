# SPDX-License-Identifier: Apache-2.0
"""Child processes pinned to cores, and what the kernel says of them: CPU time and memory, by process and by tree.

In: command lines and process ids. Out: seconds and KiB.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("BEFFROI_BENCH_CACHE", Path.home() / ".cache" / "beffroi-bench"))
_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def build(name: str) -> Path:
    """Compile name.c into the cache when its source is newer; → the program."""
    source, binary = HERE / f"{name}.c", CACHE / "bin" / name
    binary.parent.mkdir(parents=True, exist_ok=True)
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(binary), str(source), "-lm"], check=True)
    return binary


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def marked(pid: int, mark: str) -> list[int]:
    """Those of the tree whose command line holds `mark`."""
    found = []
    for one in tree(pid):
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def cpu_of(pid: int) -> float:
    """User and system seconds of one process and of the children it has reaped.

    The process clock is exact to the nanosecond; /proc, exact to a tick, serves for reaped children and where that
    clock cannot be read.
    """
    try:
        utime, stime, cutime, cstime = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    except OSError:
        return 0.0
    try:
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        own = (utime + stime) / _TICK
    return own + (cutime + cstime) / _TICK


def rss_kib(pids: list[int]) -> int:
    """Resident memory of those processes together; shared pages count in each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
    return total


def get(port: int, path: str, timeout: float = 2.0) -> tuple[int, bytes]:
    """A GET on loopback; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def tail(log: Path) -> str:
    """The last lines of a log, for messages."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return " | ".join(lines[-3:])[-400:]


class Process:
    """A child in a process group of its own, pinned to some cores, its output in a log file."""

    def __init__(self, command: list[str], cores: str, log: Path) -> None:
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                ["taskset", "-c", cores, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0
            )
        self.pid = self.popen.pid

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever of the tree is left."""
        pids = tree(self.pid)
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
                break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
