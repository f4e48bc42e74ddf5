# SPDX-License-Identifier: Apache-2.0
"""Two hundred broken configurations: each is told with file, line and remedy, and none starts a server."""

import collections
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from beffroi.config.examine import examine
from beffroi.config.load import load
from beffroi.config.problems import Problem
from tests.config.mutations import KINDS, Mutation, mutations
from tests.config.valid import CANARY, ENVIRON, TOML, YAML
from tests.harness import ROOT

COUNT, SEED = 200, 4
REALLY_SERVED = ("typo", "type", "reference", "syntax", "twice", "missing")


def written(folder: Path, mutation: Mutation) -> Path:
    """The file of a mutation."""
    path = folder / ("beffroi.toml" if mutation.toml else "beffroi.yaml")
    path.write_bytes(mutation.content)
    return path


def shown(mutation: Mutation, problems: list[Problem]) -> str:
    """For whoever reads a failure."""
    lines = mutation.content.decode("utf-8", "replace").splitlines()
    around = "\n".join(
        f"{n + 1:4} {lines[n]}" for n in range(max(0, mutation.line - 3), min(len(lines), mutation.line + 2))
    )
    return f"{mutation.kind}, line {mutation.line}:\n{around}\n" + "\n".join(map(str, problems))


@pytest.mark.parametrize(("text", "name"), [(YAML, "b.yaml"), (TOML, "b.toml")])
def test_the_files_that_are_broken_below_are_valid(folder: Path, text: str, name: str) -> None:
    """Else breaking them would show nothing; and they say the same."""
    (folder / name).write_text(text)
    assert examine(folder / name, ENVIRON).problems == []
    (folder / "c.yaml").write_text(YAML)
    assert load(folder / name, ENVIRON).document == load(folder / "c.yaml", ENVIRON).document


def test_two_hundred_broken_files_are_each_told_with_file_line_and_remedy(folder: Path) -> None:
    """At the line that was broken, with the right name where one was misspelt, and without the secret."""
    made = mutations(COUNT, SEED)
    kinds = collections.Counter(mutation.kind for mutation in made)
    assert len(made) == COUNT and kinds.keys() == KINDS.keys() and min(kinds.values()) >= 5, kinds
    assert {mutation.toml for mutation in made} == {True, False}
    for mutation in made:
        path = written(folder, mutation)
        problems = examine(path, ENVIRON).problems
        said = shown(mutation, problems)
        assert problems, f"a broken file was taken: {said}"
        for problem in problems:
            assert problem.spot.name == str(path) and problem.spot.line >= 1 and problem.remedy, said
        near = range(mutation.line, mutation.line + mutation.slack + 1)
        told = [problem for problem in problems if problem.spot.line in near]
        assert told, said
        assert any(mutation.named in str(problem) for problem in told), said
        assert CANARY not in "".join(map(str, problems)), said


def test_few_faults_are_told_for_one_break(folder: Path) -> None:
    """What follows from a fault that is told is not told as well: an operator who mends one line is mostly done."""
    counts = [len(examine(written(folder, mutation), ENVIRON).problems) for mutation in mutations(COUNT, SEED)]
    assert sum(count == 1 for count in counts) >= 0.9 * COUNT
    assert max(counts) <= 4


def test_two_breaks_are_two_faults(folder: Path) -> None:
    """Whatever stands in one part hides nothing in another: form in the first, sense in the second."""
    lines = YAML.replace("  port: 8400", "  prot: 8400").replace("engine: gpu1", "engine: gpu3")
    (folder / "beffroi.yaml").write_text(lines)
    names = [problem.name for problem in examine(folder / "beffroi.yaml", ENVIRON).problems]
    assert names == ["server.prot", "resources.models[0].targets[0].engine"]


@pytest.mark.parametrize("kind", REALLY_SERVED)
def test_serve_starts_nothing_from_a_broken_file(folder: Path, kind: str) -> None:
    """The same sentences on standard error, status 2, and not even a data directory is left."""
    mutation = next(one for one in mutations(COUNT, SEED) if one.kind == kind)
    path = written(folder, mutation)
    done = subprocess.run(
        [sys.executable, "-m", "beffroi", "serve", "--config", str(path), "--data", str(folder / "data")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | ENVIRON | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    for problem in examine(path, ENVIRON).problems:
        assert f"{problem.spot}: " in done.stderr
        assert problem.message in done.stderr and problem.remedy in done.stderr
    assert "Nothing was started" in done.stderr and "Traceback" not in done.stderr and CANARY not in done.stderr
    assert not (folder / "data").exists()


def test_nothing_that_was_broken_at_random_stops_the_reader(folder: Path) -> None:
    """Cut anywhere, with lines swapped and signs changed: a file is taken or refused, never a crash."""
    taken = 0
    for seed in range(300):
        path = written(folder, scrambled(seed))
        problems = examine(path, ENVIRON).problems
        assert all(problem.remedy for problem in problems), problems
        taken += not problems
    assert 0 < taken < 300


def scrambled(seed: int) -> Mutation:
    """Bytes that were a configuration once."""
    rng = random.Random(seed)
    toml = rng.random() < 0.5
    text = bytearray((TOML if toml else YAML).encode())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text))
        if rng.random() < 0.3:
            del text[at : at + rng.randrange(1, 30)]
        elif rng.random() < 0.5:
            text[at] = rng.choice(b"[]{}:,'\"#-= \n\t&*!|>%@`0aZ\x80")
        else:
            text[at:at] = text[rng.randrange(len(text)) :][:20]
    return Mutation("scrambled", bytes(text), toml, 1)
