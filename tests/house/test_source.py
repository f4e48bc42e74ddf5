# SPDX-License-Identifier: Apache-2.0
"""The rules that keep the house liveable, held over every file of the repository."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.harness import ROOT

SOFT, WALL, SCREEN = 400, 600, 110
# Over the soft budget, each with its reason.
LONG: dict[str, str] = {}
TOLD_OTHERWISE = {"src/beffroi/core/errors.py"}  # a tree in text says more


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git knows or would add; in an unpacked release, every file there is."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("this is no checkout: git knows nothing of it")
    return tuple(path for name in sorted(done.stdout.split("\0")) if name and (path := ROOT / name).is_file())


def python(*folders: str) -> Iterator[Path]:
    """Python files below `folders`."""
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders:
            yield path


def name(path: Path) -> str:
    """A path as people write it."""
    return path.relative_to(ROOT).as_posix()


def text_files() -> Iterator[tuple[Path, str]]:
    """Every tracked file that holds text."""
    for path in tracked():
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    """600 lines is a wall, 400 needs a reason, and flow.py fits one screen."""
    lines = {name(path): path.read_text("utf-8").count("\n") for path in python("src", "tests", "benchmarks")}
    assert {file: count for file, count in lines.items() if count > (WALL if file in LONG else SOFT)} == {}
    assert lines["src/beffroi/gateway/flow.py"] <= SCREEN


def test_every_exception_from_the_budget_is_still_needed() -> None:
    """A file that shrank leaves the list."""
    assert [file for file in LONG if (ROOT / file).read_text("utf-8").count("\n") <= SOFT] == []


def test_every_source_file_says_its_licence_first() -> None:
    """SPDX, on the first line or right after the interpreter's."""
    without = []
    for path in tracked():
        if (
            path.suffix in {".py", ".sh", ".c", ".h"}
            or path.parent.name in {"scripts", ".ci"}
            or path.name == "Makefile"
        ):
            head = path.read_text("utf-8").split("\n")[:2]
            if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
                without.append(name(path))
    assert without == []


def test_every_module_says_what_it_does_what_enters_and_what_leaves() -> None:
    """A module that holds anything opens with a docstring; those of the package name what goes in and out."""
    silent = []
    for path in python("src", "tests", "benchmarks"):
        tree = ast.parse(path.read_text("utf-8"))
        docstring = ast.get_docstring(tree) or ""
        says = "\nIn: " in docstring and re.search(r"\bOut: ", docstring)
        owes = path.is_relative_to(ROOT / "src") and "versions" not in path.parts and name(path) not in TOLD_OTHERWISE
        if tree.body and (not docstring or (owes and not says)):
            silent.append(name(path))
    assert silent == []


def test_no_error_is_caught_blindly() -> None:
    """`except Exception` hides what was not thought of; `except BaseException` may only tidy up and raise again."""
    blind = []
    for path in python("src"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
                caught = (
                    {kind.id if isinstance(kind, ast.Name) else "" for kind in kinds} if node.type else {"Exception"}
                )
                again = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                if "Exception" in caught or ("BaseException" in caught and not again):
                    blind.append(f"{name(path)}:{node.lineno}")
    assert blind == []


def test_importing_a_module_does_nothing() -> None:
    """At the top of a module stand definitions and values, nothing that is run for its effect; and no `global` below."""
    busy = []
    for path in python("src"):
        tree = ast.parse(path.read_text("utf-8"))
        busy += [f"{name(path)}:{node.lineno}" for node in ast.walk(tree) if isinstance(node, ast.Global)]
        if path.name in {"__main__.py", "env.py"}:  # run, not imported
            continue
        for node in tree.body:
            called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
            if called or isinstance(node, ast.For | ast.While | ast.With):
                busy.append(f"{name(path)}:{node.lineno}")
    assert busy == []


def test_nothing_is_left_to_do_later() -> None:
    """No reminders, no code that is switched off by a comment."""
    word = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
    for path, text in text_files():
        if path.suffix in {".py", ".md", ".c", ".sh", ".toml"} and "recipes" not in path.parts:
            found = word.search(text)
            assert found is None, f"{name(path)}: {found[0] if found else ''}"


def test_no_place_of_a_package_registry_is_named() -> None:
    """Where packages come from is the affair of whoever installs them."""
    hosts = re.compile(  # each with a letter in brackets, so that this line is not one of them
        r"py[p]i\.org|python[h]osted|npm[j]s\.|deb\.[d]ebian\.org|/opt/(?:wheels|py[p]i)|index[-_][u]rl\s*=",
        re.IGNORECASE,
    )
    for path, text in text_files():
        found = hosts.search(text)
        assert found is None, f"{name(path)}: {found[0] if found else ''}"


def test_no_secret_lies_in_the_repository() -> None:
    """No private key, no API key that is one by its checksum, outside of tests."""
    key = re.compile(r"bf-[0-9A-Za-z]{12}-[0-9A-Za-z]{38}")
    for path, text in text_files():
        if "tests" not in path.relative_to(ROOT).parts:
            assert key.search(text) is None, f"{name(path)} holds an API key"
            assert "PRIVATE KEY-----" not in text, f"{name(path)} holds a private key"


def test_only_the_store_opens_a_database() -> None:
    """Everything else is handed an engine."""
    opens = re.compile(r"\bcreate_engine\b|\bsqlite3\b")
    for path in python("src"):
        if not path.is_relative_to(ROOT / "src/beffroi/store"):
            found = opens.search(path.read_text("utf-8"))
            assert found is None, f"{name(path)}: {found[0] if found else ''}"


def test_only_the_logs_room_makes_loggers() -> None:
    """What is logged goes through the net that takes secrets out; and a logging library costs each process its start."""
    makes = re.compile(r"\bgetLogger\b|\bstructlog\b|^import logging|from logging import", re.MULTILINE)
    for path in python("src"):
        if not path.is_relative_to(ROOT / "src/beffroi/telemetry"):
            found = makes.search(path.read_text("utf-8"))
            assert found is None, f"{name(path)}: {found[0] if found else ''}; use beffroi.telemetry.logs.Logger"


def test_the_import_contracts_hold() -> None:
    """As `pyproject.toml` writes them down."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_every_package_of_the_source_holds_something() -> None:
    """A folder is born with its first working code."""
    for package in {path.parent for path in python("src")}:
        held = [path for path in python("src") if path.is_relative_to(package) and path.name != "__init__.py"]
        assert held, f"{name(package)} is empty"
