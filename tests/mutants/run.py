# SPDX-License-Identifier: Apache-2.0
"""Breaks a copy of the source, one line at a time, and sees whether the named test notices.

In: `catalogue.MUTANTS`. Out: for each, whether its test turned red. `python -m tests.mutants.run [words of names]`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
TAKEN = ("native", "src", "tests", "docs/reference", "pyproject.toml")
SECONDS = 120.0
GREEN, RED = 0, 1


class Verdict(NamedTuple):
    """What became of a mutant: `noticed`, or the reason why not."""

    mutant: Mutant
    noticed: bool
    said: str


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of all that the tests need; this checkout is never touched."""
    folder = Path(tempfile.mkdtemp(prefix="bf-mutant-"))
    try:
        for name in TAKEN:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info", ".hypothesis"))
            else:
                shutil.copy2(ROOT / name, folder / name)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_tests(folder: Path, nodes: str) -> tuple[int, str]:
    """Run tests of a copy; → pytest's status, the end of what it said."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", str(SECONDS / 2)]
    # Processes that a test starts must be the copy's too, not those of the checkout that is installed here.
    env = os.environ | {"PYTHONPATH": str(folder / "src"), "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)}
    env["BEFFROI_NATIVE"] = "0"  # the breakages are in Python: the compiled kernel would do right beside them
    done = subprocess.run(
        [*command, *(f"tests/{node}" for node in nodes.split())],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    return done.returncode, (done.stdout + done.stderr)[-1500:]


def judge(mutant: Mutant) -> Verdict:
    """Break a copy and run the mutant's test on it."""
    with copy() as folder:
        path = folder / mutant.file
        text = path.read_text("utf-8")
        found = text.count(mutant.old)
        if found != 1:
            return Verdict(mutant, False, f"the line stands {found} times in {mutant.file}: mend the catalogue")
        path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        try:
            status, said = run_tests(folder, mutant.test)
        except subprocess.TimeoutExpired:
            return Verdict(mutant, True, "its test never ended")
    if status == RED:
        return Verdict(mutant, True, said)
    return Verdict(mutant, False, "its test stays green" if status == GREEN else f"its test did not run: {said}")


def every(wanted: list[str]) -> list[Verdict]:
    """Judge the mutants whose names hold one of the words, as many at a time as there are cores."""
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(judge, chosen))


def main() -> int:
    """Print a line for each; status 1 when one went unnoticed."""
    verdicts = every(sys.argv[1:])
    for verdict in verdicts:
        print(f"{'noticed ' if verdict.noticed else 'UNSEEN  '} {verdict.mutant.name}")
        if not verdict.noticed:
            print(f"          {verdict.said}\n          {verdict.mutant.test}")
    unseen = sum(not verdict.noticed for verdict in verdicts)
    print(f"{len(verdicts)} mutants, {unseen} unseen")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
