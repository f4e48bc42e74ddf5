# SPDX-License-Identifier: Apache-2.0
"""Every one-line breakage of the catalogue turns the test red that it names."""

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.run import GREEN, ROOT, copy, every, run_tests


def test_every_mutant_still_fits_the_source() -> None:
    """Its line stands there once, it changes something, and its test exists."""
    for mutant in MUTANTS:
        assert (ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1, f"{mutant.name}: mend the catalogue"
        assert mutant.old != mutant.new
        for node in mutant.test.split():
            file, _, test = node.partition("::")
            assert f"def {test.partition('[')[0]}" in (ROOT / "tests" / file).read_text("utf-8"), (
                f"{mutant.name}: no such test"
            )
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 25


@pytest.mark.mutants
@pytest.mark.timeout(420)
def test_every_mutant_is_noticed() -> None:
    """On a copy of the tree; what is green without the breakage is red with it."""
    with copy() as folder:
        status, said = run_tests(folder, " ".join(sorted({node for mutant in MUTANTS for node in mutant.test.split()})))
        assert status == GREEN, f"the tests are red without any breakage:\n{said}"
    unseen = [f"{verdict.mutant.name}: {verdict.said}" for verdict in every([]) if not verdict.noticed]
    assert unseen == []
