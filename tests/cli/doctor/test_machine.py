# SPDX-License-Identifier: Apache-2.0
"""The doctor on the machine: interpreter, cores, memory, descriptors, kernel, clock, zones."""

import os
import re
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beffroi.cli.doctor import clock, machine
from beffroi.cli.doctor.machine import Build
from beffroi.cli.doctor.scene import OK, PROBLEM, WARNING, Scene
from beffroi.config.schema import Server
from tests.cli.doctor.support import control_group, doctor
from tests.harness import program

MIB = 1 << 20
SOUND = Build("CPython", (3, 12, 1), "final", 64, debug=False, free_threaded=False, optimised=True)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, OK),
        ({"optimised": None}, OK),
        ({"optimised": False}, WARNING),
        ({"debug": True}, WARNING),
        ({"free_threaded": True}, WARNING),
        ({"level": "candidate"}, WARNING),
        ({"bits": 32}, PROBLEM),
        ({"name": "PyPy"}, PROBLEM),
        ({"version": (3, 10, 9)}, PROBLEM),
    ],
)
def test_interpreters_are_judged_by_their_build(change: dict[str, object], state: str) -> None:
    """Each flaw by itself."""
    found = machine.judge_python(SOUND._replace(**change))
    assert found.state == state and bool(found.remedy) == (state != OK)


@pytest.mark.parametrize(
    ("told", "optimised"),
    [
        ("'--prefix=/usr/local' '--enable-optimizations' '--with-lto'", True),
        ("'--prefix=/usr/local'", False),
        ("'--enable-shared' '--prefix=/usr' '--enable-ipv6'", None),
        (None, None),
    ],
)
def test_a_distributions_own_python_is_not_said_to_be_slow(told: str | None, optimised: bool | None) -> None:
    """Debian optimises it without the option; the remedy would have been to use just this one."""
    assert machine.optimised(told) is optimised


def test_this_interpreter_is_read() -> None:
    """It runs the tests: no problem."""
    assert machine.this_build().name == "CPython" and machine.judge_python(machine.this_build()).state != PROBLEM


def test_a_package_that_does_not_load_is_named() -> None:
    """And sound ones are not."""
    assert machine.judge_packages(("msgspec", "uvloop")).state == OK
    found = machine.judge_packages(("msgspec", "no_such_package"))
    assert found.state == PROBLEM and "no_such_package" in found.finding


def test_few_descriptors_few_cores_and_a_missing_zone_are_found_for_real(tmp_path: Path) -> None:
    """A doctor that is given 900 descriptors, one core, four workers and no data of zones."""

    def poor() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (900, 900))
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    found = doctor("--data", tmp_path / "d", "--workers", "4", before=poor)
    assert (found["status"], found["ok"]) == (1, False)
    assert found["by"]["descriptors"]["state"] == PROBLEM and "900" in found["by"]["descriptors"]["finding"]
    assert found["by"]["cores"]["state"] == WARNING and "4 workers on 1 core" in found["by"]["cores"]["finding"]


def test_descriptors_are_judged_by_the_hard_limit() -> None:
    """The soft one is raised at the start."""
    states = [machine.judge_descriptors(hard).state for hard in (512, 4096, 65_536, resource.RLIM_INFINITY)]
    assert states == [PROBLEM, WARNING, OK, OK]


def test_a_control_group_s_share_counts_as_cores() -> None:
    """Half a core is less than one."""
    assert machine.judge_cores(1, 8, None).state == OK
    assert machine.judge_cores(2, 8, 1.5).state == WARNING
    assert "1.5 of 8" in machine.judge_cores(1, 8, 1.5).finding


def groups(folder: Path) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup in which this process is in /a/b."""
    proc, root = folder / "proc", folder / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    (proc / "meminfo").write_text("MemTotal: 8000000 kB\nMemFree: 1000 kB\nMemAvailable: 4000000 kB\n")
    (root / "a" / "b").mkdir(parents=True)
    return proc, root


def test_memory_and_cores_are_those_of_the_tightest_group(tmp_path: Path) -> None:
    """A group above may be tighter than our own."""
    proc, root = groups(tmp_path)
    assert machine.available_memory(proc, root) == 4_000_000 * 1024
    assert machine.cpu_quota(proc, root) is None
    (root / "a" / "memory.max").write_text(f"{512 * MIB}\n")
    (root / "a" / "memory.current").write_text(f"{112 * MIB}\n")
    (root / "a" / "b" / "memory.max").write_text("max\n")
    (root / "a" / "b" / "memory.current").write_text("1\n")
    (root / "a" / "b" / "cpu.max").write_text("150000 100000\n")
    (root / "a" / "cpu.max").write_text("max 100000\n")
    assert machine.available_memory(proc, root) == 400 * MIB
    (root / "a" / "memory.stat").write_text(f"anon 1\ninactive_file {12 * MIB}\n")
    assert machine.available_memory(proc, root) == 412 * MIB, "files in memory are given back when it is wanted"
    assert machine.cpu_quota(proc, root) == 1.5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
def test_a_real_control_group_that_is_too_tight_is_found(tmp_path: Path) -> None:
    """A doctor with 150 MiB and half a core, for two workers."""
    with control_group(150 * MIB, 0.5) as enter:
        by = doctor("--data", tmp_path / "d", "--workers", "2", before=enter)["by"]
    assert by["memory"]["state"] == PROBLEM and "0.1 GiB" in by["memory"]["finding"], by["memory"]
    assert by["cores"]["state"] == WARNING and "grants 0.5" in by["cores"]["finding"], by["cores"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets what a network namespace allows")
def test_a_kernel_that_lets_few_connections_wait_is_found(tmp_path: Path) -> None:
    """In a network namespace of its own."""
    script = 'echo 64 > /proc/sys/net/core/somaxconn || exit 99; exec "$@"'
    command = [program("unshare"), "-n", "sh", "-c", script, "sh", sys.executable, "-m", "beffroi", "doctor", "--csv"]
    done = subprocess.run([*command, "--data", str(tmp_path / "d")], capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip("no network namespace can be had here")
    assert re.search(r"^kernel,warning,.*only 64 new connections wait", done.stdout, re.MULTILINE), done.stdout


def test_memory_is_judged_by_what_a_start_takes() -> None:
    """A running one has taken it already."""
    judge = machine.judge_memory
    assert [judge(free * MIB, 4, running=False).state for free in (100, 400, 800)] == [PROBLEM, WARNING, OK]
    assert judge(200 * MIB, 4, running=True).state == OK


def test_the_kernel_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two listeners on one port; where that fails, it is a problem."""
    (found,) = machine.kernel(Scene(Path("/")))
    assert found.state in {OK, WARNING}, found
    assert machine.judge_kernel("6.1", [], 128).state == WARNING
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    (found,) = machine.kernel(Scene(Path("/")))
    assert found.state == PROBLEM and "SO_REUSEPORT" in found.finding


def reading(**change: object) -> clock.Reading:
    """A clock that is well, but for `change`."""
    return clock.Reading(time.time(), 0.0, True, 0.01, None)._replace(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({}, OK, "synchronised"),
        ({"synchronised": None}, OK, "does not say"),
        ({"synchronised": False}, WARNING, "nothing keeps it"),
        ({"drift": -3.0}, WARNING, "s back during"),
        ({"drift": 3.0}, WARNING, "s forward during"),
        ({"wall": 1e9}, PROBLEM, "2001-09-09"),
    ],
)
def test_clocks_are_judged(change: dict[str, object], state: str, said: str) -> None:
    """The worst is told."""
    found = clock.judge_clock(reading(**change))
    assert (found.state, said in found.finding) == (state, True), found


def test_a_clock_that_was_set_back_is_found_by_the_files_it_wrote(tmp_path: Path) -> None:
    """For real: a file of the day after tomorrow."""
    file = tmp_path / "keys.bin"
    file.write_bytes(b"")
    (found,) = clock.clock(Scene(tmp_path))
    assert found.state in {OK, WARNING}
    late = time.time() + 2 * 86_400
    os.utime(file, (late, late))
    (found,) = clock.clock(Scene(tmp_path))
    assert found.state == PROBLEM and "keys.bin was written 2 d" in found.finding


def test_a_jump_during_the_examination_is_seen(tmp_path: Path) -> None:
    """Wall time moved a minute while monotonic time did not."""
    (found,) = clock.clock(Scene(tmp_path, began=(time.time() - 60, time.monotonic())))
    assert found.state == WARNING and "1 min forward" in found.finding


def test_a_zone_without_data_is_a_problem(tmp_path: Path) -> None:
    """The default has some."""
    (found,) = clock.zones(Scene(tmp_path, server=Server()))
    assert found.state == OK and "Europe/Paris" in found.finding
    assert clock.judge_zone("Europe/Nowhere").state == PROBLEM
