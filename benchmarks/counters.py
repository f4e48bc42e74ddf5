# SPDX-License-Identifier: Apache-2.0
"""What the limit counters cost: `PYTHONPATH=src python -m benchmarks.counters`, half a minute.

In: nothing; one key with every limit set, in a file of its own. Out: microseconds of CPU per reserve and settle alone, under
the key's own limits and under quotas of wider scopes, and their distribution when several worker processes use one key or
one each.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from beffroi.core.clock import SystemClock
from beffroi.core.snapshot import Dated, KeyRecord, Limits, QuotaRecord
from beffroi.gateway.quota import Ask, Busy, Estimator, MappedCounters, Used

FULL = Limits(10**9, 10**12, 10**12, 10**12, 10**6, 10**15, 10**15)
ASK, USED = Ask(1000, 200, 8_000_000, 800_000), Used(900, 150, 700_000)
SECONDS = 3.0
# processes, whether they share a key, microseconds of other work between requests
CASES = ((1, True, 0), (2, True, 100), (4, True, 100), (2, False, 100), (2, True, 0), (4, True, 0))


def _key(slot: int, limits: Limits) -> KeyRecord:
    return KeyRecord(f"key_{slot}", "public", b"", 1, slot, limits=limits)


def _time(what: Callable[[], object], times: int = 50_000, rounds: int = 9) -> tuple[float, float]:
    """Best and median CPU microseconds of a call, the call of an empty function taken off."""
    taken: list[float] = []
    for act in (lambda: None, what):
        runs = []
        for _ in range(rounds):
            start = time.process_time()
            for _ in range(times):
                act()
            runs.append((time.process_time() - start) / times * 1e6)
        taken += [min(runs), statistics.median(runs)]
    return taken[2] - taken[0], taken[3] - taken[1]


def _quota(slot: int, limits: Limits = FULL, **scope: Any) -> QuotaRecord:
    return QuotaRecord(f"quo_{slot}", slot, terms=(Dated(0, limits),), **{"organisation": "default", **scope})


def scoped(folder: Path) -> None:
    """The same key under more and more quotas."""
    wide = replace(FULL, monthly_cap=10**15, requests_per_day=10**9, input_tokens_per_day=10**12)
    organisation, project = _quota(1), _quota(2, project="default")
    for name, quotas in (
        ("one quota, of another organisation", [_quota(1, organisation="other")]),
        ("organisation", [organisation]),
        ("organisation, project", [organisation, project]),
        ("organisation, project; more windows", [_quota(1, wide), _quota(2, wide, project="default")]),
        ("organisation, project, model", [organisation, project, _quota(3, model="m")]),
        ("organisation, end user", [organisation, _quota(3, each_end_user=True)]),
    ):
        shared = MappedCounters(folder / f"{name}.bin", worker=0, workers=4, clock=SystemClock())
        shared.know(quotas)
        full = _key(9_999, FULL)
        for act, doing in (
            ("reserve + settle", lambda: shared.settle(shared.reserve(full, "m", "ann", ASK), USED)),  # noqa: B023
            ("  needs", lambda: shared.needs(full, "m")),  # noqa: B023
        ):
            best, median = _time(doing, 20_000)
            print(f"{act}, key and {name:36} best {best:5.2f} us   median {median:5.2f} us", flush=True)
        shared.close()


def alone(path: Path) -> None:
    """One process, nobody beside it."""
    shared, estimator = MappedCounters(path, worker=0, workers=4, clock=SystemClock()), Estimator()
    full, free = _key(9_999, FULL), _key(9_998, Limits())
    estimator.learn("model", 1000, 200, 100)
    with path.open("r+b") as file:
        fd = file.fileno()
        rows: list[tuple[str, Callable[[], object]]] = [
            ("reserve + settle, every limit set", lambda: shared.settle(shared.reserve(full, "m", None, ASK), USED)),
            ("reserve + settle, no limit set", lambda: shared.settle(shared.reserve(free, "m", None, ASK), USED)),
            ("of it: two locks and unlocks", lambda: [lockf(fd, how, 1) for how in (LOCK_EX | LOCK_NB, LOCK_UN) * 2]),
            ("estimate: expect", lambda: estimator.expect("model", 1234, 512)),
            ("estimate: learn", lambda: estimator.learn("model", 1234, 301, 200)),
            ("needs", lambda: shared.needs(full, "m")),
        ]
        for name, act in rows:
            best, median = _time(act)
            print(f"{name:38} best {best:5.2f} us   median {median:5.2f} us", flush=True)


def child(path: Path, worker: int, slot: int, think_us: int) -> None:
    """One worker of several: its latencies, and how often it found the lock held for more than 50 µs."""
    shared, key = MappedCounters(path, worker=worker, workers=4, clock=SystemClock()), _key(slot, FULL)
    clock, end, busy, taken = time.perf_counter_ns, time.monotonic() + SECONDS, 0, []
    while time.monotonic() < end:
        start = clock()
        try:
            ticket = shared.reserve(key, "m", None, ASK)
        except Busy:
            busy += 1
            time.sleep(0.001)
            continue
        shared.settle(ticket, USED)
        taken.append(clock() - start)
        rest = clock() + think_us * 1000
        while clock() < rest:
            pass
    print(json.dumps({"busy": busy, "ns": sorted(taken)[:: max(1, len(taken) // 10_000)], "count": len(taken)}))


def together(folder: Path, processes: int, one_key: bool, think_us: int) -> None:
    """Several workers at once."""
    path = folder / f"{processes}-{one_key}-{think_us}.bin"
    command = [sys.executable, "-m", "benchmarks.counters", str(path)]
    running = [
        subprocess.Popen([*command, str(n), str(0 if one_key else n), str(think_us)], stdout=subprocess.PIPE)
        for n in range(processes)
    ]
    told = [json.loads(each.communicate()[0]) for each in running]
    taken = sorted(ns for each in told for ns in each["ns"])
    count, busy = sum(each["count"] for each in told), sum(each["busy"] for each in told)
    p50, p99 = (taken[int(len(taken) * share)] / 1e3 for share in (0.5, 0.99))
    print(
        f"{processes} processes, {'one key ' if one_key else 'own keys'}, {think_us:3} us between: {count / SECONDS:7.0f}/s"
        f"   p50 {p50:5.1f} us   p99 {p99:6.1f} us   busy {busy / (count + busy):.2%}",
        flush=True,
    )


def main() -> None:
    """All of it, or one child's part."""
    if len(sys.argv) > 1:
        path, *numbers = sys.argv[1:]
        child(Path(path), *(int(each) for each in numbers))
        return
    with tempfile.TemporaryDirectory() as folder:
        alone(Path(folder) / "alone.bin")
        scoped(Path(folder))
        for case in CASES:
            together(Path(folder), *case)


if __name__ == "__main__":
    main()
