# SPDX-License-Identifier: Apache-2.0
"""The bench judges what it measured: ratios are taken within a round, a missed bound and a missing measure are seen."""

import shutil
import subprocess
from pathlib import Path

import pytest
from benchmarks.gateways import table
from benchmarks.processes import HERE
from benchmarks.rounds import OURS, TLS, Options, Results

from benchmarks import goals, report
from tests.harness import program


def measured(mine: float, nginx: float = 20.0, tree: float | None = None) -> Results:
    """Three rounds of plain in which the machine is one, two and three times as slow."""
    results = Results()
    for slow in (1, 2, 3):
        results.add(
            OURS, "plain", {"cpu_us": mine * slow, "tree_us": (tree or mine) * slow, "errors": 0, "rss_mib": 50.0}
        )
        results.add("nginx", "plain", {"cpu_us": nginx * slow, "errors": 0})
    return results


def verdict(results: Results, what: str, unit: str) -> goals.Verdict:
    """The line of one bound."""
    return next(v for v in goals.verdicts(results) if v.what == what and v.unit == unit)


def test_a_ratio_is_that_of_the_same_round() -> None:
    """A machine that slows down from round to round does not change it."""
    found = verdict(measured(60.0), "plain, workers", "× nginx")
    assert found.figure == pytest.approx(3.0)
    assert found.kept


def test_a_missed_bound_is_said_and_a_missing_measure_is_not_a_success() -> None:
    """False for a miss, None where nothing was measured."""
    results = measured(71.0, tree=95.0)
    assert verdict(results, "plain, workers", "× nginx").kept is False
    assert verdict(results, "plain, whole tree with shipping", "× nginx").kept is False
    assert verdict(results, "paced stream, workers", "× nginx").kept is None


def test_failed_requests_are_never_accepted() -> None:
    """One error in one round is enough."""
    results = measured(60.0)
    results.add(OURS, "burst", {"cpu_us": 50.0, "errors": 1})
    assert verdict(results, "failed requests", "").kept is False


def test_the_report_holds_every_gateway_and_every_bound(tmp_path: Path) -> None:
    """Tables in Markdown, the measures in JSON, what was skipped with its reason."""
    results = measured(60.0)
    results.skipped["vllm-router"] = "not installed"
    results.add(OURS, "tls", {"cpu_us": 100.0})
    results.add(TLS, "tls", {"cpu_us": 130.0})
    options = Options(("plain", "tls"))
    about = {"date": "2026-11-21", "machine": report.machine(), "versions": {"nginx": "1.0"}}
    file = report.write(results, options, about, tmp_path)
    said = (tmp_path / "RESULTS.md").read_text()
    assert file.name.startswith("2026-11-21-")
    assert "| nginx | 40.0 |" in said
    assert "Not measured: vllm-router: not installed" in said
    assert "| **what TLS adds** | 30.0 | – |" in said
    assert all(f"| {v.what} |" in said for v in goals.verdicts(results))


def test_every_row_of_the_table_says_how_it_starts() -> None:
    """Ours and the two that bounds are set against are not optional."""
    rows = table()
    assert {r["name"] for r in rows if not r.get("optional")} == {OURS, goals.NGINX, goals.VLLM}
    assert all("{port}" in r["command"] + str(r.get("files")) and r["note"] for r in rows)


def test_the_c_programs_compile_without_a_warning(tmp_path: Path) -> None:
    """They are small, and nobody else compiles them."""
    compiler = shutil.which("cc") or program("gcc")
    for name in ("mock_engine", "loadgen"):
        done = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(tmp_path / name), str(HERE / f"{name}.c"), "-lm"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
