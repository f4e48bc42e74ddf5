# SPDX-License-Identifier: Apache-2.0
"""The machine: interpreter, cores, memory, descriptors, kernel.

In: a `Scene`. Out: findings. What judges is apart from what reads, so that a test can show it any machine.
"""

import ctypes
import importlib
import os
import platform
import resource
import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Finding, Scene
from beffroi.cli.settings import count
from beffroi.core.kernel import KERNEL

MIB = 1 << 20
WORKER_MIB, REST_MIB = 80, 250  # of one worker under load; of supervisor, control and embedded engine together
_COMPILED = ("msgspec", "httptools", "uvloop", "google_crc32c", "yaml", "sqlalchemy")
_BACKLOG = 1024
_PR_GET_PDEATHSIG = 2


class Build(NamedTuple):
    """An interpreter."""

    name: str
    version: tuple[int, ...]
    level: str  # "final", or a release that is not out yet
    bits: int
    debug: bool
    free_threaded: bool
    optimised: bool | None  # None: its makers do not say


def this_build() -> Build:
    """The interpreter that runs this."""
    told = sysconfig.get_config_var("CONFIG_ARGS")
    return Build(
        platform.python_implementation(),
        tuple(sys.version_info[:3]),
        sys.version_info.releaselevel,
        64 if sys.maxsize > 1 << 32 else 32,
        hasattr(sys, "gettotalrefcount"),
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        optimised(told),
    )


def optimised(told: str | None) -> bool | None:
    """What the options of `configure` say; a distribution's own Python (Debian's) is optimised by rules beside them."""
    if told is None or "'--prefix=/usr'" in told:
        return None
    return "--enable-optimizations" in told


def python(_: Scene) -> Iterator[Finding]:
    """The interpreter and how it was built."""
    yield judge_python(this_build())


def judge_python(build: Build) -> Finding:
    """Whether Beffroi runs well on it."""
    said = f"{build.name} {'.'.join(map(str, build.version))}, {build.bits} bits"
    other = "Make the environment anew with a release of CPython for 64 bits, 3.11 or newer: PYTHON=/usr/bin/python3 make env."
    if build.name != "CPython" or build.bits < 64 or build.version < (3, 11):
        return Finding("python", PROBLEM, f"{said}: Beffroi is made for CPython 3.11 or newer with 64 bits.", other)
    if build.level != "final":
        return Finding("python", WARNING, f"{said}, a pre-release ({build.level}).", other)
    if build.debug:
        return Finding("python", WARNING, f"{said}, a debug build: several times slower.", other)
    if build.free_threaded:
        return Finding("python", WARNING, f"{said}, free-threaded: not tested, and slower for one thread.", other)
    if build.optimised is False:
        return Finding(
            "python", WARNING, f"{said}, built without --enable-optimizations: 10 to 30 % slower.",
            "Use your distribution's Python, or build with --enable-optimizations --with-lto.",
        )  # fmt: skip
    return Finding("python", OK, f"{said}.")


def packages(_: Scene) -> Iterator[Finding]:
    """Compiled packages load, and are the fast ones."""
    yield judge_packages(_COMPILED)


def judge_packages(names: tuple[str, ...]) -> Finding:
    """Whether each of `names` can be imported."""
    again = (
        "Install Beffroi again in a fresh environment: `make clean env`, or `pip install --force-reinstall beffroi`."
    )
    broken = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name} ({error})")
    if broken:
        return Finding("packages", PROBLEM, f"These packages do not load: {', '.join(broken)}.", again)
    if getattr(sys.modules.get("google_crc32c"), "implementation", "c") != "c":
        return Finding("packages", WARNING, "google_crc32c is its slow form in Python: the journal costs more.", again)
    return Finding("packages", OK, f"Every compiled package loads; {kernel_in_use()}.")


def kernel_in_use() -> str:
    """Whether the hot path has its compiled kernel, in words."""
    if KERNEL is not None:
        return "the compiled kernel is in use"
    return "the compiled kernel is not in use, so requests cost more (a C compiler, Python.h and `scripts/native` build it)"


def descriptors(_: Scene) -> Iterator[Finding]:
    """How many files and connections a process may hold: each open request takes two."""
    yield judge_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def judge_descriptors(hard: int) -> Finding:
    """By the hard limit: `serve` raises the soft one to it."""
    said = f"{'No limit on' if hard == resource.RLIM_INFINITY else f'At most {hard:,}'} open files for each process"
    remedy = "Raise it: `LimitNOFILE=65536` in the systemd unit, `--ulimit nofile=65536` for a container, else /etc/security/limits.conf."
    if hard != resource.RLIM_INFINITY and hard < 1024:
        return Finding("descriptors", PROBLEM, f"{said}: too few to serve.", remedy)
    if hard != resource.RLIM_INFINITY and hard < 16_384:
        return Finding("descriptors", WARNING, f"{said}: about {hard // 2 - 50:,} requests at once and worker.", remedy)
    return Finding("descriptors", OK, f"{said}.")


def cores(scene: Scene) -> Iterator[Finding]:
    """A worker is a core's worth of work."""
    yield judge_cores(scene.workers, len(os.sched_getaffinity(0)), cpu_quota())


def judge_cores(workers: int, usable: int, quota: float | None) -> Finding:
    """`quota`: cores that a control group grants; None: all."""
    most = usable if quota is None else min(usable, quota)
    said = f"{count(workers, 'worker')} on {most:g} core{'s' * (most != 1)}" + (
        f" (the control group grants {quota:g} of {usable})" if quota is not None and quota < usable else ""
    )
    if workers > max(1, most):
        return Finding(
            "cores", WARNING, f"{said}: they wait for each other.",
            "Set server.workers to half the cores at most, or give the machine more.",
        )  # fmt: skip
    return Finding("cores", OK, f"{said}.")


def memory(scene: Scene) -> Iterator[Finding]:
    """Enough for what a start brings, or to go on."""
    yield judge_memory(available_memory(), scene.workers, running=scene.supervisor != 0)


def judge_memory(free: int, workers: int, *, running: bool) -> Finding:
    """`free`: bytes that can be had."""
    wanted = 128 * MIB if running else (workers * WORKER_MIB + REST_MIB) * MIB
    said = f"{free / (1 << 30):.1f} GiB of memory to be had, {wanted // MIB} MiB needed" + (
        " beside what runs" if running else f" for {count(workers, 'worker')}"
    )
    remedy = "Stop what else runs, give the machine (or its control group) more, or set fewer server.workers."
    if free < wanted // 2:
        return Finding("memory", PROBLEM, f"{said}.", remedy)
    return Finding("memory", WARNING, f"{said}.", remedy) if free < wanted else Finding("memory", OK, f"{said}.")


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes: what the kernel says is available, or what the tightest control group leaves, if that is less."""
    told = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines() if ":" in line)
    free = int(told.get("MemAvailable", told["MemFree"]).split()[0]) * 1024
    for group in _groups(proc, groups, "memory"):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used + _cache(group)))
    return free


def cpu_quota(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that the tightest control group grants; None: no limit."""
    found = []
    for group in _groups(proc, groups, "cpu"):
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota, period = (str(_number(group / f"cpu.cfs_{name}_us") or 0) for name in ("quota", "period"))
        if quota.isdigit() and int(quota) and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _groups(proc: Path, groups: Path, controller: str) -> Iterator[Path]:
    """This process's control groups that rule a resource, and those around them: of version 2, and of version 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = groups / controller if names else groups
        group = root / path.lstrip("/")
        yield from (group, *(parent for parent in group.parents if parent.is_relative_to(root)))


def _cache(group: Path) -> int:
    """Bytes of files that a group holds in memory and gives back when they are wanted."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    told = dict(line.split() for line in lines)
    return int(told.get("total_inactive_file") or told.get("inactive_file") or 0)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None


def kernel(_: Scene) -> Iterator[Finding]:
    """What Beffroi asks of the kernel beyond the common."""
    missing = []
    if sys.platform != "linux":
        missing.append("it is no Linux")
    if not _shares_a_port():
        missing.append("two processes cannot listen on one port (SO_REUSEPORT)")
    if not _ties_children():
        missing.append("a child cannot be tied to its parent's life (PR_SET_PDEATHSIG)")
    try:
        backlog = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        backlog = _BACKLOG  # where it is hidden, it is not ours to judge
    yield judge_kernel(platform.release(), missing, backlog)


def judge_kernel(release: str, missing: list[str], backlog: int) -> Finding:
    """`backlog`: connections that may wait to be accepted."""
    if missing:
        return Finding(
            "kernel", PROBLEM, f"Kernel {release}: {'; '.join(missing)}.",
            "Run Beffroi on Linux 4.18 or newer, or on a container runtime that passes these calls on.",
        )  # fmt: skip
    if backlog < _BACKLOG:
        return Finding(
            "kernel", WARNING, f"Kernel {release} lets only {backlog} new connections wait: a burst is turned away.",
            "sysctl -w net.core.somaxconn=4096, and the same in /etc/sysctl.d/.",
        )  # fmt: skip
    return Finding("kernel", OK, f"Kernel {release} has what is asked of it.")


def _shares_a_port() -> bool:
    try:
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            first.bind(("127.0.0.1", 0))
            second.bind(first.getsockname())
    except (OSError, AttributeError):
        return False
    return True


def _ties_children() -> bool:
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_GET_PDEATHSIG, ctypes.byref(ctypes.c_int()), 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
